"""Several processes that train one model: torch's DistributedDataParallel, started by torch's launcher, torchrun.

Process r of n learns from the r-th of n contiguous parts of every batch, on a CUDA device of its own or on the CPU.
"""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing import api, errors

from vitpipe.config import Train
from vitpipe.errors import InputError
from vitpipe.training.compute import Compute, select_compute


@dataclass(frozen=True)
class Group:
    """The processes that train together, as process `rank` of `size` sees them; by default this one alone."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    def means(self, values: dict[str, float], count: int) -> dict[str, float]:
        """Means over the images of all processes, from means over the `count` images of each."""
        if self.size == 1:
            return values
        sums = torch.tensor([*values.values(), 1.0], dtype=torch.float64, device=self.device) * count
        dist.all_reduce(sums)
        return dict(zip(values, (sums[:-1] / sums[-1]).tolist(), strict=True))

    def from_main(self, value: Any) -> Any:
        """The value that process 0 has."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def agree(self, run: str) -> None:
        """Raises InputError unless `run`, a hash of all that decides the result, is the same in process 0."""
        if self.from_main(run) != run:
            raise InputError(f"process {self.rank + 1} has other settings, data, code, torch or threads than process 1")


def launch(module: str, processes: int) -> None:
    """Runs `python -m module` in several processes on this machine and waits for them; none is left running.

    Together they have the threads that one process would have, unless OMP_NUM_THREADS says how many each has. Exits
    where a process failed and has said why. Raises InputError where a signal killed one.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    logging.disable(logging.ERROR)  # torchrun's own report of a failure has many lines
    options = ["--standalone", f"--nproc-per-node={processes}", f"--log-dir={os.devnull}", "-m", module]
    try:
        torchrun.run(torchrun.parse_args(options))
    except api.SignalException:
        raise KeyboardInterrupt from None
    except errors.ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            raise SystemExit(1) from None
        killed = f"process {rank + 1} of {processes} was killed by {signal.Signals(-failure.exitcode).name}"
        raise InputError(f"{killed} (out of memory?): start again to go on from the last state") from None


@contextmanager
def join(train: Train) -> Iterator[tuple[Group, Compute]]:
    """The processes that torchrun started, or this one alone, and what this one computes on.

    Raises InputError where they are not what the settings say, or one is lost. An error of all is told by the first.
    """
    if not dist.is_torchelastic_launched():
        yield Group(), select_compute(train)
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the launcher reports the interruption
    multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined] # ends with the launcher
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    try:
        if size != train.processes:
            raise InputError(f"train.processes is {train.processes}, but torchrun started {size}: make them equal")
        compute = select_compute(train, local)
        if compute.device.type == "cuda":
            torch.cuda.set_device(compute.device)
        dist.init_process_group("nccl" if compute.device.type == "cuda" else "gloo")
        yield Group(rank, size, str(compute.device)), compute
        dist.destroy_process_group()
    except Exception as error:
        lost = isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL", "onnection"))
        time.sleep(3 * (local or lost))  # the launcher stops this process meanwhile if another one tells the reason
        raise (InputError(f"process {rank + 1} lost another one: {error}".splitlines()[0]) if lost else error) from None
