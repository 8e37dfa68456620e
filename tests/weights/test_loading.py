"""Sources that are named, our own files, and what is refused in one line."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vitpipe
from vitpipe.errors import InputError
from vitpipe.models.classifier import Classifier
from vitpipe.models.hybrid import import_timm
from vitpipe.models.pretrained import load_into, read_pretrained, start_from, write_pretrained
from vitpipe.sources.torchvision import import_torchvision
from vitpipe.tasks import training_task
from vitpipe.training.checkpoint import save_weights
from vitpipe.weights import registries
from vitpipe.weights.agreement import check_agreement
from vitpipe.weights.loading import read_source
from vitpipe.weights.registries import from_torchvision, read_timm

from .conftest import refusal, scramble
from .test_families import IMAGENET, assert_equal, standardised


@pytest.mark.parametrize("task", ["supersample", "classify"])
@pytest.mark.parametrize("position", ["learned", "sincos", "none"])
def test_our_own_file(tmp_path, settings, task, position):
    """The encoder, and the convolutions before it, of a model that was trained here."""
    own = settings(task, **{"model.position": position, "model.place": True, "model.mlp_ratio": 1.7})
    model: Any = scramble(training_task(own, ("0", "1")).build())
    save_weights(tmp_path / "model.safetensors", model.state_dict(), {"settings": own.model_dump(), "classes": [0, 1]})
    write_pretrained(tmp_path / "encoder.safetensors", read_source(tmp_path / "model.safetensors"))
    made = read_pretrained(tmp_path / "encoder.safetensors")
    check_agreement(own, made)
    assert made.size == (12, 12)
    assert all(not name.startswith(("encoder.", "stem.")) for name in made.dropped)
    assert len(made.dropped) + len(made.tensors) == len(model.state_dict())
    other: Any = training_task(own, ("0", "1"), made.encoder).build().eval()
    start_from(other, made)
    shown = torch.randn(2, 3, 12, 12)
    assert torch.equal(other.forward_features(shown).patches, model.forward_features(shown).patches)
    with pytest.raises(InputError, match="has convolutions before its encoder"):
        vitpipe.load_encoder(tmp_path / "model.safetensors")


def test_an_encoder_goes_from_source_to_file_to_model_and_on(timm_vit, images, file, tmp_path, settings):
    """Pre-trained elsewhere, fine-tuned here at another size, and the model that came of it as the next source."""
    write_pretrained(tmp_path / "encoder.safetensors", read_source(file()))
    made = read_pretrained(tmp_path / "encoder.safetensors")
    assert made.sha256 == read_source(file()).sha256
    assert made.dropped == ("head.bias", "head.weight")
    sizes = dict.fromkeys(("patch", "dim", "depth", "heads", "mlp_ratio", "position", "proj", "qkv_bias", "final_norm"))
    changes = {f"model.{key}": value for key, value in sizes.items()}
    changes |= {"model.weights": "a.safetensors", "model.conv_channels": 0, "model.conv_blocks": 0}
    own = settings("classify", **changes, **{"data.size": 48, "data.scale": 1})
    check_agreement(own, made)
    model: Any = training_task(own, ("0", "1"), made.encoder).build().eval()
    load_into(model.encoder, made)
    assert model.encoder.grid == (6, 6)
    with torch.no_grad():
        expected = timm_vit(dynamic_img_size=True).forward_features(images(48, 48))
    assert_equal(model.encoder, images(48, 48), expected)
    metadata = {"settings": own.model_dump(), "classes": [0, 1], "encoder": made.encoder}
    save_weights(tmp_path / "model.safetensors", model.state_dict(), metadata)
    assert_equal(vitpipe.load_encoder(tmp_path / "model.safetensors"), images(48, 48), expected)


def test_equal_content_gives_equal_bytes(file, tmp_path):
    for name in ("one", "two"):
        write_pretrained(tmp_path / name, read_source(file()))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_timm_by_name_with_what_its_objects_say(timm_vit, images):
    """Other heads, eps and activation than the names tell, oblong images."""
    layers = import_module("timm.layers")
    norm = import_module("functools").partial(torch.nn.LayerNorm, eps=1e-3)
    model = timm_vit(img_size=(32, 48), num_heads=4, act_layer=layers.QuickGELU, norm_layer=norm)
    model.pretrained_cfg = {"mean": IMAGENET[0], "std": IMAGENET[1]}
    made = read_timm(model, "tiny")
    assert made.size == (32, 48)
    encoder = vitpipe.models.vit.ViT(size=made.size, **made.encoder).eval()
    load_into(encoder, made)
    with torch.no_grad():
        expected = model.forward_features(standardised(images(32, 48), IMAGENET))
    assert_equal(encoder, images(32, 48), expected)


def test_a_hybrid_of_timm(images, settings):
    """Classifier, ResNet included: the same tokens as timm."""
    name = "vit_tiny_r_s16_p8_224"
    model = scramble(import_timm().create_model(name, img_size=64, depth=2, num_classes=3, pretrained=False))
    made = read_timm(model, name)
    assert made.size == (64, 64)
    changes = {"model.conv_channels": 0, "model.conv_blocks": 0, "data.size": 64, "data.scale": 1}
    shape = {f"model.{key}": None for key in ("patch", "dim", "depth", "heads", "mlp_ratio")}
    own = settings("classify", **changes, **shape, **{"model.weights": f"timm/{name}"})
    check_agreement(own, made)
    classifier = Classifier(own.model, size=64, classes=3, encoder=made.encoder).eval()
    start_from(classifier, made)
    assert classifier.encoder.pixels == 32
    with torch.no_grad():
        expected = model.forward_features(images(64, 64))
        features = classifier.forward_features(images(64, 64))
        found = torch.cat([features.prefix, features.patches.flatten(1, 2)], dim=1)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    with pytest.raises(InputError, match="must divide the input size 48"):
        check_agreement(settings("classify", **changes | {"data.size": 48}, **shape, **{"model.weights": "x"}), made)


@pytest.mark.parametrize(("name", "told"), [("vit_b_16", False), ("vit_b_16_swag", True), ("vit_h_14", True)])
def test_torchvision_by_name(monkeypatch, capsys, tmp_path, name, told):
    """With the heads of its model, and the licence of SWAG."""
    import_torchvision()
    module = import_module("torchvision.models.vision_transformer")
    sizes = {"num_layers": 1, "hidden_dim": 1280 if "h_14" in name else 768, "mlp_dim": 8}
    model = module.VisionTransformer(image_size=32, patch_size=16, num_heads=16, **sizes)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    urls = []
    monkeypatch.setattr(registries, "downloaded", lambda url: urls.append(url) or tmp_path / "a.pth")
    made = from_torchvision(name)
    assert made.encoder["heads"] == (16 if "h_14" in name else 12)
    assert made.encoder["mean"] == IMAGENET[0]
    assert made.sha256
    assert ("swag" in urls[0]) is told
    assert ("non-commercial" in capsys.readouterr().err) is told


class Payload:
    """A pickle that runs code when it is read: it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pth", "npz"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, kind):
    path, payload = tmp_path / f"evil.{kind}", Payload(tmp_path / "ran")
    if kind == "pth":
        torch.save({"patch_embed.proj.weight": torch.ones(1), "payload": payload}, path)
    else:
        np.savez(path, a=np.array([payload], dtype=object))
    assert f"evil.{kind}" in (told := refusal(str(path)))
    assert "more than" in told
    assert not payload.path.exists()
    torch.load(path, weights_only=False) if kind == "pth" else np.load(path, allow_pickle=True)["a"]
    assert payload.path.exists()  # it runs where code is allowed to


