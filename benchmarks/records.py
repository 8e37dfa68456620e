"""Where the quality section keeps each finished training: under a name made of what decides how it ends.

Of code that is what is most often changed: ours' modules, optimiser, shifts. Who changes the training loop, another
network's code or the version of spandrel removes the files of what that touches.
"""

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import vitpipe
from benchmarks.machine import processor
from benchmarks.networks import RECIPE
from benchmarks.timed_training import Trial, recipe
from vitpipe.config import Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.training.compute import Compute
from vitpipe.tasks import supersample

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


@dataclass(frozen=True)
class Records:
    """The files of the trainings with these settings, on these images, on this machine."""

    settings: Settings
    parts: Mapping[str, PackedDataset]
    compute: Compute
    folder: Path

    def path(self, name: str, trial: Trial) -> Path:
        """Named by the network, its training, the images and the machine; the training may not be there yet."""
        network = [str(trial.variant.build(self.settings))]
        if name == "ours":
            network += [source("nn"), self.settings.model.model_dump_json(), json.dumps(RECIPE["model"])]
        machine = [processor(), torch.__version__, str(torch.get_num_threads()), str(self.compute)]
        if self.compute.device.type == "cuda":
            machine.append(torch.cuda.get_device_name())
        setting = recipe(trial, self.settings).model_dump()
        if setting["optimizer"] == "muon":
            setting["source"] = source("training/optimizers.py")
        if setting["loss"] in ("charbonnier", "spectral"):
            setting["charbonnier"] = supersample.CHARBONNIER
        if setting["loss"] == "spectral":
            setting["spectrum"] = [supersample.SPECTRUM_WEIGHT, supersample.LARGEST_BLOCK]
        if setting["crop"]:
            setting["shift"] = source("data/augment.py")
        own = [trial.seed, trial.seconds, trial.points, trial.network.channels_last]
        images = [self.parts[part].digest for part in ("train", "val", "test")]
        return self.folder / f"{name}-{digest(network, setting, own, images, machine)}.json"


def digest(*content: Any) -> str:
    return hashlib.blake2b(json.dumps(content, default=str).encode(), digest_size=8).hexdigest()


def source(place: str) -> str:
    """The code of a module or folder of vitpipe, without comments and docstrings."""
    path = Path(vitpipe.__file__).parent / place
    trees = [ast.parse(file.read_text()) for file in (sorted(path.glob("*.py")) if path.is_dir() else [path])]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return "".join(ast.dump(tree) for tree in trees)
