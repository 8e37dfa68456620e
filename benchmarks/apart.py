"""Work in a process of its own, on some of the processors, and how much memory it took."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from vitpipe.errors import InputError

STATUS = Path("/proc/self/status")


def apart(work: Callable[..., Any], *arguments: Any, cores: int) -> Any:
    """What `work`, a function of a module, returns in a fresh process that may use so many of our processors."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=limit, initargs=(cores,)) as pool:
        return pool.submit(work, *arguments).result()


def limit(cores: int) -> None:
    """Leaves this process so many of its processors; those it starts inherit that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def peak() -> float:
    """The most memory this process had resident so far, in MB.

    Not `getrusage`: on Linux that starts with what the process had which started this one.

    Raises:
        InputError: the system is not Linux.
    """
    if not STATUS.exists():
        raise InputError(f"peak memory is read from {STATUS}, which only Linux has")
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6