def test_weights_of_other_families_and_no_weights(tmp_path):
    import_torchvision()
    resnet = import_module("torchvision.models").resnet18(num_classes=2)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    assert "no Vision Transformer" in refusal(str(tmp_path / "resnet.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    assert "must hold tensors by name" in refusal(str(tmp_path / "list.pth"))
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    assert "no weights file that is known" in refusal(str(tmp_path / "a.txt"))
    assert "no such file" in refusal(str(tmp_path / "nothing.pth"))
    assert "which is no path here" in refusal("~nobodyxyz/a.pth")
    assert "vit_b_16, vit_b_32" in refusal("torchvision/resnet18")
    assert "has the weights" in refusal("torchvision/vit_b_32_swag")


def test_models_of_timm_that_are_no_plain_vit(timm_vit):
    timm, kinds = import_timm(), import_module("timm.models.vision_transformer")
    for model in (timm.create_model("resnet18"), timm_vit(block_fn=kinds.ResPostBlock)):
        with pytest.raises(InputError, match="no plain Vision Transformer"):
            read_timm(model, "name")
    with pytest.raises(InputError, match="activation ReLU"):
        read_timm(timm_vit(act_layer=torch.nn.ReLU), "name")


def test_without_network_and_without_timm(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", offline)
    assert "vit_b_16-c867db91.pth failed (Name or service not known)" in refusal("torchvision/vit_b_16")
    monkeypatch.setattr(import_timm(), "create_model", offline)
    assert "timm gives no weights of vit_tiny (Name or service" in refusal("timm/vit_tiny")
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "pip install timm" in refusal("timm/vit_tiny")


PURE = {"model.conv_channels": 0, "model.conv_blocks": 0, "data.size": 48, "data.scale": 1}
PURE |= {f"model.{key}": None for key in ("patch", "dim", "depth", "heads", "mlp_ratio", "position", "proj")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"model.patch": 8, "model.dim": 128, "model.depth": 2, "model.heads": 2, "model.mlp_ratio": 4}, None),
        ({"model.depth": 3}, "model.depth is 3, but {} has 2: use 2 or null"),
        ({"model.heads": 4}, None),
        ({"model.mlp_ratio": 2.0}, "model.mlp_ratio is 2.0, but {} has 4.0"),
        ({"model.position": "sincos"}, "model.position is sincos, but {} has learned"),
        ({"model.qkv_bias": False}, "model.qkv_bias is False, but {} has true"),
        ({"model.place": True}, "model.place is True, but {} has false: use false"),
        ({"data.size": 36}, "the patch 8 of {} must divide the input size 36"),
        ({"data.size": 8}, "into 2x2 or more: use a data.size such as 16"),
        ({"model.conv_channels": 4}, "model.conv_channels is 4, but the encoder of {} takes 3 channels: use 0"),
        ({"model.in_chans": 1}, "model.in_chans is 1, but the encoder of {} takes 3 channels: use 3"),
    ],
)
def test_settings_may_not_contradict(settings, file, changes, message):
    own = settings("classify", **PURE | {"model.weights": "a"} | changes)
    made = read_source(file(), own.model.heads)
    if message is None:
        check_agreement(own, made)
        return
    with pytest.raises(InputError) as caught:
        check_agreement(own, made)
    assert message.format(made.source) in str(caught.value)


def test_the_stage(stage, tmp_path, file):
    weights = file()
    done = stage("weights", task="classify", **PURE | {"model.weights": "a.safetensors"})
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "data" / "weights"
    assert [path.name for path in folder.iterdir()] == ["encoder.safetensors"]
    assert read_pretrained(folder / "encoder.safetensors").sha256 == read_source(weights).sha256


def test_the_stage_without_weights_and_in_a_copy_by_dvc(stage, tmp_path, file, monkeypatch):
    assert stage("weights").returncode == 0
    assert [path.name for path in (tmp_path / "data" / "weights").iterdir()] == ["none.json"]
    file()
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "temp"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert read_source("a.safetensors").encoder["depth"] == 2
