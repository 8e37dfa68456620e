"""Fair times: each competitor in its own process, taking turns, with the median and the quartiles of all rounds."""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from benchmarks.machine import SMALL, cores, product, types
from vitpipe.training.compute import keep_memory

TURN = 0.3  # seconds that a turn takes at least, so that the clock and a single interruption matter little
BYTES = 1 if sys.platform == "darwin" else 1024  # in the unit of ru_maxrss

PRELOADED = ("benchmarks.peers", "benchmarks.growth")  # imported once, not by every process anew

Step = Callable[[], object]


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median, first and third quartile, to five significant digits."""
    found = np.quantile(values, (0.5, 0.25, 0.75))
    return {name: float(f"{value:.5g}") for name, value in zip(("median", "q1", "q3"), found, strict=True)}


def in_turns(turns: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each competitor's turn returns in each round, after one round that warms up and does not count."""
    found: dict[str, list[float]] = {name: [] for name in turns}
    names = list(turns)
    for place in order(len(names), 0):
        turns[names[place]]()
    for i in range(rounds):
        for place in order(len(names), i):
            found[names[place]].append(turns[names[place]]())
    return found


def order(count: int, number: int) -> list[int]:
    """The order of so many competitors in a round, so that each comes after each of the others equally often.

    What a turn leaves behind, a processor that has clocked down or full caches, would otherwise fall to the same
    one in every round. It is balanced after `count` rounds, or twice as many where that is odd (Williams 1949,
    Experimental designs balanced for the estimation of residual effects of treatments).
    """
    zigzag = [(k + 1) // 2 if k % 2 else -(k // 2) for k in range(count)]
    row = [(place + number) % count for place in zigzag]
    return row[::-1] if count % 2 and number // count % 2 else row


def seconds_per_step(step: Step, least: float = TURN, clock: Callable[[], float] = time.perf_counter) -> float:
    """Mean seconds of a step over as many as begin within `least` seconds, at least one."""
    start, count = clock(), 0
    while True:
        step()
        count += 1
        passed = clock() - start
        if passed >= least:
            return passed / count


class Worker:
    """A process of its own for one competitor, which waits between its turns.

    Args:
        make: returns the step to time; a function of a module, as it is sent by name.
        arguments: what it is called with.
        keep: whether the process keeps freed memory, as vitpipe sets its own.
        least: seconds that a turn takes at least.
    """

    def __init__(
        self, make: Callable[..., Step], arguments: tuple[Any, ...], *, keep: bool, least: float = TURN
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, make, arguments, keep, least), daemon=True)
        self.process.start()
        other.close()

    def turn(self) -> float:
        """Seconds of a step in a turn that is taken now."""
        return self.ask("turn")

    def memory(self) -> int:
        """Bytes by which the process's resident memory was ever larger than before it made the step."""
        return int(self.ask("memory"))

    def ask(self, what: str) -> float:
        try:
            self.connection.send(what)
            return self.connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise RuntimeError("a process that was timed has ended: its own message stands above") from None

    def close(self) -> None:
        self.connection.close()
        self.process.join()


@contextmanager
def workers(wanted: dict[str, tuple[Callable[..., Step], tuple[Any, ...], bool]], least: float) -> Iterator[dict]:
    """Workers by name for (make, arguments, keep); they end with the block."""
    found: dict[str, Worker] = {}
    try:
        for name, (make, arguments, keep) in wanted.items():
            found[name] = Worker(make, arguments, keep=keep, least=least)
        yield found
    finally:
        for worker in found.values():
            worker.close()


def serve(
    connection: Connection, make: Callable[..., Step], arguments: tuple[Any, ...], keep: bool, least: float
) -> None:
    """What a worker's process does until its connection is closed."""
    if keep:
        keep_memory()
    torch.set_num_threads(cores())
    for dtype in types():  # loads what every competitor needs: threads, kernels
        product(dtype, SMALL)()
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = make(*arguments)
    while True:
        try:
            wanted = connection.recv()
        except (EOFError, ConnectionResetError, KeyboardInterrupt):
            return
        if wanted == "turn":
            connection.send(seconds_per_step(step, least))
        else:
            connection.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) * BYTES)


def measure(
    wanted: dict[str, tuple[Callable[..., Step], tuple[Any, ...], bool]], rounds: int, least: float = TURN
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of a step of each competitor in each round, and each one's peak memory in bytes."""
    with workers(wanted, least) as running:
        seconds = in_turns({name: worker.turn for name, worker in running.items()}, rounds)
        return seconds, {name: worker.memory() for name, worker in running.items()}
