"""Training that begins with pretrained weights: all of the model, its head alone, or nothing of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from stages import train
from vitpipe.data.batches import shuffled
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import normalize
from vitpipe.errors import InputError
from vitpipe.models.pretrained import Pretrained
from vitpipe.models.vit import ViT
from vitpipe.predictor import load_model
from vitpipe.tasks import training_task
from vitpipe.training import checkpoint, loop
from vitpipe.training.checkpoint import Resume, read_metadata
from vitpipe.training.compute import Compute
from vitpipe.training.loop import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")
ENCODER = {"patch": 6, "channels": 3, "dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "class_token": True}
ENCODER |= {"layer_scale": True, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}
OPEN = {"data.scale": 1, "model.weights": "vit.npz", "model.conv_channels": 0, "model.conv_blocks": 0}
OPEN |= dict.fromkeys(("model.patch", "model.dim", "model.depth", "model.heads"), None)
PROBE = OPEN | {"train.freeze": "encoder", "train.flip": False}
CPU = torch.device("cpu")


@pytest.fixture
def pretrained(monkeypatch):
    """An encoder with scrambled weights, as `vitpipe.models.pretrained` gives it."""
    torch.manual_seed(7)
    encoder = ViT(size=24, **ENCODER)
    for weight in encoder.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    made = Pretrained(ENCODER, (24, 24), encoder.state_dict(), (), "a test", "ours")
    monkeypatch.setattr("vitpipe.models.pretrained.read_pretrained", lambda path: made)
    return made


@pytest.fixture
def tune(labelled, settings, pretrained):
    """A run that begins with the weights: `tune(**OPEN)`."""

    def make(**changes: object) -> Trainer:
        made = settings("classify", **changes)
        parts = [PackedDataset(labelled / part, made.target) for part in ("train", "val")]
        task = training_task(made, parts[0].classes, pretrained.encoder)
        return Trainer(task, *parts, Compute(CPU, torch.float32), pretrained=pretrained)

    return make


@pytest.fixture
def features(labelled, pretrained, monkeypatch):
    """What the encoder makes of the images of each part; `PackedDataset` then has it."""
    encoder, images, found = ViT(size=24, **ENCODER).eval(), PackedDataset.images, {}
    encoder.load_state_dict(pretrained.tensors)
    for part in ("train", "val"):
        dataset = PackedDataset(labelled / part)
        pixels = torch.from_numpy(dataset.images("hr", np.arange(len(dataset)))).permute(0, 3, 1, 2)
        with torch.inference_mode():
            found[part] = encoder.pool(encoder(normalize(pixels)), "token").numpy()

    def read(self, name, rows):
        return found[self.folder.name][rows] if name == "features" else images(self, name, rows)

    monkeypatch.setattr(PackedDataset, "images", read)
    return found


def test_without_epochs_the_file_holds_the_weights_and_all_that_builds_the_model(tune, finished, pretrained, settings):
    changes = OPEN | {"train.epochs": 0}
    path = finished(tune(**changes), "none") / "model.safetensors"
    assert read_metadata(path)["encoder"] == ENCODER
    for made in (None, settings("classify", **changes)):
        _, model = load_model(path, made)
        found = model.encoder.state_dict()
        assert found.keys() == pretrained.tensors.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in pretrained.tensors.items())
        assert not model.head.weight.any()
    with pytest.raises(InputError, match="other model settings"):
        load_model(path, settings("classify", **changes | {"model.weights": "another.npz"}))


def test_fine_tuning_changes_every_weight(tune, pretrained):
    run = tune(**OPEN | {"train.lr": 0.01, "train.layer_decay": 0.5, "train.drop_path": 0.1})
    for batch in list(shuffled(run.train, 8, CPU, seed=0, epoch=0, flip=False))[:2]:
        run.training_step(batch)
    found = run.model.encoder.state_dict()
    same = [name for name, tensor in pretrained.tensors.items() if torch.equal(found[name], tensor)]
    assert not same, "the head is zero in the first step alone"


def test_a_probe_learns_the_head_alone_and_saves_the_whole_model(tune, features, finished, pretrained, monkeypatch):
    changes = {"train.epochs": 30, "train.lr": 0.05, "train.warmup": 0.0, "train.ema": 0.5, "train.average": "best3"}
    run = tune(**PROBE | changes)
    with monkeypatch.context() as patch:
        patch.setattr(ViT, "forward", None)  # no image is looked at again
        folder = finished(run, "probe")
    assert all(part.keys() == {"weight", "bias"} for part in run.state()["parts"][:2])
    curve = pd.read_csv(folder / "curve.csv")
    assert curve["train_loss"].iloc[-1] < 0.9 * curve["train_loss"][0]
    for path in [folder / "model.safetensors", *sorted((folder / "parts").iterdir())]:
        task, model = load_model(path)
        tensors = model.encoder.state_dict()
        assert all(torch.equal(tensors[name], tensor) for name, tensor in pretrained.tensors.items())
        with torch.inference_mode():
            logits = model(normalize(torch.from_numpy(run.val.images("hr", np.arange(8))).permute(0, 3, 1, 2)))
        actual, told = torch.tensor(run.val.labels), read_metadata(path)
        assert float((logits.argmax(1) == actual).float().mean()) == pytest.approx(told["val_accuracy"])
        if path.parent.name == "parts":
            row = curve.set_index("epoch").loc[told["epoch"]]
            assert float(F.cross_entropy(logits, actual)) == pytest.approx(row["val_loss"], rel=1e-4)
            assert task.classes == ("not odd", "odd")


def test_a_step_of_a_probe_is_computed_by_hand(tune, features):
    changes = {"train.optimizer": "sgd", "train.lr": 0.1, "train.clip": 1e9, "train.warmup": 0.0, "train.ema": 0.0}
    run = tune(**PROBE | changes)
    batch = next(shuffled(run.train, 8, CPU, seed=0, epoch=0, flip=False))
    error = 0.5 - F.one_hot(torch.from_numpy(run.train.labels[batch.rows]), 2).float()  # of the head that is zero
    run.training_step(batch)
    expected = -0.1 * error.T @ torch.from_numpy(features["train"][batch.rows]) / 8
    torch.testing.assert_close(run.model.head.weight.detach(), expected)
    torch.testing.assert_close(run.ema_model.head.weight, expected)


@pytest.mark.parametrize("changes", [PROBE, OPEN | {"train.layer_decay": 0.7, "train.average": "best3"}])
def test_stopped_and_started_again_ends_the_same(tune, features, finished, tmp_path, monkeypatch, changes):
    whole = finished(tune(**changes), "whole")
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    stopped, step = tune(**changes), Trainer.training_step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", lambda self, b: step(self, b) if self.step < 7 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stopped.run(Resume(tmp_path / "again" / "scratch"))
    again = finished(tune(**changes), "again")
    for name in ("model.safetensors", "curve.csv"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_the_state_belongs_to_the_weights_and_to_the_features(labelled, settings, pretrained, tmp_path, monkeypatch):
    class Found(Exception):
        pass

    def found(_, digests, compute):
        raise Found(*digests)

    monkeypatch.setattr(checkpoint, "resume_folder", found)
    monkeypatch.chdir(tmp_path)
    weights = Path("data/weights/encoder.safetensors")
    files = [weights, Path("data/features/train.npy"), Path("data/features/val.npy")]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a")
    Path("data/packed").symlink_to(labelled)

    def digests(changes) -> tuple[str, ...]:
        with pytest.raises(Found) as caught:
            train.main(settings("classify", **changes))
        return caught.value.args

    for changes, read in ((OPEN, [weights]), (PROBE, files)):
        before = digests(changes)
        for path in files:
            path.write_bytes(b"b")
            assert (digests(changes) != before) is (path in read), path
            path.write_bytes(b"a")
