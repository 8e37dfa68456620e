"""A real training process, killed with SIGKILL again and again, ends where one that was never killed does."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from vitpipe.data.dataset import PackedDataset
from vitpipe.training.compute import Compute
from vitpipe.tasks import classify
from vitpipe.training import loop
from vitpipe.training.checkpoint import Resume
from vitpipe.training.loop import train

ROOT = Path(__file__).parents[2]
CPU = Compute(torch.device("cpu"), torch.float32)
DRIVER = """
from stages.train import main
from vitpipe.stage import run
from vitpipe.training import loop
loop.SAVE_EVERY = 0.0  # a state after every batch, so that kills within an epoch are survived within it
run(main)
"""


@pytest.fixture
def start(tmp_path, packed, params):
    """Starts the train stage in a folder of its own."""

    def begin(name: str, *, driver: bool, epochs: int) -> subprocess.Popen:
        folder = tmp_path / name
        if not folder.exists():
            (folder / "data").mkdir(parents=True)
            (folder / "data" / "packed").symlink_to(packed)
            # small batches: many steps, and so many states to be killed in
            changes = {"train.epochs": epochs, "train.batch": 2}
            (folder / "params.yaml").write_text(yaml.safe_dump(params(**changes)))
        command = ["-c", DRIVER] if driver else ["-m", "stages.train"]
        environment = {key: value for key, value in os.environ.items() if key != "DVC_ROOT"}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}  # as a user's training has several threads
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


def finish(process: subprocess.Popen) -> str:
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return errors


def result(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("models/model.safetensors", "reports/curve.csv")}


def newest_state(folder: Path) -> int:
    """When the last state was saved, in ns; 0 where there is none."""
    return max((path.stat().st_mtime_ns for path in folder.glob(".resume/*/state.pt")), default=0)


def test_killed_at_random_points_ends_bit_identical(start, tmp_path):
    finish(start("whole", driver=False, epochs=3))

    folder, chance, kills, logs = tmp_path / "killed", random.Random(0), 4, []
    for _ in range(kills):
        process, seen = start("killed", driver=True, epochs=3), {newest_state(folder)}
        states = chance.randint(2, 9)
        while len(seen) < states:  # until it has saved some states of its own, then a random moment longer
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
            seen.add(newest_state(folder))
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        logs.append(process.communicate()[1])
        assert process.returncode == -signal.SIGKILL, "it was done before it was killed"
        assert not (folder / "models").exists()
        assert not (folder / "reports").exists()
    logs.append(finish(start("killed", driver=True, epochs=3)))

    resumed = [line for log in logs for line in log.splitlines() if line.startswith("going on from epoch")]
    assert len(resumed) == kills
    assert sum(", batch 0 of" not in line for line in resumed) >= 2, resumed  # within an epoch
    assert result(folder) == result(tmp_path / "whole")
    for name in ("whole", "killed"):
        assert not list((tmp_path / name).glob(".resume/*"))
        assert not list((tmp_path / name).rglob("*.tmp"))


CLASSIFY = {
    "task.name": "classify",
    "data.scale": 1,
    "train.epochs": 12,
    "train.patience": 3,
    "train.lr": 0.05,
    "train.crop": 3,
    "train.randaugment": 2,
    "train.mix": "both",
    "train.label_smoothing": 0.1,
}


class Killed(BaseException):
    """As SIGKILL, nothing catches it."""


@pytest.mark.parametrize(("life", "optimizer"), [(1, "sgd"), (4, "muon"), (7, "sgd")])
def test_augmented_and_stopped_early_ends_bit_identical_too(labelled, settings, tmp_path, monkeypatch, life, optimizer):
    """In this process, which dies in every `life`-th batch before the state after it is saved."""
    made = settings(**CLASSIFY | {"train.optimizer": optimizer})
    parts = [PackedDataset(labelled / part, "odd") for part in ("train", "val")]

    def start(name: str) -> None:
        folder = tmp_path / name
        train(classify, made, *parts, CPU, Resume(folder / "scratch"), folder / "models", folder / "reports/curve.csv")

    start("whole")
    epochs = len((tmp_path / "whole" / "reports" / "curve.csv").read_text().splitlines()) - 1
    assert 3 < epochs < made.train.epochs

    learned = 0
    learn = loop.Training.learn

    def deadly(self, batch):
        nonlocal learned
        learn(self, batch)
        learned += 1
        if learned > life:
            raise Killed

    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(loop.Training, "learn", deadly)
    kills = 0
    while not (tmp_path / "killed" / "models").exists():
        torch.manual_seed(kills)  # a new process has drawn other numbers
        learned = 0
        try:
            start("killed")
        except Killed:
            kills += 1
    assert kills == (5 * epochs - 1) // life
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


def test_killed_before_anything_was_saved_starts_again(start, tmp_path):
    process = start("a", driver=False, epochs=1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    errors = finish(start("a", driver=False, epochs=1))
    assert "going on" not in errors
    assert (tmp_path / "a" / "models" / "model.safetensors").exists()


def test_interrupted_goes_on_too(start, tmp_path):
    process = start("a", driver=True, epochs=50)
    while not list((tmp_path / "a").glob(".resume/*/state.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.endswith("train: interrupted\n")
    assert "Traceback" not in errors
    assert not (tmp_path / "a" / "models").exists()


@pytest.mark.parametrize("limit", [20_000, 200_000])
def test_full_disk_is_one_line_and_leaves_nothing_half_written(stage, packed, tmp_path, limit):
    done = stage("train", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "train: File too large"
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp") or path.name == "models"]
