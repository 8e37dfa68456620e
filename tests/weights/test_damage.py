"""Damaged weights, and files whose names and tensors do not fit, are refused in one line."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vitpipe.errors import InputError
from vitpipe.models.hybrid import import_timm
from vitpipe.models.pretrained import KEY, write_pretrained
from vitpipe.tasks import training_task
from vitpipe.training.checkpoint import save_weights
from vitpipe.weights.conversion import convert
from vitpipe.weights.flax import from_flax
from vitpipe.weights.loading import read_source
from vitpipe.weights.registries import check_connection

from .conftest import refusal
from .test_families import CASES, IMAGENET, flax_arrays


@pytest.mark.parametrize("kind", ["safetensors", "pth", "old.pth", "npz"])
def test_truncated_files(timm_vit, tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    state = timm_vit(depth=1).state_dict()
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "pth")
    whole = path.read_bytes()
    for length in [*range(0, 3000, 37), *range(3000, len(whole), len(whole) // 40)]:
        path.write_bytes(whole[:length])
        assert str(path) in refusal(str(path))


@pytest.mark.parametrize("name", ["timm", "Google", *CASES])
def test_any_missing_tensor_is_named(timm_vit, name):
    """But biases of queries, keys and values, and LayerScale, where all or none of the blocks have it."""
    if name in CASES:
        changes, rename, *_ = CASES[name]
        model = timm_vit(**{key: value for key, value in changes.items() if key != "act_layer"})
        tensors = rename(dict(model.state_dict()))
        tensors = tensors.get("model", tensors)
    else:
        tensors = dict(timm_vit().state_dict())
        if name == "Google":
            arrays = flax_arrays(tensors, True)
            tensors, _ = from_flax({key: torch.from_numpy(array) for key, array in arrays.items()})
    made = convert(dict(tensors), "S")
    used = [key for key in tensors if key not in made.dropped]
    assert len(used) > 20
    for key in used:
        with pytest.raises(InputError, match=r"^S "):
            convert({other: tensor for other, tensor in tensors.items() if other != key}, "S")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks.0.attn.q_norm.weight": torch.ones(64)}, "blocks.0.attn.q_norm.weight"),
        ({"rope": torch.ones(64), "more": torch.ones(2)}, "(and 1 more)"),
        ({"norm.bias": None}, "lacks norm.bias"),
        ({"norm.weight": None, "norm.bias": None}, "lacks norm.weight"),
        ({"blocks.1.mlp.fc1.bias": None}, "lacks blocks.1.mlp.0.bias"),
        ({"blocks.0.mlp.fc2.weight": None}, "lacks blocks.0.mlp.2.weight"),
        ({"blocks.3.norm1.weight": torch.ones(128)}, "lacks blocks.2, but has blocks.3"),
        ({"blocks.0.norm1.weight": torch.ones(64)}, "blocks.0.norm1.weight of shape (64,)"),
        ({"pos_embed": torch.ones(1, 15, 128)}, "15 positions"),
        ({"patch_embed.proj.weight": torch.ones(128, 3, 8, 4)}, "must be squares"),
        ({"patch_embed.backbone.stem.conv.weight": torch.ones(3)}, "timm/NAME"),
        ({"student.patch_embed.proj.weight": torch.ones(3), "student.pos_embed": torch.ones(3)}, "several encoders"),
    ],
)
def test_other_tensors_than_a_vit_has(file, changes, message):
    assert message in refusal(file(changes))


def test_a_wrong_depth_and_other_heads(file, tmp_path, timm_vit):
    whole = timm_vit(depth=3).state_dict()
    save_file({k: t for k, t in whole.items() if not k.startswith("blocks.1.")}, tmp_path / "b.safetensors")
    assert "lacks blocks.1, but has blocks.2" in refusal(str(tmp_path / "b.safetensors"))
    assert "must divide" in refusal(file(), heads=3)
    save_file(timm_vit(embed_dim=96, num_heads=3).state_dict(), tmp_path / "c.safetensors")
    assert "give heads= or model.heads" in refusal(str(tmp_path / "c.safetensors"))
    assert read_source(tmp_path / "c.safetensors", 3).encoder["heads"] == 3


@pytest.mark.parametrize("key", ["cls_token", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc2.weight", "pos_embed"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 5), (2, 3, 4, 4)])
def test_tensors_of_any_wrong_shape(file, key, shape):
    assert "\n" not in refusal(file({key: torch.ones(shape)}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1j])
def test_values_that_are_no_finite_real_numbers(tmp_path, timm_vit, value):
    torch.save(timm_vit().state_dict() | {"norm.bias": torch.full((128,), value)}, tmp_path / "a.pth")
    assert "norm.bias holds other values than finite real numbers" in refusal(str(tmp_path / "a.pth"))


def test_a_checkpoint_that_holds_itself_tied_tensors_and_any_ending(tmp_path, timm_vit):
    state = timm_vit().state_dict()
    state["blocks.0.norm2.weight"] = state["blocks.0.norm1.weight"]
    content: dict[str, Any] = {"epoch": 3, "model": state}
    content["state_dict"] = content
    torch.save(content, tmp_path / "a.PTH")
    assert "names that are known" in refusal(str(tmp_path / "a.PTH"))
    del content["state_dict"]
    torch.save(content, tmp_path / "a.PTH")
    write_pretrained(tmp_path / "encoder.safetensors", made := read_source(tmp_path / "a.PTH"))
    assert torch.equal(made.tensors["blocks.0.norm2.weight"], state["blocks.0.norm1.weight"])


def test_a_block_with_a_huge_number(file):
    assert "lacks blocks.2, but has blocks.20000" in refusal(file({"blocks.20000.norm1.weight": torch.ones(128)}))


def test_a_folder_and_a_link_into_a_cache(file, tmp_path):
    """As the hub of Hugging Face keeps files: config.json and the weights are links in one folder."""
    snapshot, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    snapshot.mkdir()
    blobs.mkdir()
    assert f"is the folder {snapshot} with 0 .safetensors files" in refusal(str(snapshot))
    Path(file()).rename(blobs / "abcdef")
    (blobs / "012345").write_text(json.dumps({"image_mean": IMAGENET[0], "image_std": IMAGENET[1]}), encoding="utf-8")
    (snapshot / "model.safetensors").symlink_to(blobs / "abcdef")
    (snapshot / "preprocessor_config.json").symlink_to(blobs / "012345")
    for path in (snapshot, snapshot / "model.safetensors"):
        assert read_source(path).encoder["mean"] == IMAGENET[0]


@pytest.mark.parametrize(
    ("images", "config", "message"),
    [
        ({"image_mean": 0.5}, {}, "mean 0.5"),
        ({"image_mean": [0.5, 0.5, 0.5]}, {}, "one of mean and std"),
        ({"image_mean": [0.5], "image_std": [0.5]}, {}, "takes 3 channels, but its mean has 1 numbers"),
        ({"image_mean": [0.5] * 3, "image_std": [0, 0, 0]}, {}, "std 0"),
        ({}, {"hidden_act": "relu"}, "act 'relu'"),
        ({}, {"hidden_act": ["x"]}, "act ['x']"),
        ({}, {"num_attention_heads": "x"}, "heads 'x'"),
        ({}, {"num_attention_heads": -1}, "heads -1"),
        ({}, {"layer_norm_eps": "a"}, "eps 'a'"),
    ],
)
def test_what_stands_beside_a_file_is_checked(file, tmp_path, images, config, message):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert message in refusal(file())


def test_nonsense_beside_a_file_is_passed_by(file, tmp_path):
    (tmp_path / "config.json").write_text('{"pretrained_cfg": "x", "vision_config": 3}', encoding="utf-8")
    assert read_source(file()).encoder["mean"] is None


@pytest.mark.parametrize(
    "about", ["{", '{"encoder": {}}', '{"settings": {"data": {"size": 8, "scale": 0}, "model": {}}}', '{"settings": 3}']
)
def test_broken_metadata_of_our_own(tmp_path, about):
    save_file({"encoder.norm.weight": torch.ones(3)}, tmp_path / "a.safetensors", {KEY: about})
    assert "a.safetensors" in refusal(str(tmp_path / "a.safetensors"))


def test_a_model_whose_queries_were_never_trained(tmp_path, settings):
    own = settings("classify", **{"model.attention": "uniform"})
    model = training_task(own, ("0", "1")).build()
    save_weights(tmp_path / "model.safetensors", model.state_dict(), {"settings": own.model_dump(), "classes": [0, 1]})
    assert "trained with model.attention uniform" in refusal(str(tmp_path / "model.safetensors"))


def test_a_hub_that_does_not_answer(monkeypatch):
    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("vitpipe.weights.registries.urlopen", offline)
    monkeypatch.setattr(import_timm(), "create_model", lambda *_, **__: pytest.fail("asked for a download"))
    assert "does not answer (Name or service not known)" in refusal("timm/vit_tiny_patch16_224.augreg_in21k")
    check_connection(None, "unknown")
    check_connection(SimpleNamespace(hf_hub_id=None), "published elsewhere")
    with pytest.raises(InputError, match="no weights of vit_tiny"):
        check_connection(SimpleNamespace(hf_hub_id="someone/vit"), "vit_tiny")
