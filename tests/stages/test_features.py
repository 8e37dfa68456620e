"""Features are what the head of a classifier reads of the pretrained encoder; without weights there are none."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stages import features
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_input
from vitpipe.models.classifier import Classifier
from vitpipe.models.pretrained import Pretrained, write_pretrained
from vitpipe.models.vit import ViT
from vitpipe.training import compute

ROOT = Path(__file__).parents[2]
SIZES = {"patch": 4, "dim": 24, "depth": 2, "heads": 3}
ENCODER = SIZES | {"channels": 3, "class_token": True, "registers": 2, "pool_norm": True}
ENCODER |= {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
WEIGHTS = {"model.weights": "some.safetensors", "model.conv_channels": 0, "model.conv_blocks": 0}
WEIGHTS |= dict.fromkeys(f"model.{name}" for name in SIZES)
FILES = ["test.npy", "train.npy", "val.npy"]


@pytest.fixture
def encoder(packed, monkeypatch) -> ViT:
    """An encoder that the stage finds; every tensor of it is random. It runs in evaluation mode only."""
    torch.manual_seed(0)
    made = ViT(**ENCODER, size=12).eval()
    made.load_state_dict({name: torch.randn_like(tensor) / 3 for name, tensor in made.state_dict().items()})
    pretrained = Pretrained(ENCODER, (12, 12), made.state_dict(), (), "a test", "ours")
    write_pretrained(packed.parent / "weights/encoder.safetensors", pretrained)
    pooled = Classifier.pooled

    def evaluated(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return pooled(self, images)

    monkeypatch.setattr(Classifier, "pooled", evaluated)
    monkeypatch.chdir(packed.parents[1])
    return made


@pytest.fixture
def made(packed, settings, monkeypatch) -> Callable[..., list[str]]:
    """Runs the stage in this process: `made("classify", **{"model.pool": "avg"})`; returns the files that it left."""
    monkeypatch.chdir(packed.parents[1])

    def run(task: str, **changes: object) -> list[str]:
        features.main(settings(task, **changes))
        return sorted(path.name for path in (packed.parent / "features").iterdir())

    return run


@pytest.mark.parametrize("pool", ["token", "avg"])
@torch.no_grad()
def test_row_i_is_what_the_encoder_makes_of_image_i(encoder, made, packed, pool):
    assert made("classify", **WEIGHTS, **{"model.pool": pool, "train.drop_path": 0.9, "train.dropout": 0.9}) == FILES
    for part, count in (("train", 40), ("val", 8), ("test", 12)):
        dataset, found = PackedDataset(packed / part), np.load(packed.parent / f"features/{part}.npy")
        assert (found.shape, found.dtype) == ((count, 24), np.float32)
        for row in (0, 3, count - 1):
            images = to_input(dataset.images("lr", np.array([row])), torch.device("cpu"))
            expected = encoder.pool(encoder(images), pool)[0].numpy()
            np.testing.assert_allclose(found[row], expected, atol=1e-5)
            np.testing.assert_array_equal(dataset.images("features", np.array([row]))[0], found[row])
        assert np.ptp(found, axis=0).max() > 0.1  # images differ


def test_matrix_products_have_the_precision_of_the_settings(encoder, made, packed):
    found = []
    for precision in ("float32", "bfloat16"):
        made("classify", **WEIGHTS, **{"train.precision": precision})
        found.append(np.load(packed.parent / "features/test.npy"))
    error = np.abs(found[1] - found[0]).max() / np.abs(found[0]).max()
    assert 1e-4 < error < 0.1


def test_a_part_is_written_batch_by_batch(encoder, made, packed, monkeypatch):
    made("classify", **WEIGHTS)
    whole = np.load(packed.parent / "features/train.npy")
    monkeypatch.setattr("vitpipe.data.batches.SCORED_IMAGES", 3)
    made("classify", **WEIGHTS)
    np.testing.assert_allclose(np.load(packed.parent / "features/train.npy"), whole, atol=1e-5)


@pytest.mark.parametrize("task", ["classify", "supersample"])
def test_without_weights_there_is_a_marker_and_nothing_of_before(encoder, made, task):
    assert made("classify", **WEIGHTS) == FILES
    assert made(task) == ["none.json"]


def test_a_task_that_reads_all_tokens_needs_no_features(encoder, made):
    assert made("supersample", **WEIGHTS) == ["none.json"]


def test_a_failure_keeps_what_was_there(encoder, made, packed, monkeypatch):
    made("classify", **WEIGHTS)
    before = (packed.parent / "features/test.npy").read_bytes()
    (packed / "val/samples.csv").unlink()
    with pytest.raises(Exception, match="val holds no packed images"):
        made("classify", **WEIGHTS, **{"model.pool": "avg"})
    assert (packed.parent / "features/test.npy").read_bytes() == before
    assert not (packed.parent / "features.tmp").exists()


def test_device_is_that_of_the_settings(encoder, made, monkeypatch):
    monkeypatch.setattr(compute.torch.cuda, "is_available", lambda: False)
    with pytest.raises(Exception, match=r"train\.device is 'cuda', but torch finds no CUDA device"):
        made("classify", **WEIGHTS, **{"train.device": "cuda"})


def test_without_weights_torch_is_not_imported(tmp_path, params):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params()), encoding="utf-8")
    code = "import sys; from stages.features import main; from vitpipe.config import load_settings; "
    code += "main(load_settings()); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data/features/none.json").exists()
