"""Weights that are kept, and the state from which a killed run goes on."""

import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

import vitpipe
from vitpipe.config import Settings
from vitpipe.errors import InputError
from vitpipe.files import atomic_file
from vitpipe.training.compute import Compute


def save_weights(path: Path, weights: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """Writes weights as safetensors; `facts` (epoch, settings, ...) go into its metadata as json.

    In one entry, as safetensors writes several in random order: equal runs must give equal bytes.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(tensors, {"facts": json.dumps(facts)}))


def load_weights(path: Path, model: nn.Module, settings: Settings) -> None:
    """Loads weights that `vitpipe.training.loop.train` saved into `model`, which was built by `settings`.

    Raises:
        InputError: there are none, they are damaged, or they belong to a model of other settings.
    """
    if not path.exists():
        raise InputError(f"{path} is missing: run the train stage first (dvc repro train)")
    try:
        weights, trained = load_file(path), read_metadata(path).get("settings", {})
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}): train again (dvc repro -f train)") from None
    own = settings.model_dump()
    other = InputError(f"{path} was trained with other model settings than params.yaml has: run dvc repro")
    if any(trained.get(part, {}).get(name) != own[part][name] for part, name in built_by(own)):  # shapes don't tell all
        raise other
    try:
        model.load_state_dict(weights)
    except RuntimeError:  # as with other classes
        raise other from None


def built_by(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Section and name of the settings that a model is built by."""
    model = [("model", name) for name in settings["model"]]
    return [*model, ("data", "size"), ("data", "scale"), ("task", "name"), ("task", "target")]


def read_metadata(path: Path) -> dict[str, Any]:
    """The `facts` that `save_weights` put beside the weights."""
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("facts", "{}"))


def resume_folder(settings: Settings, digests: list[str], compute: Compute) -> Path:
    """Scratch that belongs to exactly this training: `$DVC_ROOT/.resume/<hash of settings, code and data>`.

    Outside DVC the working directory is the root. `digests` name the data.
    """
    name = hashlib.blake2b(digest_size=8)
    parts = settings.model_dump(
        include={"seed", "data", "task", "model", "train"}, exclude={"task": {"show"}, "data": {"root"}}
    )
    name.update(json.dumps([parts, digests, torch.__version__, torch.get_num_threads(), str(compute)]).encode())
    package = Path(vitpipe.__file__).parent
    for path in sorted(path for room in ("nn", "tasks", "training", "data") for path in (package / room).rglob("*.py")):
        name.update(path.read_bytes())
    return Path(os.environ.get("DVC_ROOT", ".")) / ".resume" / name.hexdigest()


class Resume:
    """The last state of a run, in one file that is replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "state.pt"

    def save(self, state: dict[str, Any]) -> None:
        content = io.BytesIO()  # not to the file: a full disk must be an OSError, and torch makes it a RuntimeError
        torch.save(state, content)
        with atomic_file(self.path) as temporary:
            temporary.write_bytes(content.getbuffer())

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
