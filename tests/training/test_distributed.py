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
import yaml
from safetensors.torch import load_file

from stages import train
from vitpipe.config import Train
from vitpipe.data.packing import pack
from vitpipe.errors import InputError
from vitpipe.training import distributed

SEVERAL = """
import contextlib, os, sys
from stages.train import main
from vitpipe.config import load_settings
from vitpipe.training import distributed
with distributed.join(load_settings().train) as joined:
    distributed.join = lambda _: contextlib.nullcontext(joined)
    for folder in sys.argv[1:]:
        os.chdir(folder)
        main(load_settings())
"""
"""The train stage in several folders, by one group of processes."""
MIXED = {"data.scale": 1, "train.crop": 3, "train.randaugment": 1, "train.mix": "both", "train.label_smoothing": 0.1}
UNEQUAL = {"train.batch": 64, "train.optimizer": "sgd", "train.lr": 0.5, "model.position": "sincos"}
"""All 39 images in one batch: parts of 19 and 20."""
LONG = {"train.epochs": 4, "train.batch": 2}
CASES = {
    "long": ("supersample", LONG),
    "plain": ("supersample", {"train.crop": 2, "model.consistent": True}),
    "unequal": ("supersample", UNEQUAL),
    "mixed": ("classify", MIXED),
}
WRITTEN = "models/model.safetensors", "reports/curve.csv"


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
    """Starts the train stage, or another command, in a folder, with two processes."""

    def start(folder: Path, *command: str, environment=None, **changes) -> subprocess.Popen:
        environment = {"OMP_NUM_THREADS": "1"} | (environment or {})
        return begin(folder, *command, environment=environment, **{"train.processes": 2} | changes)

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
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    return [int(pid) for pid in found if b"stages.train" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def gone(pids: list[int]) -> bool:
    """Whether none of them runs, or soon will not."""
    for _ in range(100):
        if not [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
            return True
        time.sleep(0.1)
    return False


def test_two_processes_learn_what_one_does_and_go_on_where_they_were_stopped(
    folder, two, machines, params, settings, monkeypatch, wait_for_state, tmp_path
):
    """By Ctrl-C, SIGKILL of the process that writes, and of the one that started both; the last run has two folders."""
    for name, (task, changes) in CASES.items():
        content = yaml.safe_dump(params(task, **{"train.processes": 2} | changes))
        (folder(name, task, **changes) / "params.yaml").write_text(content, encoding="utf-8")
    (tmp_path / "several.py").write_text(SEVERAL, encoding="utf-8")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    finish(two(tmp_path, *torchrun, "several.py", *(str(tmp_path / name) for name in CASES)))
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for name, (task, changes) in CASES.items():
        run, alone = tmp_path / name, tmp_path / f"{name} alone"
        alone.mkdir()
        (alone / "data").symlink_to(run / "data")
        monkeypatch.chdir(alone)
        train.main(settings(task, **changes))
        found, expected = (load_file(each / WRITTEN[0]) for each in (run, alone))
        for key, weight in expected.items():
            if key.endswith("qkv.bias"):  # that of keys changes no output: Adam scales the rounding of its gradient up
                weight[16:32] = found[key][16:32]
            torch.testing.assert_close(found[key], weight, rtol=0, atol=3e-6, msg=f"{name}: {key}")
        pd.testing.assert_frame_equal(*(pd.read_csv(each / WRITTEN[1]) for each in (run, alone)), rtol=1e-5, atol=1e-6)

    whole, run, other = tmp_path / "long", folder("killed"), folder("other")
    process = two(run, **LONG)
    wait_for_state(process, run)
    pids = workers(process)
    process.send_signal(signal.SIGINT)
    assert finish(process, 130) == ["train: interrupted"]
    assert len(pids) == 2
    assert gone(pids)

    process = two(run, **LONG)
    assert "going on from epoch" in process.stderr.readline()
    pids = workers(process)
    os.kill(pids[0], signal.SIGKILL)
    line = "train: process 1 of 2 was killed by SIGKILL (out of memory?): start again to go on from the last state"
    assert finish(process, 1) == [line]
    assert gone(pids)

    process = two(run, **LONG)
    assert "going on from epoch" in process.stderr.readline()
    pids = workers(process)
    process.kill()
    assert len(pids) == 2
    assert gone(pids)
    assert not (run / "models").exists()

    told = [finish(process) for process in machines([run, other], [LONG, LONG])]
    assert told[0][0].startswith("going on from epoch")
    assert told[1] == []
    for name in WRITTEN:
        assert (run / name).read_bytes() == (whole / name).read_bytes()
        assert not (other / name).exists()
    assert not list(run.glob(".resume/*"))


def test_what_both_find_wrong_is_told_once(folder, two):
    changes = {"train.lr": 10.0, "train.clip": 1e9, "train.optimizer": "sgd", "train.loss": "mse"}
    told = finish(two(folder(), **changes), 1)
    assert len(told) == 1
    assert re.match(r"train: (the|val)\W?\w+ became \w+ in epoch 1 after \d+ steps: lower train.lr \(now 10\)", told[0])


def test_another_number_of_processes_than_the_settings_say_is_refused(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed.signal, "signal", lambda *_: None)  # or this process would end with its parent
    monkeypatch.setattr(distributed.multiprocessing, "_prctl_pr_set_pdeathsig", lambda _: None)
    line = r"train\.processes is 1, but torchrun started 2: make them equal"
    with pytest.raises(InputError, match=line), distributed.join(Train.model_construct(processes=1)):
        pass


def test_other_settings_on_another_machine_are_one_line(folder, machines):
    """And one on the machine that loses it."""
    processes = machines([folder("0"), folder("1")], [{}, {"train.lr": 0.1}])
    told = [finish(process, 1) for process in processes]
    assert told[0][0].startswith("train: process 1 lost another one: ")
    assert told[1] == ["train: process 2 has other settings, data, code, torch or threads than process 1"]
