"""Models that torchvision and timm publish, by their names there."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import torch
from torch import nn

from vitpipe.errors import InputError
from vitpipe.models.hybrid import import_timm
from vitpipe.models.pretrained import Pretrained
from vitpipe.sources.torchvision import import_torchvision
from vitpipe.weights.conversion import convert
from vitpipe.weights.files import one_line, read_tensors, sha256_of

TORCHVISION = tuple(f"vit_{size}" for size in ("b_16", "b_32", "l_16", "l_32", "h_14"))


def from_torchvision(name: str) -> Pretrained:
    """A ViT of torchvision: `vit_b_16`, `b_32`, `l_16`, `l_32` or `h_14`, trained on ImageNet.

    With `_swag` at the end it is the one that was pretrained on Instagram and then fine-tuned, with `_swag_linear` the
    one whose head alone was (Singh et al. 2022, arXiv:2201.08371); of `h_14` there are only these. They are for
    non-commercial use, which is told on stderr. The download goes to torch's cache and is checked.
    """
    import_torchvision()
    models: Any = import_module("torchvision.models")
    base = re.sub(r"_swag(_linear)?$", "", name)
    if base not in TORCHVISION:
        known = ", ".join(TORCHVISION)
        raise InputError(f"torchvision has no {name}: use {known}, or one of them with _swag or _swag_linear")
    choices = models.get_model_weights(base).__members__
    key = {"_swag": "IMAGENET1K_SWAG_E2E_V1", "_swag_linear": "IMAGENET1K_SWAG_LINEAR_V1"}
    wanted = key.get(name.removeprefix(base), "IMAGENET1K_V1" if "IMAGENET1K_V1" in choices else "DEFAULT")
    if wanted not in choices:
        raise InputError(f"torchvision has no {name}: its {base} has the weights {', '.join(choices)}")
    weights = choices[wanted]
    if "SWAG" in weights.name:
        print(f"torchvision/{name}: the weights are CC-BY-NC 4.0, for non-commercial use only", file=sys.stderr)
    path = downloaded(weights.url)
    with torch.device("meta"):
        model: Any = models.get_model(base, image_size=weights.transforms().crop_size[0])
    heads: int = model.encoder.layers[0].num_heads
    return replace(convert(read_tensors(path), f"torchvision/{name}", heads=heads), sha256=sha256_of(path))


def downloaded(url: str) -> Path:
    """The file in torch's cache, where its name has the start of its SHA-256 sum; downloaded where it is not there."""
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = re.search(r"-([0-9a-f]{8,})\.", path.name)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=found and found[1])
        except (OSError, RuntimeError) as error:  # a failed connection, a wrong sum
            by_hand = f"download {url} with a browser and let model.weights be the file"
            raise InputError(f"downloading {path.name} failed ({one_line(error)}): try again, or {by_hand}") from None
    return path


def from_timm(name: str) -> Pretrained:
    """A ViT of timm with its pretrained weights, which timm downloads to the cache of Hugging Face.

    A hybrid, such as `vit_base_r50_s16_384.orig_in21k_ft_in1k`, comes with its ResNet.

    Raises:
        InputError: timm is not installed or knows no such model, it can't be downloaded, or is no plain ViT.
    """
    timm = import_timm()
    try:
        check_connection(timm.get_pretrained_cfg(name), name)
        model = timm.create_model(name, pretrained=True)
    except InputError:
        raise
    except Exception as error:  # of timm, of its hub, of their network libraries: no common class
        problem = f"timm gives no weights of {name} ({one_line(error)})"
        raise InputError(f"{problem}: check name and connection, or let model.weights be a file") from None
    return read_timm(model, name)


def check_connection(config: Any, name: str) -> None:
    """Raises InputError where weights are not in the cache and the hub does not answer, which it tells after minutes.

    Args:
        config: timm's of the model; None for a model that it does not know.
    """
    hub: Any = import_module("huggingface_hub")
    repository = config and config.hf_hub_id  # none of a model that is published elsewhere
    if repository and repository.endswith("/"):
        repository += name
    if not repository or hub.try_to_load_from_cache(repository, "model.safetensors"):
        return
    try:
        with urlopen(hub.constants.ENDPOINT, timeout=10):
            pass
    except HTTPError:  # it answers
        pass
    except OSError as error:
        problem = f"timm gives no weights of {name}: {hub.constants.ENDPOINT} does not answer ({one_line(error)})"
        raise InputError(f"{problem}; check the connection, or let model.weights be a file") from None


def read_timm(model: Any, name: str) -> Pretrained:
    """A ViT of timm that is in memory. Raises InputError where it is no plain one."""
    kinds: Any = import_module("timm.models.vision_transformer")
    plain = isinstance(model, kinds.VisionTransformer) and all(type(block) is kinds.Block for block in model.blocks)
    if not plain or not len(model.blocks):
        raise InputError(f"timm/{name} is no plain Vision Transformer ({type(model).__name__}): only these can be read")
    embed, block = model.patch_embed, model.blocks[0]
    known = {"eps": block.norm1.eps, "act": activation(block.mlp, name)}
    known |= {key: model.pretrained_cfg.get(key) for key in ("mean", "std")}
    if hasattr(embed, "backbone"):
        if any(isinstance(layer, nn.BatchNorm2d) for layer in embed.backbone.modules()):
            raise InputError(f"timm/{name} is a hybrid with batch normalisation: only those of Google can be read")
        known |= {"stem": name, "stride": embed.img_size[0] // embed.feature_size[0]}
    heads, grid = block.attn.num_heads, tuple(embed.grid_size)
    return convert(model.state_dict(), f"timm/{name}", heads=heads, grid=grid, resize="bicubic_antialias", **known)


def activation(mlp: nn.Module, name: str) -> str:
    """The activation of timm's MLP, as `vitpipe.models.block.mlp` calls it."""
    act: Any = getattr(mlp, "act", None)
    kind = type(act).__name__
    if kind == "SiLU" and not getattr(mlp, "gate_last", False):
        return "swiglu"
    known: dict[str, Callable[[], str]] = {
        "GELU": lambda: "gelu_tanh" if getattr(act, "approximate", "none") == "tanh" else "gelu",
        "GELUTanh": lambda: "gelu_tanh",
        "QuickGELU": lambda: "quick_gelu",
    }
    if kind not in known:
        raise InputError(f"timm/{name} has the activation {kind}, which vitpipe's encoder has not")
    return known[kind]()
