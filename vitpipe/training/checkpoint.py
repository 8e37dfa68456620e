"""Weights that are kept, and the state from which a killed run goes on."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

import vitpipe
from vitpipe.config import Settings
from vitpipe.errors import InputError
from vitpipe.files import atomic_file
from vitpipe.training.compute import Compute

KEY = "vitpipe"  # the one entry of a weights file's metadata; safetensors writes several in random order


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes weights as safetensors, with `metadata` (epoch, settings, classes) as json. Equal content, equal bytes."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(tensors, {KEY: json.dumps(metadata)}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights that `save_weights` wrote, on the CPU. Raises as `read_metadata` does."""
    read_metadata(path)
    return load_file(path)


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that `save_weights` wrote. Raises InputError where the file is missing, damaged or another one."""
    if not path.is_file():
        raise InputError(f"{path} is missing: the train stage makes a weights file (dvc repro train)")
    try:
        with safe_open(path, framework="pt") as file:
            found = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file ({error}): train again") from None
    if KEY not in found:
        raise InputError(f"{path} does not say how its model was built: only what the train stage writes can be used")
    return json.loads(found[KEY])


def resume_folder(settings: Settings, digests: list[str], compute: Compute) -> Path:
    """Where the state of exactly this training lies: `$DVC_ROOT/.resume/<hash>`; outside DVC in the working directory.

    The hash covers all that decides the result: settings, data and pretrained weights (by their `digests`), torch,
    threads, device, precision, and the code that training uses.
    """
    data, task = settings.data, settings.task.name
    read = [settings.seed, data.size, data.scale, task, settings.target, settings.model.model_dump()]
    read += [settings.train.model_dump(), digests]
    machine = [torch.__version__, torch.get_num_threads(), compute.device.type, str(compute.dtype)]
    name = hashlib.blake2b(json.dumps([read, machine]).encode(), digest_size=8)
    package = Path(vitpipe.__file__).parent
    files = [package / part for part in ("tasks/__init__.py", f"tasks/{task}/training.py")]
    folders = [package / part for part in ("config", "data", "models", "training")]
    for path in files + sorted(path for folder in folders for path in folder.glob("*.py")):
        name.update(path.read_bytes())
    return Path(os.environ.get("DVC_ROOT", ".")) / ".resume" / name.hexdigest()


def file_digest(path: Path) -> str:
    """Digest of the content of a file, for `resume_folder`. Raises OSError where there is none."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


class Resume:
    """The last state of a run, in one file that is replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "state.pt"

    def save(self, state: dict[str, Any]) -> None:
        with atomic_file(self.path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # what torch makes of a full disk
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def load(self) -> dict[str, Any] | None:
        """The state last saved, with its tensors on the CPU, or None where there is none.

        Raises:
            InputError: it is damaged.
        """
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except (EOFError, RuntimeError, UnpicklingError):
            raise InputError(f"{self.path} is damaged: remove {self.folder} to train from the beginning") from None

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
