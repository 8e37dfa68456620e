"""Fixtures for the tests of training."""

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.tasks import training_task
from vitpipe.training.checkpoint import Resume
from vitpipe.training.compute import Compute
from vitpipe.training.loop import Trainer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def labelled(tmp_path, settings, shapes, table) -> Path:
    """The downsample stage's folder for classification: 24x24, no LR, `odd` is 1 or -1."""
    folder = tmp_path / "labelled"
    pack(table.assign(odd=table["odd"] * 2 - 1), shapes, settings("classify", **{"data.scale": 1}).data, folder)
    return folder


@pytest.fixture
def training(packed, labelled, settings) -> Callable[..., Trainer]:
    """A run of a tiny model: `training("classify", **{"train.epochs": 1})`."""

    def make(task: str = "supersample", dtype: torch.dtype = torch.float32, **changes: object) -> Trainer:
        made = settings(task, **({"data.scale": 1} if task == "classify" else {}) | changes)
        folder = packed if made.target is None else labelled
        train, val = (PackedDataset(folder / part, made.target) for part in ("train", "val"))
        return Trainer(training_task(made, train.classes), train, val, Compute(torch.device("cpu"), dtype))

    return make


@pytest.fixture
def finished(tmp_path) -> Callable[[Trainer, str], Path]:
    """Runs a training to its end as the stage does; gives the folder with its model.safetensors and curve.csv."""

    def finish(training: Trainer, name: str) -> Path:
        folder = tmp_path / name
        resume = Resume(folder / "scratch")
        training.run(resume)
        training.save(folder / "model.safetensors", folder / "curve.csv")
        resume.clear()
        return folder

    return finish


@pytest.fixture
def planned(monkeypatch):
    """Validation gives the planned scores; returns the averaged weights that it saw each time."""

    def plan(scores, losses=(0.0,) * 12):
        seen = []

        def validate(self):
            seen.append(copy.deepcopy(self.ema_model.state_dict()))
            return {"loss": losses[len(seen) - 1], "psnr": scores[len(seen) - 1]}

        monkeypatch.setattr(Trainer, "validate", validate)
        return seen

    return plan


@pytest.fixture
def begin(params) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts Python with the train stage, or another command, in a folder with settings."""
    started = []

    def start(folder: Path, *command: str, task="supersample", environment=None, **changes) -> subprocess.Popen:
        (folder / "params.yaml").write_text(yaml.safe_dump(params(task, **changes)), encoding="utf-8")
        inherited = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
        inherited |= {"PYTHONPATH": str(ROOT)} | (environment or {})
        command = (sys.executable, *(command or ("-m", "stages.train")))
        started.append(subprocess.Popen(command, cwd=folder, env=inherited, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def wait_for_state() -> Callable[[subprocess.Popen, Path], None]:
    """Waits until a training in a folder has saved a state."""

    def wait(process: subprocess.Popen, folder: Path) -> None:
        while not list(folder.glob(".resume/*/state.pt")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)

    return wait


@pytest.fixture
def one_thread():
    """Several threads gain nothing on tiny tensors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
