"""Two processes on this machine train as one does, fail with one line and go on where they were killed."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.tasks import training_task
from vitpipe.training.checkpoint import Resume
from vitpipe.training.compute import Compute
from vitpipe.training.loop import Training

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
MIXED = {"data.scale": 1, "train.crop": 3, "train.randaugment": 1, "train.mix": "both", "train.label_smoothing": 0.1}
UNEQUAL = {"train.batch": 64, "train.optimizer": "sgd", "train.lr": 0.5, "model.position": "sincos"}
"""All 39 images in one batch: parts of 19 and 20."""
LONG = {"train.epochs": 6, "train.batch": 2}


@pytest.fixture
def folder(tmp_path, settings, shapes, table):
    """Makes the folder of a run: 39 images to learn from, 7 to validate on, neither a multiple of 2."""

    def made(name: str = "run", task: str = "supersample", **changes) -> Path:
        data = tmp_path / name / "data" / "packed"
        data.mkdir(parents=True)
        parts = table["part"].where(~table.index.isin(["000.png", "040.png"]), "test")
        pack(table.assign(part=parts, odd=table["odd"] * 2 - 1), shapes, settings(task, **changes).data, data)
        return tmp_path / name

    return made


@pytest.fixture
def two(begin):
    """Starts the train stage in a folder, by default as DVC does, with two processes."""

    def start(folder: Path, *command: str, environment=None, **changes) -> subprocess.Popen:
        environment = {"OMP_NUM_THREADS": "1"} | (environment or {})
        return begin(
            folder, *command, "-m", "stages.train", environment=environment, **{"train.processes": 2} | changes
        )

    return start


@pytest.fixture
def machines(two):
    """Starts both processes of a group, each in a folder of its own, as torchrun does on two machines."""

    def start(folders: list[Path], changes: list[dict[str, object]]) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        common |= {"TORCHELASTIC_RUN_ID": "none"}
        return [two(folders[rank], environment=common | {"RANK": str(rank)}, **changes[rank]) for rank in (0, 1)]

    return start


def finish(process: subprocess.Popen, status: int = 0) -> list[str]:
    """What a process said on stderr, without progress bar and epochs."""
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    told = re.sub(r"train: +\d+%\|[^\]]*\]", "\n", errors).replace("\r", "\n")
    return [line.strip() for line in told.splitlines() if line.strip() and not line.strip().startswith("epoch ")]


def workers(process: subprocess.Popen) -> list[int]:
    """The processes that one has started, by rank."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"stages.train" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def gone(pids: list[int]) -> bool:
    """Whether none of them runs, or soon will not."""
    for _ in range(100):
        if not [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("command", "task", "changes"),
    [
        ([], "supersample", {"train.crop": 2, "model.consistent": True}),
        (TORCHRUN, "supersample", UNEQUAL),
        ([], "classify", MIXED),
    ],
)
def test_two_processes_learn_what_one_does(folder, two, settings, tmp_path, command, task, changes):
    run, made = folder(task=task, **changes), settings(task, **changes)
    finish(two(run, *command, task=task, **changes))
    train, val = (PackedDataset(run / "data" / "packed" / part, made.target) for part in ("train", "val"))
    assert len(train) % 2 == len(val) % 2 == 1
    alone = Training(training_task(made, train.classes), train, val, Compute(torch.device("cpu"), torch.float32))
    alone.run(Resume(tmp_path / "scratch"))
    alone.save(tmp_path / "one", tmp_path / "curve.csv")
    one, two = load_file(tmp_path / "one"), load_file(run / "models" / "model.safetensors")
    for name, weight in one.items():
        if name.endswith("qkv.bias"):  # that of keys changes no output: its gradient is rounding, which Adam scales up
            weight[16:32] = two[name][16:32]
        torch.testing.assert_close(two[name], weight, rtol=0, atol=3e-6, msg=name)
    curves = pd.read_csv(tmp_path / "curve.csv"), pd.read_csv(run / "reports" / "curve.csv")
    pd.testing.assert_frame_equal(*curves, rtol=1e-5, atol=1e-6)


def test_a_killed_process_stops_all_with_one_line_and_the_next_run_goes_on(folder, two, machines, wait_for_state):
    """SIGKILL of the process that writes, then of the one that started both; the last run is in two folders."""
    whole, run = folder("whole"), folder("killed")
    finish(two(whole, **LONG))
    process = two(run, **LONG)
    wait_for_state(process, run)
    pids = workers(process)
    os.kill(pids[0], signal.SIGKILL)
    told = finish(process, 1)
    assert told == [
        "train: process 1 of 2 was killed by SIGKILL (out of memory?): start again to go on from the last state"
    ]
    assert gone(pids)

    process = two(run, **LONG)
    assert "going on from epoch" in process.stderr.readline()
    pids = workers(process)
    process.kill()
    assert len(pids) == 2
    assert gone(pids)
    assert not (run / "models").exists()

    other = folder("other")
    told = [finish(process) for process in machines([run, other], [LONG, LONG])]
    assert told[0][0].startswith("going on from epoch")
    assert told[1] == []
    for name in ("models/model.safetensors", "reports/curve.csv"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
        assert not (other / name).exists()
    assert not list(run.glob(".resume/*"))


def test_interrupted_is_one_line(folder, two, wait_for_state):
    run = folder()
    process = two(run, **LONG)
    wait_for_state(process, run)
    pids = workers(process)
    process.send_signal(signal.SIGINT)
    assert finish(process, 130) == ["train: interrupted"]
    assert len(pids) == 2
    assert gone(pids)


@pytest.mark.parametrize(
    ("command", "changes", "reason"),
    [
        (
            [],
            {"train.lr": 10.0, "train.clip": 1e9, "train.optimizer": "sgd", "train.loss": "mse"},
            r"(the|val)\W?\w+ became \w+ in epoch 1 after \d+ steps: lower train.lr \(now 10\)",
        ),
        (TORCHRUN, {"train.processes": 1}, "train.processes is 1, but torchrun started 2: make them equal"),
    ],
)
def test_what_both_find_wrong_is_told_once(folder, two, command, changes, reason):
    told = [line for line in finish(two(folder(), *command, **changes), 1) if line.startswith("train:")]
    assert len(told) == 1
    assert re.match(f"train: {reason}", told[0])


def test_other_settings_on_another_machine_are_one_line(folder, machines):
    """And one on the machine that loses it."""
    processes = machines([folder("0"), folder("1")], [{}, {"train.lr": 0.1}])
    told = [finish(process, 1) for process in processes]
    assert told[0][0].startswith("train: process 1 lost another one: ")
    assert told[1] == ["train: process 2 has other settings, data, code, torch or threads than process 1"]
