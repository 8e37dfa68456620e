"""Fixtures for all tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import settings as properties
from PIL import Image, ImageDraw

from vitpipe.config import Settings, check_settings
from vitpipe.data.packing import pack
from vitpipe.sources import LANDMARKS

# waiting threads must not spin: with tiny tensors on a busy processor that takes ten times as long
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# a shell starts background jobs with SIGINT ignored, and the processes that tests interrupt would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
ROOT = Path(__file__).parents[1]
PARAMS: dict[str, Any] = {
    "recipe": "supersample",
    "seed": 0,
    "data": {"name": "folder", "size": 24, "scale": 2},
    "task": {},
    "model": {
        "patch": 3,
        "dim": 16,
        "depth": 2,
        "heads": 2,
        "mlp_ratio": 2.0,
        "attention": "softmax",
        "place": False,
        "position": "learned",
        "proj": True,
        "qkv_bias": True,
        "final_norm": True,
        "conv_channels": 8,
        "conv_blocks": 1,
        "conv_expansion": 1,
    },
    "train": {
        "epochs": 2,
        "patience": None,
        "batch": 8,
        "processes": 1,
        "optimizer": "adamw",
        "lr": 0.003,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "warmup": 0.05,
        "ema": 0.99,
        "clip": 1.0,
        "flip": True,
        "crop": 0,
        "precision": "float32",
        "device": "cpu",
    },
}
TASK_PARAMS: dict[str, dict[str, Any]] = {
    "supersample": {
        "task": {"name": "supersample"},
        "model": {"skip": "bicubic", "consistent": False},
        "train": {"loss": "charbonnier"},
    },
    "classify": {
        "task": {"name": "classify", "target": "odd", "show": None},
        "model": {"pool": "token", "in_chans": 3},
        "train": {"label_smoothing": 0.0, "randaugment": 0, "mix": "none"},
    },
}
PART_SIZES = {"train": 40, "val": 8, "test": 12}


properties.register_profile("shared", deadline=None)  # times vary on a busy processor
properties.load_profile("shared")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Number of worker processes; each gets an equal share of the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(8, cores)
    os.environ.setdefault("OMP_NUM_THREADS", str(cores // workers))
    return workers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts the slowest file first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


@pytest.fixture
def real_data() -> Path:
    """The folder of real data that VITPIPE_REAL_DATA names; the test is skipped without it."""
    folder = os.environ.get("VITPIPE_REAL_DATA")
    if not folder:
        pytest.skip("VITPIPE_REAL_DATA names no folder of real data")
    return Path(folder).resolve()


@pytest.fixture
def params() -> Callable[..., dict[str, Any]]:
    """The content of a tiny params.yaml, by task and changes: `params("classify", **{"model.patch": 6})`."""

    def content(task: str = "supersample", /, **changes: object) -> dict[str, Any]:
        own = TASK_PARAMS[task]
        made = {name: value | own.get(name, {}) if isinstance(value, dict) else value for name, value in PARAMS.items()}
        for key, value in changes.items():
            section, _, name = key.rpartition(".")
            (made[section] if section else made)[name] = value
        return made

    return content


@pytest.fixture
def settings(params: Callable[..., dict[str, Any]]) -> Callable[..., Settings]:
    """The same as checked settings: `settings("classify", **{"model.patch": 6})`."""
    return lambda *task, **changes: check_settings(params(*task, **changes), "params.yaml")


class Shapes:
    """Images without files: discs and bars with hard edges, which interpolation blurs and a model can sharpen."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def read(self, sample: str) -> Image.Image:
        random = np.random.default_rng(list(sample.encode()))
        image = Image.new("RGB", self.size, tuple(random.integers(0, 120, 3).tolist()))
        left, top, *sides = random.integers(2, min(self.size) // 2, 4).tolist()
        box = (left, top, left + sides[0], top + sides[1])
        draw = ImageDraw.Draw(image)
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)(box, tuple(random.integers(140, 256, 3).tolist()))
        return image


@pytest.fixture
def shapes() -> Shapes:
    return Shapes((48, 48))


@pytest.fixture
def table() -> pd.DataFrame:
    """The split stage's table for the images of `shapes`: part, identity, landmarks and a label."""
    parts = [part for part, count in PART_SIZES.items() for _ in range(count)]
    index = pd.Index([f"{i:03d}.png" for i in range(len(parts))], name="id")
    random = np.random.default_rng(1)
    points = pd.DataFrame(random.uniform(4, 44, (len(parts), len(LANDMARKS))).round(1), index, LANDMARKS)
    labels = {"landmarks": "annotated", "odd": [i % 2 for i in range(len(parts))]}
    return pd.concat([pd.DataFrame({"part": parts, "identity": "7"}, index), points], axis=1).assign(**labels)


@pytest.fixture
def packed(tmp_path: Path, settings: Callable[..., Settings], shapes: Shapes, table: pd.DataFrame) -> Path:
    """The downsample stage's folder `tmp_path`/data/packed: 24x24 HR, 12x12 LR, 40 + 8 + 12 images."""
    folder = tmp_path / "data" / "packed"
    folder.mkdir(parents=True)
    pack(table, shapes, settings().data, folder)
    return folder


@pytest.fixture
def stage(tmp_path: Path, params: Callable[..., dict[str, Any]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a stage as DVC does, in a process in `tmp_path`: `stage("train", task="classify", **{"seed": 1})`."""

    def run(
        name: str, preexec: Callable[[], None] | None = None, *, task: str = "supersample", **changes: object
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params(task, **changes)), encoding="utf-8")
        return subprocess.run(
            [sys.executable, "-m", f"stages.{name}"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            preexec_fn=preexec,
        )

    return run
