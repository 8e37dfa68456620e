"""An encoder gives the numbers of its source: files in the names of every family, made from timm and torchvision."""

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.ndimage import zoom
from torch import Tensor, nn

import vitpipe
from vitpipe.sources.torchvision import import_torchvision
from vitpipe.weights.loading import read_source

from .conftest import TINY, scramble

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5,) * 3, (0.5,) * 3)


def standardised(images: Tensor, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics)
    return (images / 2 + 0.5 - mean) / std


def assert_equal(encoder: Any, images: Tensor, expected: Tensor) -> None:
    """Tokens of `images` are `expected` (b, t, d) to 1e-5."""
    with torch.no_grad():
        features = encoder(images)
    found = torch.cat([features.prefix, features.patches.flatten(1, 2)], dim=1)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5
    assert expected.abs().max() > 0.1


def eps(value: float) -> Any:
    return partial(nn.LayerNorm, eps=value)


@pytest.mark.parametrize("size", [(32, 32), (48, 24)])
@pytest.mark.parametrize(
    ("changes", "statistics"),
    [
        ({}, HALF),
        ({"num_classes": 0}, IMAGENET),
        ({"reg_tokens": 4, "init_values": 1.0, "no_embed_class": True}, IMAGENET),
        ({"reg_tokens": 2, "qkv_bias": False}, HALF),
        ({"class_token": False, "global_pool": "avg"}, HALF),
        ({"pre_norm": True, "norm_layer": eps(1e-5)}, CLIP),
    ],
)
def test_timm(timm_vit, images, tmp_path, changes, statistics, size):
    model = timm_vit(**changes, dynamic_img_size=True)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder, shown = vitpipe.load_encoder(tmp_path / "model.safetensors"), images(*size)
    with torch.no_grad():
        expected = model.forward_features(standardised(shown, statistics))
        assert_equal(encoder, shown, expected)
        pooled = model.forward_head(expected, pre_logits=True)
        kind = "token" if changes.get("class_token", True) else "avg"
        assert (encoder.pool(encoder(shown), kind) - pooled).abs().max() <= 1e-5


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("old_names", [False, True])
def test_torchvision(images, tmp_path, size, old_names):
    import_torchvision()
    module = import_module("torchvision.models.vision_transformer")
    sizes = {"patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 128, "mlp_dim": 192, "num_classes": 5}
    model = scramble(module.VisionTransformer(image_size=64, **sizes))
    state = dict(model.state_dict())
    if size != 64:
        resized = module.interpolate_embeddings(size, 16, state)
        model = module.VisionTransformer(image_size=size, **sizes).eval()
        model.load_state_dict(resized)
        state |= {"encoder.pos_embedding": scramble_positions(state)}
    for name in [*state] if old_names else ():
        for new, old in ((".mlp.0.", ".mlp.linear_1."), (".mlp.3.", ".mlp.linear_2.")):
            if new in name:
                state[name.replace(new, old)] = state.pop(name)
    torch.save(state, tmp_path / "model.pth")
    shown = images(size, size)
    with torch.no_grad():
        patches = model._process_input(standardised(shown, IMAGENET))
        expected = model.encoder(torch.cat([model.class_token.expand(2, -1, -1), patches], dim=1))
    assert_equal(vitpipe.load_encoder(tmp_path / "model.pth"), shown, expected)
    assert read_source(tmp_path / "model.pth").dropped == ("heads.head.weight", "heads.head.bias")


def scramble_positions(state: dict[str, Tensor]) -> Tensor:
    """The positions of the 64x64 model again: `interpolate_embeddings` writes its own into the dictionary."""
    import_torchvision()
    module = import_module("torchvision.models.vision_transformer")
    sizes = {"patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 128, "mlp_dim": 192, "num_classes": 5}
    return scramble(module.VisionTransformer(image_size=64, **sizes)).state_dict()["encoder.pos_embedding"]


HF_BLOCK = {
    "attn.qkv": [f"attention.attention.{part}" for part in ("query", "key", "value")],
    "attn.proj": "attention.output.dense",
}
HF_OUTER = {
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "cls_token": "embeddings.cls_token",
    "reg_token": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "norm": "layernorm",
    "head": "classifier",
}
HF_VIT = HF_BLOCK | {"norm1": "layernorm_before", "norm2": "layernorm_after"}
HF_VIT |= {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}
HF_NEW = HF_VIT | {"attn.qkv": [f"attention.{part}_proj" for part in "qkv"], "attn.proj": "attention.o_proj"}
HF_NEW |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
HF_DINO = HF_BLOCK | {"ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"}
HF_CLIP = {f"norm{i}": f"layer_norm{i}" for i in (1, 2)} | {"attn.proj": "self_attn.out_proj"}
HF_CLIP |= {"attn.qkv": [f"self_attn.{part}_proj" for part in "qkv"]}
HF_CLIP_OUTER = {
    "patch_embed.proj": "embeddings.patch_embedding",
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding.weight",
    "norm_pre": "pre_layrnorm",
    "norm": "post_layernorm",
}
OPENAI = {"norm1": "ln_1", "norm2": "ln_2", "attn.qkv": "attn.in_proj_{}", "attn.proj": "attn.out_proj"}
OPENAI |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
OPENAI_OUTER = {
    "patch_embed.proj": "conv1",
    "cls_token": "class_embedding",
    "pos_embed": "positional_embedding",
    "norm_pre": "ln_pre",
    "norm": "ln_post",
}
LUKEMELAS = {"attn.qkv": [f"attn.proj_{part}" for part in "qkv"], "attn.proj": "proj"}
LUKEMELAS |= {"mlp.fc1": "pwff.fc1", "mlp.fc2": "pwff.fc2"}
LUKEMELAS_OUTER = {
    "patch_embed.proj": "patch_embedding",
    "cls_token": "class_token",
    "pos_embed": "positional_embedding.pos_embedding",
    "head": "fc",
}


def renamed(state: dict[str, Tensor], prefix: str, outer: dict, block: str, inner: dict) -> dict[str, Tensor]:
    """A state of timm's encoder in the names of another package."""
    made = {}
    for name, tensor in state.items():
        start, names, rest = prefix, outer, name
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            start, names = prefix + block.format(number), inner
        module, _, leaf = rest.rpartition(".")
        theirs = names.get(rest) or names.get(module, module)
        if rest in names:
            made[start + theirs] = tensor
        elif isinstance(theirs, list):
            made |= {f"{start}{one}.{leaf}": part for one, part in zip(theirs, tensor.chunk(3), strict=True)}
        else:
            made[start + (theirs.format(leaf) if "{}" in theirs else f"{theirs}.{leaf}" if theirs else leaf)] = tensor
    return made


def flat(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's class token and positions have no first axis."""
    return {n: t.flatten(0, -2) if "class_emb" in n or "position" in n else t for n, t in state.items()}


def one_vector(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.flatten() if "class_emb" in name else tensor for name, tensor in flat(state).items()}


def interpolated(grid: Tensor, side: int, **how: Any) -> Tensor:
    if how.pop("offset", False):
        how["scale_factor"] = ((side + 0.1) / grid.shape[-1],) * 2
    else:
        how["size"] = (side, side)
    return F.interpolate(grid, mode="bicubic", **how)


def zoomed(grid: Tensor, side: int) -> Tensor:
    scale = side / grid.shape[-1]
    return torch.from_numpy(zoom(grid.numpy(), (1, 1, scale, scale), order=1))


CLIP_MODEL = {"pre_norm": True, "norm_layer": eps(1e-5)}
DINO_MODEL = {"num_classes": 0, "init_values": 1.0}
CASES: dict[str, tuple[dict[str, Any], Callable, str, Callable, tuple]] = {
    # changes of timm's model, its state in other names, file, how positions are resized, mean and std
    "DINO": ({"num_classes": 0}, dict, "a.pth", partial(interpolated, offset=True), IMAGENET),
    "DINOv2": (
        DINO_MODEL,
        lambda state: state | {"mask_token": torch.zeros(1, 128)},
        "a.pth",
        partial(interpolated, offset=True),
        IMAGENET,
    ),
    "MAE": (
        {"num_classes": 0},
        lambda state: {"model": state | {"mask_token": torch.ones(1, 1, 64), "decoder_embed.bias": torch.ones(64)}},
        "a.pth",
        interpolated,
        IMAGENET,
    ),
    "Hugging Face ViT": (
        {"norm_layer": eps(1e-12)},
        lambda state: {
            name.replace("vit.classifier", "classifier"): tensor
            for name, tensor in renamed(state, "vit.", HF_OUTER, "encoder.layer.{}.", HF_VIT).items()
        },
        "a.safetensors",
        interpolated,
        HALF,
    ),
    "Hugging Face ViT, new names": (
        {"norm_layer": eps(1e-12), "num_classes": 0},
        lambda state: renamed(state, "", HF_OUTER, "layers.{}.", HF_NEW),
        "a.safetensors",
        interpolated,
        HALF,
    ),
    "Hugging Face DINOv2": (
        DINO_MODEL,
        lambda state: (
            renamed(state, "dinov2.", HF_OUTER, "encoder.layer.{}.", HF_DINO)
            | {"dinov2.embeddings.mask_token": torch.zeros(1, 128)}
        ),
        "a.bin",
        interpolated,
        IMAGENET,
    ),
    "Hugging Face CLIP": (
        CLIP_MODEL | {"act_layer": "quick_gelu", "num_classes": 0},
        lambda state: one_vector(
            renamed(state, "vision_model.", HF_CLIP_OUTER, "encoder.layers.{}.", HF_CLIP)
            | {"text_model.embeddings.token_embedding.weight": torch.zeros(7, 2), "logit_scale": torch.zeros(())}
        ),
        "a.safetensors",
        interpolated,
        CLIP,
    ),
    "OpenAI CLIP": (
        CLIP_MODEL | {"act_layer": "quick_gelu", "num_classes": 0},
        lambda state: one_vector(
            renamed(state, "visual.", OPENAI_OUTER, "transformer.resblocks.{}.", OPENAI)
            | {"visual.proj": torch.ones(128, 4), "transformer.resblocks.0.ln_1.bias": torch.ones(3)}
            | {"positional_embedding": torch.ones(7, 3), "token_embedding.weight": torch.ones(9, 3)}
        ),
        "a.pt",
        interpolated,
        CLIP,
    ),
    "PyTorch-Pretrained-ViT": (
        {},
        lambda state: (
            renamed(state, "", LUKEMELAS_OUTER, "transformer.blocks.{}.", LUKEMELAS)
            | {"pre_logits.weight": torch.zeros(2, 2)}
        ),
        "a.pth",
        zoomed,
        HALF,
    ),
}


def at_size(timm_vit: Callable[..., Any], model: Any, changes: dict[str, Any], size: int, resize: Callable) -> Any:
    """timm's model for another size, with positions that the test has resized."""
    if size == TINY["img_size"]:
        return model
    state, old, new = dict(model.state_dict()), TINY["img_size"] // 8, size // 8
    position = state["pos_embed"]
    prefix = position.shape[1] - old * old
    grid = resize(position[:, prefix:].reshape(1, old, old, -1).permute(0, 3, 1, 2), new)
    state["pos_embed"] = torch.cat([position[:, :prefix], grid.flatten(2).transpose(1, 2)], dim=1)
    other = timm_vit(**changes, img_size=size)
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize("size", [32, 56])
@pytest.mark.parametrize("name", CASES)
def test_other_names(timm_vit, images, tmp_path, name, size):
    changes, rename, file, resize, statistics = CASES[name]
    if changes.get("act_layer") == "quick_gelu":
        changes = changes | {"act_layer": import_module("timm.layers").QuickGELU}
    model = timm_vit(**changes)
    tensors = rename(dict(model.state_dict()))
    if file.endswith("safetensors"):
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / file)
    else:
        torch.save(tensors, tmp_path / file)
    shown = images(size, size)
    with torch.no_grad():
        other = at_size(timm_vit, model, changes, size, resize)
        expected = other.forward_features(standardised(shown, statistics))
    assert_equal(vitpipe.load_encoder(tmp_path / file), shown, expected)
    made = read_source(tmp_path / file)
    tensors = tensors.get("model", tensors)
    assert set(made.dropped) <= set(tensors)
    lost = re.compile(
        "head|fc|classifier|mask_token|decoder_|text_|token_embedding|logit_|pre_logits|proj$|posit|transf"
    )
    assert all(lost.match(name.removeprefix("visual.").split("embeddings.")[-1]) for name in made.dropped)


def test_registers_of_dinov2_have_no_position(timm_vit, images, tmp_path):
    """In its own file and in that of Hugging Face, whose positions are those of class token and patches."""
    model = timm_vit(**DINO_MODEL, reg_tokens=4)
    model.pos_embed.data[:, 1:5] = 0
    state, shown = dict(model.state_dict()), images()
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], state["pos_embed"][:, 5:]], dim=1)
    torch.save({"register_tokens" if key == "reg_token" else key: t for key, t in state.items()}, tmp_path / "a.pth")
    torch.save(renamed(state, "", HF_OUTER, "encoder.layer.{}.", HF_DINO), tmp_path / "b.pth")
    for file in ("a.pth", "b.pth"):
        with torch.no_grad():
            expected = model.forward_features(standardised(shown, IMAGENET))
        assert_equal(vitpipe.load_encoder(tmp_path / file), shown, expected)
        assert read_source(tmp_path / file).encoder["resize"] == "bicubic_antialias"


