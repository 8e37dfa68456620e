"""Two processes on this machine train as one does, fail with one line and go on where they were killed."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.distributed as dist
import yaml
from safetensors.torch import load_file

from vitpipe.data.batches import rank_slice
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.errors import InputError
from vitpipe.training.compute import Compute
from vitpipe.tasks import task
from vitpipe.training.checkpoint import Resume
from vitpipe.training.distributed import Group
from vitpipe.training.launch import launched
from vitpipe.training.loop import train

ROOT = Path(__file__).parents[2]
CPU = Compute(torch.device("cpu"), torch.float32)
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
CLASSIFY = {
    "task.name": "classify",
    "data.scale": 1,
    "train.crop": 3,
    "train.randaugment": 1,
    "train.mix": "both",
    "train.label_smoothing": 0.1,
}
LONG = {"train.epochs": 12, "train.batch": 2}


@pytest.fixture
def folder(tmp_path, settings, shapes, table):
    """Makes the folder of a run: 39 images to learn from, 7 to validate on, neither a multiple of 2."""

    def made(name: str = "run", **changes) -> Path:
        run = tmp_path / name
        (run / "data" / "packed").mkdir(parents=True)
        parts = table["part"].where(~table.index.isin(["000.png", "040.png"]), "test")
        pack(
            table.assign(part=parts, odd=table["odd"] * 2 - 1),
            shapes,
            settings(**changes).data,
            run / "data" / "packed",
        )
        return run

    return made


@pytest.fixture
def begin(params):
    """Starts the train stage in a folder, by default as DVC does, with two processes."""
    started = []

    def start(folder: Path, *command: str, environment: dict[str, str] | None = None, **changes) -> subprocess.Popen:
        (folder / "params.yaml").write_text(yaml.safe_dump(params(**{"train.processes": 2} | changes)))
        hidden = ("DVC_ROOT", "RANK", "WORLD_SIZE")
        inherited = {name: value for name, value in os.environ.items() if name not in hidden}
        started.append(
            subprocess.Popen(
                [sys.executable, *command, "-m", "stages.train"],
                cwd=folder,
                env=inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | (environment or {}),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def begin_two(begin):
    """Starts process 0 and 1 of a group, each in a folder of its own, as two machines would without a shared one."""

    def start(folders: list[Path], changes: list[dict[str, object]]) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return [
            begin(folder, environment=common | {"RANK": str(rank)}, **changes[rank])
            for rank, folder in enumerate(folders)
        ]

    return start


def finish(process: subprocess.Popen) -> str:
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return errors


def lines(errors: str) -> list[str]:
    """What was said, without the progress bar."""
    told = re.sub(r"train: +\d+%\|[^\]]*\]", "\n", errors).replace("\r", "\n")
    return [line.strip() for line in told.splitlines() if line.strip()]


def workers(process: subprocess.Popen) -> list[int]:
    """The processes that one has started, by rank."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"stages.train" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def wait_for_state(process: subprocess.Popen, folder: Path) -> None:
    while not list(folder.glob(".resume/*/state.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def gone(pids: list[int]) -> bool:
    """Whether none of them runs, or soon will not."""
    for _ in range(100):
        if not [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("command", "changes"),
    [
        ([], {"train.crop": 2}),
        # fewer images than a batch: parts of 19 and 20
        (TORCHRUN, {"train.batch": 64, "train.optimizer": "sgd", "train.lr": 0.05, "model.position": "sincos"}),
        ([], CLASSIFY),
    ],
)
def test_two_processes_learn_what_one_does(folder, begin, settings, tmp_path, command, changes):
    run = folder(**changes)
    errors = finish(begin(run, *command, **changes))
    made = settings(**changes)
    learned, held_out = (PackedDataset(run / "data" / "packed" / part, made.target) for part in ("train", "val"))
    assert len(learned) % 2 == len(held_out) % 2 == 1
    one = tmp_path / "one"
    train(task(made.task.name), made, learned, held_out, CPU, Resume(one / "scratch"), one, one / "curve.csv")
    alone, together = load_file(one / "model.safetensors"), load_file(run / "models" / "model.safetensors")
    for name, weight in alone.items():
        if name.endswith("qkv.bias"):  # that of keys changes no output: its gradient is rounding, which Adam scales up
            weight[16:32] = together[name][16:32]
        torch.testing.assert_close(together[name], weight, rtol=0, atol=3e-6, msg=name)
    curves = pd.read_csv(one / "curve.csv"), pd.read_csv(run / "reports" / "curve.csv")
    pd.testing.assert_frame_equal(*curves, rtol=1e-5, atol=1e-6)
    assert sum(line.startswith("epoch 1/2") for line in lines(errors)) == 1


def test_a_killed_process_stops_all_with_one_line_and_the_next_run_goes_on(folder, begin, begin_two):
    """SIGKILL of the process that writes, then of the one that started both; the last run is in two folders."""
    whole, run = folder("whole"), folder("killed")
    finish(begin(whole, **LONG))
    process = begin(run, **LONG)
    wait_for_state(process, run)
    pids = workers(process)
    os.kill(pids[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    told = [line for line in lines(errors) if not line.startswith("epoch ")]
    assert len(told) == 1
    assert told[0].startswith("train: process 1 of 2 was killed by SIGKILL and the others were stopped")
    assert gone(pids)
    assert not (run / "models").exists()

    process = begin(run, **LONG)
    assert "going on from epoch" in process.stderr.readline()
    pids = workers(process)
    process.kill()
    assert len(pids) == 2
    assert gone(pids)
    assert not (run / "models").exists()

    other = folder("other")
    errors = [finish(process) for process in begin_two([run, other], [LONG, LONG])]
    assert errors[0].startswith("going on from epoch")
    assert errors[1] == ""
    for name in ("models/model.safetensors", "reports/curve.csv"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
        assert not (other / name).exists()
    assert not list(run.glob(".resume/*"))


def test_interrupted_is_one_line(folder, begin):
    run = folder()
    process = begin(run, **LONG)
    wait_for_state(process, run)
    pids = workers(process)
    assert len(pids) == 2
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert [line for line in lines(errors) if not line.startswith("epoch ")] == ["train: interrupted"]
    assert gone(pids)


def test_what_both_find_wrong_is_told_once(folder, begin):
    run = folder()
    process = begin(run, **{"train.lr": 10.0, "train.clip": 1e9, "train.optimizer": "sgd", "train.loss": "mse"})
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    told = [line for line in lines(errors) if not line.startswith("epoch ")]
    assert len(told) == 1
    assert " in epoch 1" in told[0]
    assert "lower train.lr (now 10)" in told[0]


def test_another_number_than_torchrun_started_is_one_line(folder, begin):
    process = begin(folder(), *TORCHRUN, **{"train.processes": 1})
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    told = [line for line in lines(errors) if line.startswith("train:")]
    assert told == ["train: train.processes is 1, but torchrun started 2 (WORLD_SIZE): make them equal"]


def test_a_machine_that_is_lost_is_one_line(folder, begin_two):
    """Process 0 has no launcher that would stop it, and none tells it why."""
    folders = [folder("0"), folder("1")]
    processes = begin_two(folders, [LONG, LONG])
    wait_for_state(processes[0], folders[0])
    processes[1].kill()
    _, errors = processes[0].communicate(timeout=30)
    assert processes[0].returncode == 1
    assert lines(errors)[-1].startswith("train: process 1 of 2 lost another one (")
    assert "Traceback" not in errors


def test_other_settings_on_another_machine_are_one_line(folder, begin_two):
    processes = begin_two([folder("0"), folder("1")], [{}, {"train.lr": 0.1}])
    told = [process.communicate(timeout=30)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    assert lines(told[0]) == []
    assert len(lines(told[1])) == 1
    assert lines(told[1])[0].startswith("train: process 2 of 2 has other settings, data or code than process 1")


def test_parts_are_contiguous_and_cover_all():
    for count in (2, 3, 7, 8):
        assert [row for rank in range(2) for row in range(count)[part(count, rank, 2)]] == list(range(count))
    assert {len(range(10)[part(10, rank, 4)]) for rank in range(4)} == {2, 3}
    with pytest.raises(InputError, match=r"train\.processes is 3, but a part has only 2 images"):
        part(2, 0, 3)


def test_steps_send_no_buffers(tmp_path):
    """They never change: positions, and what reduces and enlarges."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert not Group(0, 2).wrap(torch.nn.BatchNorm1d(3)).will_sync_module_buffers()
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_half_of_torchruns_environment_is_none(monkeypatch, missing):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    assert launched()
    monkeypatch.delenv(missing)
    assert not launched()
