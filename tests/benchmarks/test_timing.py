"""Turns, medians and the memory of a process of its own."""

import os
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.timing import in_turns, measure, order, quartiles, seconds_per_step


def test_the_first_round_does_not_count() -> None:
    taken: list[str] = []

    def turn(name: str) -> Callable[[], float]:
        def take() -> float:
            taken.append(name)
            return float(len(taken))

        return take

    found = in_turns({name: turn(name) for name in "abc"}, rounds=2)
    lines = [["abc"[place] for place in order(3, number)] for number in (0, 0, 1)]
    assert taken == [name for line in lines for name in line]
    assert found == {name: [4.0 + lines[1].index(name), 7.0 + lines[2].index(name)] for name in "abc"}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 10])
def test_each_comes_after_each_other_and_at_each_place_equally_often(count: int) -> None:
    rounds = count * (2 if count % 2 else 1)
    orders = [order(count, number) for number in range(rounds)]
    assert all(sorted(line) == list(range(count)) for line in orders)
    pairs = Counter(pair for line in orders for pair in pairwise(line))
    assert len(pairs) == count * (count - 1)
    assert len(set(pairs.values())) <= 1
    assert set(Counter((place, who) for line in orders for place, who in enumerate(line)).values()) == {rounds // count}


def test_seconds_of_as_many_steps_as_begin_in_time() -> None:
    now = [0.0]
    steps: list[float] = []

    def step() -> None:
        steps.append(now[0])
        now[0] += 0.25

    assert seconds_per_step(step, least=0.6, clock=lambda: now[0]) == 0.25
    assert steps == [0.0, 0.25, 0.5]
    assert seconds_per_step(step, least=0.1, clock=lambda: now[0]) == 0.25
    assert len(steps) == 4, "one step longer than the turn is enough"


def test_median_and_quartiles() -> None:
    assert quartiles([5.0, 1.0, 2.0, 4.0, 100.0]) == {"median": 4.0, "q1": 2.0, "q3": 5.0}


def fill(megabytes: int, path: str) -> Callable[[], object]:
    """A step that fills so much memory and notes which process did."""

    def step() -> None:
        np.ones(megabytes * 2**17)
        with Path(path).open("a") as file:
            file.write(f"{os.getpid()}\n")

    return step


def end() -> Callable[[], object]:
    def step() -> None:
        os._exit(3)

    return step


def test_each_has_a_process_of_its_own_whose_memory_is_told(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("small", "large")}
    sizes = {"small": 20, "large": 120}
    wanted = {name: (fill, (sizes[name], str(path)), False) for name, path in paths.items()}
    seconds, memory = measure(wanted, rounds=2, least=0)
    assert {name: len(found) for name, found in seconds.items()} == {"small": 2, "large": 2}
    assert all(value > 0 for found in seconds.values() for value in found)
    for name, size in sizes.items():
        assert size <= memory[name] / 2**20 < size + 12
    processes = [set(path.read_text().split()) for path in paths.values()]
    assert [len(own) for own in processes] == [1, 1]
    assert len(set.union(*processes) | {str(os.getpid())}) == 3


def test_a_process_that_ends_is_told() -> None:
    with pytest.raises(RuntimeError, match="a process that was timed has ended"):
        measure({"end": (end, (), False)}, rounds=1)