def test_swiglu(timm_vit, images, tmp_path):
    """DINOv2's giant, in its own names and in two of Hugging Face."""
    layers = import_module("timm.layers")
    model = timm_vit(**DINO_MODEL, mlp_layer=layers.SwiGLUPacked, act_layer=nn.SiLU)
    state, shown = dict(model.state_dict()), images()
    with torch.no_grad():
        expected = model.forward_features(standardised(shown, IMAGENET))
    own = {key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): tensor for key, tensor in state.items()}
    old = HF_DINO | {"mlp.fc1": "mlp.weights_in", "mlp.fc2": "mlp.weights_out"}
    files = {"a": own, "b": renamed(state, "", HF_OUTER, "encoder.layer.{}.", old)}
    files["c"] = renamed(state, "", HF_OUTER, "layers.{}.", HF_DINO | {"mlp.fc2": "mlp.down_proj"})
    for key in [key for key in files["c"] if ".mlp.fc1." in key]:
        gate, up = files["c"].pop(key).chunk(2)
        files["c"] |= {key.replace("fc1", "gate_proj"): gate, key.replace("fc1", "up_proj"): up}
    for name, tensors in files.items():
        torch.save(tensors, tmp_path / f"{name}.pth")
        assert_equal(vitpipe.load_encoder(tmp_path / f"{name}.pth"), shown, expected)


