"""A real training, stopped again and again, ends where one that was never stopped does."""

import random
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml

from stages import train
from vitpipe.stage import run
from vitpipe.training import loop
from vitpipe.training.loop import Trainer

DRIVER = """
from stages.train import main
from vitpipe.stage import run
from vitpipe.training import loop
loop.SAVE_EVERY = 0.0  # a state after every batch, so that kills within an epoch are survived within it
run(main)
"""

REGULAR = {"train.drop_path": 0.3, "train.dropout": 0.2, "train.grad_checkpointing": True, "train.accumulate": 4}
REGULAR |= {"train.layer_decay": 0.8, "train.schedule": "linear", "train.average": "greedy"}


@pytest.fixture
def two_threads():
    """As a user's training has several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    """The train stage in this process runs in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


def newest_state() -> int:
    """When the last state was saved, in ns; 0 where there is none."""
    return max((path.stat().st_mtime_ns for path in Path().glob(".resume/*/state.pt")), default=0)


@pytest.mark.usefixtures("two_threads")
def test_stopped_at_random_points_ends_bit_identical(begin, packed, training, finished, settings, tmp_path, capsys):
    """By Ctrl-C and by SIGKILL; a training with other settings in between has a state of its own."""
    changes, chance, logs = {"train.epochs": 2, "train.batch": 4}, random.Random(0), []  # 20 steps
    whole = finished(training(**changes), "whole")
    for number in (signal.SIGINT, signal.SIGKILL, signal.SIGKILL):
        process = begin(tmp_path, "-c", DRIVER, environment={"OMP_NUM_THREADS": "2"}, **changes)
        seen, states = {newest_state()}, chance.randint(2, 4)
        while len(seen) < states:  # until it has saved some states of its own, then a random moment longer
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
            seen.add(newest_state())
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(number)
        logs.append(process.communicate()[1])
        assert process.returncode == (130 if number is signal.SIGINT else -number), "it was done before it was stopped"
        assert not Path("models").exists()
        assert not Path("reports").exists()
    assert logs[0].endswith("train: interrupted\n")
    assert "Traceback" not in logs[0]

    (state,) = Path().glob(".resume/*")
    capsys.readouterr()
    train.main(settings(seed=5, **{"train.epochs": 1}))
    assert "going on" not in capsys.readouterr().err
    assert list(Path().glob(".resume/*")) == [state]
    train.main(settings(**changes))
    logs.append(capsys.readouterr().err)

    resumed = [line for log in logs for line in log.splitlines() if line.startswith("going on from epoch")]
    assert len(resumed) == 3
    assert sum(", batch 0 of" not in line for line in resumed) > 0, resumed  # within an epoch
    for path in (Path("models/model.safetensors"), Path("reports/curve.csv")):
        assert path.read_bytes() == (whole / path.name).read_bytes()
    assert not list(Path().glob(".resume/*"))
    assert not list(Path().rglob("*.tmp"))


class Killed(BaseException):
    """As SIGKILL, nothing catches it."""


@pytest.mark.parametrize(
    ("life", "optimizer", "more"), [(1, "sgd", {}), (4, "muon", {}), (3, "sgd", REGULAR), (1, "adamw", REGULAR)]
)
def test_augmented_and_stopped_early_ends_bit_identical_too(training, finished, monkeypatch, life, optimizer, more):
    """In this process, which dies in every `life`-th batch before the state after it is saved."""
    changes = {"train.epochs": 12, "train.patience": 3, "train.lr": 0.05, "train.crop": 3, "train.randaugment": 2}
    changes |= {"train.mix": "both", "train.label_smoothing": 0.1, "train.optimizer": optimizer, "train.batch": 20}
    changes |= more
    run = training("classify", **changes)
    whole = finished(run, "whole")
    assert 3 < run.epoch < 12

    learned = 0
    training_step = Trainer.training_step

    def deadly(self, batch):
        nonlocal learned
        training_step(self, batch)
        learned += 1
        if learned > life:
            raise Killed

    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(Trainer, "training_step", deadly)
    kills = 0
    while True:
        torch.manual_seed(kills)  # a new process has drawn other numbers
        learned = 0
        try:
            killed = finished(training("classify", **changes), "killed")
            break
        except Killed:
            kills += 1
    assert kills == (2 * run.epoch - 1) // life
    for name in ("model.safetensors", "curve.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_full_disk_is_one_line_and_leaves_nothing_half_written(packed, params):
    Path("params.yaml").write_text(yaml.safe_dump(params()), encoding="utf-8")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(SystemExit) as caught:
            run(train.main)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.code == "train: File too large"
    assert not [path for path in Path().rglob("*") if path.name.endswith(".tmp") or path.name == "models"]
