"""Weights files of all kinds, without running code that is in them."""

import hashlib
import json
import struct
import zipfile
import zlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitpipe.errors import InputError
from vitpipe.models.pretrained import KEY

NESTED = ("state_dict", "model_state_dict", "model", "teacher")
"""Where checkpoints keep the weights, beside the state of their training."""
DAMAGED = (ValueError, EOFError, OSError, RuntimeError, LookupError, TypeError, AttributeError, struct.error)
"""What readers raise for files that are cut or changed, as found by trial."""


def weights_file(path: Path) -> Path:
    """The file, or the one .safetensors file in a folder. Raises InputError where there is none."""
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise InputError(f"model.weights is the folder {path} with {len(found)} .safetensors files: name the file")
        return found[0]
    if not path.is_file():
        raise InputError(f"model.weights is {path}, but there is no such file")
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors, .npz, or pickled (.pth, .pt, .bin) file by name, on the CPU.

    Raises:
        InputError: the file is damaged or of another kind, a tensor has values that are no finite real numbers, or it
            holds more than tensors and reading it could run code.
    """
    readers = {".safetensors": read_safetensors, ".npz": read_npz}
    readers |= dict.fromkeys((".pth", ".pt", ".bin"), read_pickle)
    if path.suffix.lower() not in readers:
        raise InputError(f"{path} is no weights file that is known: use .safetensors, .npz, .pth, .pt or .bin")
    tensors = readers[path.suffix.lower()](path)
    for name, tensor in tensors.items():
        if tensor.is_complex() or tensor.layout != torch.strided or not torch.isfinite(tensor).all():
            raise InputError(f"{path} is damaged: its {name} holds other values than finite real numbers")
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no mapping
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}): get it again") from None


def read_about(path: Path) -> dict[str, Any]:
    """The metadata of a file of our own; empty for others."""
    if path.suffix.lower() != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        try:
            about: dict[str, Any] = json.loads((file.metadata() or {}).get(KEY, "{}"))
        except ValueError as error:
            raise InputError(f"the metadata of {path} is damaged ({error}): get the file again") from None
    return about


def read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(np.array(file[name])) for name in file.files}
    except (*DAMAGED, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged, or holds more than arrays of numbers ({one_line(error)})") from None


def read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        problem = "is refused: it is damaged, or holds more than tensors, so that reading it could run code"
        raise InputError(f"{path} {problem}; use a .safetensors copy") from None
    except DAMAGED as error:
        raise InputError(f"{path} is damaged or no weights file ({one_line(error)}): get it again") from None
    seen: list[Any] = []  # a dictionary may hold itself
    while isinstance(content, dict) and not any(content is one for one in seen):
        seen.append(content)
        content = next((content[key] for key in NESTED if is_dict(content, key)), content)
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold tensors by name, but holds {type(content).__name__}")
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def is_dict(content: dict[str, Any], key: str) -> bool:
    return isinstance(content.get(key), dict)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 sum in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def one_line(error: Exception) -> str:
    """What an error says, shortened to one line."""
    return f"{' '.join(str(error).split()) or type(error).__name__:.150}"