def test_a_distillation_token_becomes_a_register(images, tmp_path):
    kind = import_module("timm.models.deit").VisionTransformerDistilled
    model = scramble(kind(**TINY))
    torch.save(model.state_dict(), tmp_path / "a.pth")
    shown = images()
    with torch.no_grad():
        expected = model.forward_features(standardised(shown, IMAGENET))
    encoder = vitpipe.load_encoder(tmp_path / "a.pth")
    assert encoder.prefix_names == ("class token", "register 1")
    assert_equal(encoder, shown, expected)


def flax_arrays(state: dict[str, Tensor], classic: bool) -> dict[str, np.ndarray]:
    """A state of timm's encoder, as Google's files have it: with the numbers of its older or newer code."""
    made = {}
    attention, second, mlp = (1, 2, 3) if classic else (0, 1, 0)
    outer = {"patch_embed.proj": "embedding", "norm": "Transformer/encoder_norm", "head": "head"}
    inner = {"norm1": "LayerNorm_0", "norm2": f"LayerNorm_{second}"}
    inner |= {f"mlp.fc{i + 1}": f"MlpBlock_{mlp}/Dense_{i}" for i in (0, 1)}
    heads = f"MultiHeadDotProductAttention_{attention}"
    position = "Transformer/posembed_input/pos_embedding" if classic else "pos_embedding"
    for name, tensor in state.items():
        array, (module, _, leaf) = tensor.numpy(), name.rpartition(".")
        if name in ("cls_token", "pos_embed"):
            made["cls" if name == "cls_token" else position] = array
            continue
        place = ""
        if module.startswith("blocks."):
            _, number, module = module.split(".", 2)
            place = f"Transformer/encoderblock_{number}/"
        if module == "attn.qkv":
            for part, rows in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                shaped = rows.T.reshape(128, 2, 64) if leaf == "weight" else rows.reshape(2, 64)
                made[f"{place}{heads}/{part}/{'kernel' if leaf == 'weight' else 'bias'}"] = shaped
        elif module == "attn.proj":
            made[f"{place}{heads}/out/{'kernel' if leaf == 'weight' else 'bias'}"] = (
                array.T.reshape(2, 64, 128) if leaf == "weight" else array
            )
        else:
            kernel = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
            kind = "bias" if leaf == "bias" else "scale" if "norm" in module else "kernel"
            made[f"{place}{(inner if place else outer)[module]}/{kind}"] = kernel if kind == "kernel" else array
    return made


