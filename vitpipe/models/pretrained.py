"""Weights of an encoder that was trained before: one file with all that is needed to build it and to go on.

`vitpipe.weights` makes them from what others published.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vitpipe.errors import InputError
from vitpipe.files import atomic_file
from vitpipe.models.position import resize_pos_embed
from vitpipe.models.vit import ViT

KEY = "vitpipe"  # the one entry of the metadata; safetensors writes several in random order


@dataclass(frozen=True)
class Pretrained:
    """An encoder that was trained before, in the names of `ViT`."""

    encoder: dict[str, Any]
    """Keywords of `ViT`, all but `size`, attention and regularization. With `stem`, timm's name of a hybrid, it takes
    the feature map of that model's ResNet, see `vitpipe.models.hybrid`."""
    size: tuple[int, int]
    """Height and width in pixels of the images that the positions are for."""
    tensors: dict[str, Tensor]
    """float32, on the CPU: those of `ViT.state_dict()`, and `stem.*`, what comes before the encoder."""
    dropped: tuple[str, ...]
    """Names of the tensors of the source that are no part of the encoder."""
    source: str
    """Where they come from, as the user named it."""
    family: str
    """Whose names the source has, such as torchvision."""
    sha256: str | None = None
    """Of the source file; None where there was none."""

    @property
    def stride(self) -> int:
        """Pixels of the image from one pixel of the encoder's input to the next; 1 but for hybrids."""
        return int(self.encoder.get("stride", 1))

    def part(self, name: str) -> dict[str, Tensor]:
        """Tensors of a part: `stem`, by their names in it, or `encoder`, all others."""
        if name == "encoder":
            return {key: tensor for key, tensor in self.tensors.items() if not key.startswith("stem.")}
        return {key.removeprefix(f"{name}."): t for key, t in self.tensors.items() if key.startswith(f"{name}.")}


def write_pretrained(path: Path, pretrained: Pretrained) -> None:
    """Writes one safetensors file. Equal content, equal bytes."""
    about = {name: value for name, value in vars(pretrained).items() if name != "tensors"}
    tensors = {name: tensor.contiguous() for name, tensor in sorted(pretrained.tensors.items())}
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(tensors, {KEY: json.dumps(about)}))


def read_pretrained(path: Path) -> Pretrained:
    """What `write_pretrained` wrote. Raises InputError where the file is missing, damaged or another one."""
    if not path.is_file():
        raise InputError(f"{path} is missing: the stage weights makes it (dvc repro weights)")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(KEY, "{}"))
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}): make it again") from None
    return from_metadata(about, tensors, str(path))


def from_metadata(about: Mapping[str, Any], tensors: dict[str, Tensor], where: str) -> Pretrained:
    """An encoder from the metadata of its file and its tensors. Raises InputError where these are of another file."""
    names = set(Pretrained.__dataclass_fields__) - {"tensors"}
    kinds = {"size": list, "dropped": list, "encoder": dict}
    if set(about) != names or not all(isinstance(about[name], kind) for name, kind in kinds.items()):
        raise InputError(f"{where} is none that the stage weights wrote: make it again (dvc repro weights)")
    listed = {"size": tuple(about["size"]), "dropped": tuple(about["dropped"])}
    return Pretrained(tensors=tensors, **{**about, **listed})


def load_into(encoder: ViT, pretrained: Pretrained) -> None:
    """Loads all tensors but those of the stem; positions are resized once to the grid of the encoder.

    Raises:
        InputError: a tensor is missing or too much, or has another shape.
    """
    state, own = pretrained.part("encoder"), encoder.state_dict()
    if encoder.pos_embed is not None and "pos_embed" in state:
        old = pretrained.size[0] // encoder.pixels, pretrained.size[1] // encoder.pixels
        state["pos_embed"] = resize_pos_embed(
            state["pos_embed"], old, encoder.grid, encoder.num_prefix_tokens, encoder.resize
        )
    # attention that sees no place, a control, has no place to load
    state = {name: tensor for name, tensor in state.items() if name in own or ".place." not in name}
    load_strictly(encoder, state, pretrained.source)


def start_from(model: nn.Module, pretrained: Pretrained) -> None:
    """Loads the encoder of a model, and its stem where the weights have one. Raises as `load_into` does."""
    net: Any = model
    load_into(net.encoder, pretrained)
    if stem := pretrained.part("stem"):
        load_strictly(net.stem, stem, pretrained.source)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split()).partition(": ")[2]
        raise InputError(f"{source} does not fit the encoder that the settings describe: {reason:.200}") from None
