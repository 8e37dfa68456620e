"""Fixtures for the tests of training."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.tasks import training_task
from vitpipe.training.checkpoint import Resume
from vitpipe.training.compute import Compute
from vitpipe.training.loop import Training


@pytest.fixture
def labelled(tmp_path, settings, shapes, table) -> Path:
    """The downsample stage's folder for classification: 24x24, no LR, `odd` is 1 or -1."""
    folder = tmp_path / "labelled"
    pack(table.assign(odd=table["odd"] * 2 - 1), shapes, settings("classify", **{"data.scale": 1}).data, folder)
    return folder


@pytest.fixture
def training(packed, labelled, settings) -> Callable[..., Training]:
    """A run of a tiny model: `training("classify", **{"train.epochs": 1})`."""

    def make(task: str = "supersample", dtype: torch.dtype = torch.float32, **changes: object) -> Training:
        made = settings(task, **({"data.scale": 1} if task == "classify" else {}) | changes)
        folder = packed if made.target is None else labelled
        train, val = (PackedDataset(folder / part, made.target) for part in ("train", "val"))
        return Training(training_task(made, train.classes), train, val, Compute(torch.device("cpu"), dtype))

    return make


@pytest.fixture
def finished(tmp_path) -> Callable[[Training, str], Path]:
    """Runs a training to its end as the stage does; gives the folder with its model.safetensors and curve.csv."""

    def finish(training: Training, name: str) -> Path:
        folder = tmp_path / name
        resume = Resume(folder / "scratch")
        training.run(resume)
        training.save(folder / "model.safetensors", folder / "curve.csv")
        resume.clear()
        return folder

    return finish


@pytest.fixture
def one_thread():
    """Several threads gain nothing on tiny tensors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
