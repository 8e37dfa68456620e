"""Encoders from anywhere: by name or path, in the names of `ViT`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, FiniteFloat, PositiveFloat, PositiveInt, ValidationError
from torch import Tensor

from vitpipe.errors import InputError
from vitpipe.models.pretrained import Pretrained, from_metadata, load_into
from vitpipe.models.vit import OWN, ViT
from vitpipe.sources.archive import located
from vitpipe.weights.conversion import check_tensors, convert
from vitpipe.weights.files import read_about, read_tensors, sha256_of, weights_file
from vitpipe.weights.flax import from_flax
from vitpipe.weights.registries import from_timm, from_torchvision

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "silu": "swiglu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}
"""As Hugging Face calls them: as we do."""


def load_encoder(name_or_path: str | Path, heads: int | None = None) -> ViT:
    """An encoder with pretrained weights, in evaluation mode, for images on [-1, 1].

    Its mean and standard deviation are built in. Images of the size that it was trained on, or of any other that its
    patch divides.

    Args:
        name_or_path: see `read_source`.
        heads: number of attention heads, where the source does not say it and they are not 64 wide.

    Raises:
        InputError: see `read_source`; or the encoder takes no images but features of convolutions.
    """
    pretrained = read_source(name_or_path, heads)
    if "stem" in pretrained.encoder or pretrained.part("stem"):
        raise InputError(f"{name_or_path} has convolutions before its encoder, which takes no images without them")
    with torch.random.fork_rng(devices=[]):  # the weights that building draws are replaced
        encoder = ViT(size=pretrained.size, **pretrained.encoder)
    load_into(encoder, pretrained)
    return encoder.eval()


def read_source(name_or_path: str | Path, heads: int | None = None) -> Pretrained:
    """Reads a pretrained encoder of any family that is known.

    The family is recognised from the names of the tensors, and sizes from their shapes. What neither tells, such as
    the mean of the images, is that of the family, see `vitpipe.weights.recognition.as_trained`; a `config.json` and a
    `preprocessor_config.json` beside the file, as Hugging Face has them, are believed more. Google's weights are run as
    Google does it, with the tanh approximation of GELU, which other packages replace by GELU itself.

    Args:
        name_or_path: torchvision/NAME, timm/NAME, or a .safetensors, .pth, .pt, .bin or .npz file; a relative path
            counts from the repository, also in a temporary copy that DVC makes of it.
        heads: number of attention heads, where the source does not say it; None for those of published models of this
            width, most of them dim / 64.

    Raises:
        InputError: there is no such model or file, it can't be downloaded or read, is of no family that is known, lacks
            a tensor, has one that is unknown, or has another number of heads.
    """
    name = str(name_or_path)
    if name.startswith("torchvision/"):
        return agreed(from_torchvision(name.removeprefix("torchvision/")), heads)
    if name.startswith("timm/"):
        return agreed(from_timm(name.removeprefix("timm/")), heads)
    path = weights_file(located(name, "model.weights"))
    tensors, about = read_tensors(path), read_about(path)
    if about:
        return agreed(replace(from_ours(about, tensors, name), source=name, sha256=sha256_of(path)), heads)
    known = described(path.parent)
    told = known.pop("heads", None)
    if path.suffix.lower() == ".npz":
        tensors, told = from_flax(tensors)
    made = convert(tensors, name, heads=told or heads, safetensors=path.suffix.lower() == ".safetensors", **known)
    return replace(agreed(made, heads), sha256=sha256_of(path))


def agreed(pretrained: Pretrained, heads: int | None) -> Pretrained:
    """Raises InputError where the source says that it has other heads."""
    found = pretrained.encoder["heads"]
    if heads is not None and found != heads:
        raise InputError(f"heads is {heads}, but {pretrained.source} has {found}: use {found}, or leave it out")
    return pretrained


class Described(BaseModel):
    """What is known of an encoder beside its tensors."""

    heads: PositiveInt | None = None
    eps: PositiveFloat | None = None
    act: Literal["gelu", "gelu_tanh", "quick_gelu", "swiglu"] | None = None
    mean: tuple[FiniteFloat, ...] | None = None
    std: tuple[PositiveFloat, ...] | None = None


def described(folder: Path) -> dict[str, Any]:
    """What `config.json` (Hugging Face, timm) and `preprocessor_config.json` beside a file say.

    Raises:
        InputError: they say what no encoder can have.
    """
    config, images = (read_json(folder / name) for name in ("config.json", "preprocessor_config.json"))
    model, of_timm = (config.get(key) for key in ("vision_config", "pretrained_cfg"))
    model, of_timm = (one if isinstance(one, dict) else {} for one in (model or config, of_timm))
    ours = {"num_attention_heads": "heads", "layer_norm_eps": "eps", "hidden_act": "act"}
    told = {mine: model.get(theirs) for theirs, mine in ours.items()}
    told["act"] = ACTIVATIONS.get(str(told["act"]), told["act"])
    told |= {mine: images.get(f"image_{mine}") or of_timm.get(mine) for mine in ("mean", "std")}
    try:
        known = Described.model_validate(told).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{first['loc'][0]} {first['input']!r:.80} ({first['msg']})"
        raise InputError(f"config.json or preprocessor_config.json in {folder} has {problem}: correct it") from None
    if ("mean" in known) != ("std" in known):
        raise InputError(f"config.json or preprocessor_config.json in {folder} has one of mean and std: give both")
    return known


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def from_ours(about: dict[str, Any], tensors: dict[str, Tensor], source: str) -> Pretrained:
    """An encoder that was trained here: from the file of a model with its task, or from the file of an encoder."""
    if "settings" not in about:
        return from_metadata(about, tensors, source)
    kept = {name.removeprefix("encoder."): t for name, t in tensors.items() if name.startswith(("encoder.", "stem."))}
    dropped = tuple(name for name in tensors if not name.startswith(("encoder.", "stem.")))
    try:
        data, model = about["settings"]["data"], about["settings"]["model"]
        if (attention := model.get("attention", "softmax")) != "softmax":
            problem = f"was trained with model.attention {attention}, so that its queries and keys are random"
            raise InputError(f"{source} {problem}: use a model with softmax")
        side = data["size"] // data["scale"]
        encoder = about.get("encoder")
        if not encoder:
            encoder = {key: model[key] for key in OWN if key in model}
            channels = kept["patch_embed.weight"].shape[1] // encoder["patch"] ** 2
            encoder |= {"channels": channels, "class_token": "cls_token" in kept}
            encoder["place"] = any(".place." in name for name in kept)
        made = Pretrained(dict(encoder), (side, side), kept, dropped, source, "vitpipe")
        check_tensors(made)
    except (LookupError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
        raise InputError(f"{source} does not say how its encoder was built ({error!r}): train it again") from None
    return made
