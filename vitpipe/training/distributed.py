"""Several processes that train one model together: torch's DistributedDataParallel, started by torchrun's launcher.

Process r of n learns from the r-th of n contiguous parts of every batch; the gradients are averaged. Each process
computes on its own CUDA device (nccl) or shares the processors with the others of its machine (gloo).
"""

import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from vitpipe.errors import InputError
from vitpipe.training.launch import end_with_launcher, launched

GRACE = 3.0  # seconds in which the launcher stops a process that has nothing to tell


@dataclass(frozen=True)
class Group:
    """The processes that train together, seen by one of them; alone it sends nothing."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and tells how it goes."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, so that its gradients are averaged over the processes; they must have equal weights."""
        if self.size == 1:
            return model
        with warnings.catch_warnings():  # torch 2.13 has another name for it, which older ones don't know
            warnings.simplefilter("ignore", FutureWarning)
            # buffers never change, so they need not be sent with every step
            return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    def means(self, values: dict[str, float], count: int) -> dict[str, float]:
        """Means over the images of all processes, of means over the `count` images of each. The same in all."""
        if self.size == 1:
            return values
        sums = [value * count for value in values.values()]
        totals = torch.tensor([*sums, count], dtype=torch.float64, device=self.device)
        dist.all_reduce(totals)
        *sums, images = totals.tolist()
        return {name: total / images for name, total in zip(values, sums, strict=True)}

    def from_main(self, value: Any) -> Any:
        """The value that the main process has; what the others have does not count."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def agree(self, run: str) -> None:
        """Raises InputError where this process is about to do another run than the main process.

        `run` names it by a hash of what decides its result.
        """
        if self.from_main(run) != run:
            raise InputError(
                f"process {self.rank + 1} of {self.size} has other settings, data or code than process 1, or another "
                "torch or number of threads: they must be the same on all machines"
            )


@contextmanager
def join(processes: int, device: str) -> Iterator[Group]:
    """The group of processes that torchrun started, or that of this process alone.

    When several fail, only the first says why; the others wait to be stopped. When the launcher dies they stop.

    Raises:
        InputError: torchrun started another number of processes than `train.processes`, there is no CUDA device for
            this one, or another process was lost.
    """
    if not launched():
        yield Group()
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the launcher is the one that tells of it
    end_with_launcher()
    store, rank, size = next(dist.rendezvous("env://"))
    try:
        if size != processes:
            raise InputError(
                f"train.processes is {processes}, but torchrun started {size} (WORLD_SIZE): make them equal"
            )
        if device == "cuda":
            use_own_device()
        dist.init_process_group("nccl" if device == "cuda" else "gloo", store=store, rank=rank, world_size=size)
        yield Group(rank, size, device)
        dist.destroy_process_group()
    except Exception as error:
        lost = isinstance(error, RuntimeError)  # perhaps another process: gloo raises no other kind
        if not lost and first(store):
            raise
        time.sleep(GRACE)
        if not lost or not first(store):
            sys.exit(1)
        if any(word in str(error) for word in ("gloo", "NCCL", "onnection")):
            raise InputError(f"process {rank + 1} of {size} lost another one ({str(error).splitlines()[0]})") from None
        raise


def use_own_device() -> None:
    """Makes the CUDA device with the number of this process on its machine the one that `cuda` means."""
    rank, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if rank >= devices:
        raise InputError(f"process {rank + 1} on this machine has no CUDA device, there are {devices}: start fewer")
    torch.cuda.set_device(rank)


def first(store: dist.Store) -> bool:
    """Whether this is the first process that asks; also where the store, with its machine, is gone."""
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:
        return True