@pytest.mark.parametrize(("prefix", "classic"), [("", True), ("opt/target/", True), ("params/img/", False)])
@pytest.mark.parametrize("size", [32, 56])
def test_google(timm_vit, images, tmp_path, prefix, classic, size):
    changes = {"act_layer": partial(nn.GELU, approximate="tanh")}
    model = timm_vit(**changes)
    arrays = flax_arrays(model.state_dict(), classic)
    if not classic:  # all blocks in one array
        for name in [name for name in arrays if "encoderblock_0" in name]:
            both = [arrays.pop(name.replace("block_0", f"block_{i}")) for i in (0, 1)]
            arrays[name.replace("block_0", "block")] = np.stack(both)
    np.savez(tmp_path / "a.npz", **{prefix + name: array for name, array in arrays.items()})
    shown = images(size, size)
    with torch.no_grad():
        expected = at_size(timm_vit, model, changes, size, zoomed).forward_features(shown)
    assert_equal(vitpipe.load_encoder(tmp_path / "a.npz"), shown, expected)


def test_what_stands_beside_a_file_is_believed(timm_vit, images, tmp_path):
    """Heads, eps, activation, mean and std of a model that has unusual ones."""
    model = timm_vit(num_heads=4, act_layer=partial(nn.GELU, approximate="tanh"), norm_layer=eps(1e-3))
    save_file(renamed(dict(model.state_dict()), "", HF_OUTER, "encoder.layer.{}.", HF_VIT), tmp_path / "a.safetensors")
    config = '{"num_attention_heads": 4, "layer_norm_eps": 0.001, "hidden_act": "gelu_new"}'
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    text = '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}'
    (tmp_path / "preprocessor_config.json").write_text(text, encoding="utf-8")
    shown = images()
    with torch.no_grad():
        expected = model.forward_features(standardised(shown, ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))))
    assert_equal(vitpipe.load_encoder(Path(tmp_path / "a.safetensors")), shown, expected)


def test_heads_that_are_told(timm_vit, images, tmp_path):
    model = timm_vit(num_heads=8)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    with torch.no_grad():
        assert_equal(
            vitpipe.load_encoder(tmp_path / "a.safetensors", heads=8), images(), model.forward_features(images())
        )
