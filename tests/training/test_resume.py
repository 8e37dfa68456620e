"""A real training process, killed with SIGKILL again and again, ends where one that was never killed does."""

import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from vitpipe.training import loop
from vitpipe.training.checkpoint import Resume
from vitpipe.training.loop import Training

DRIVER = """
from stages.train import main
from vitpipe.stage import run
from vitpipe.training import loop
loop.SAVE_EVERY = 0.0  # a state after every batch, so that kills within an epoch are survived within it
run(main)
"""


THREADS = {"OMP_NUM_THREADS": "2"}  # as a user's training has several


def finish(process: subprocess.Popen) -> str:
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return errors


def result(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("models/model.safetensors", "reports/curve.csv")}


def newest_state(folder: Path) -> int:
    """When the last state was saved, in ns; 0 where there is none."""
    return max((path.stat().st_mtime_ns for path in folder.glob(".resume/*/state.pt")), default=0)


def test_killed_at_random_points_ends_bit_identical(begin, packed, tmp_path):
    whole, folder, changes = tmp_path / "whole", tmp_path, {"train.epochs": 3, "train.batch": 2}  # many steps
    (whole / "data").mkdir(parents=True)
    (whole / "data" / "packed").symlink_to(packed)
    finish(begin(whole, environment=THREADS, **changes))

    chance, kills, logs = random.Random(0), 3, []
    for kill in range(kills):
        process, seen = begin(folder, "-c", DRIVER, environment=THREADS, **changes), {newest_state(folder)}
        states = chance.randint(2, 9) if kill else 0  # the first time perhaps before anything was saved
        while len(seen) < states:  # until it has saved some states of its own, then a random moment longer
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
            seen.add(newest_state(folder))
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        logs.append(process.communicate()[1])
        assert process.returncode == -signal.SIGKILL, "it was done before it was killed"
        assert not (folder / "models").exists()
        assert not (folder / "reports").exists()
    logs.append(finish(begin(folder, "-c", DRIVER, environment=THREADS, **changes)))

    resumed = [line for log in logs for line in log.splitlines() if line.startswith("going on from epoch")]
    assert len(resumed) == kills - 1
    assert sum(", batch 0 of" not in line for line in resumed) > 0, resumed  # within an epoch
    assert result(folder) == result(whole)
    for each in (whole, folder):
        assert not list(each.glob(".resume/*"))
        assert not list(each.rglob("*.tmp"))


class Killed(BaseException):
    """As SIGKILL, nothing catches it."""


@pytest.mark.parametrize(("life", "optimizer"), [(1, "sgd"), (4, "muon")])
def test_augmented_and_stopped_early_ends_bit_identical_too(training, finished, monkeypatch, life, optimizer):
    """In this process, which dies in every `life`-th batch before the state after it is saved."""
    changes = {"train.epochs": 12, "train.patience": 3, "train.lr": 0.05, "train.crop": 3, "train.randaugment": 2}
    changes |= {"train.mix": "both", "train.label_smoothing": 0.1, "train.optimizer": optimizer}
    run = training("classify", **changes)
    whole = finished(run, "whole")
    assert 3 < run.epoch < 12

    learned = 0
    training_step = Training.training_step

    def deadly(self, batch):
        nonlocal learned
        training_step(self, batch)
        learned += 1
        if learned > life:
            raise Killed

    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(Training, "training_step", deadly)
    kills = 0
    while True:
        torch.manual_seed(kills)  # a new process has drawn other numbers
        learned = 0
        try:
            killed = finished(training("classify", **changes), "killed")
            break
        except Killed:
            kills += 1
    assert kills == (5 * run.epoch - 1) // life
    for name in ("model.safetensors", "curve.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_interrupted_is_one_line_and_its_state_is_not_for_other_settings(begin, packed, wait_for_state, tmp_path):
    process = begin(tmp_path, **{"train.epochs": 500})
    wait_for_state(process, tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.endswith("train: interrupted\n")
    assert "Traceback" not in errors
    assert not (tmp_path / "models").exists()

    (state,) = tmp_path.glob(".resume/*")
    assert "going on" not in finish(begin(tmp_path, seed=5, **{"train.epochs": 1}))
    assert list(tmp_path.glob(".resume/*")) == [state]
    assert Resume(state).load() is not None


def test_full_disk_is_one_line_and_leaves_nothing_half_written(stage, packed, tmp_path):
    done = stage("train", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "train: File too large"
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp") or path.name == "models"]
