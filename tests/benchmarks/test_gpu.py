"""The section on a GPU, as far as it can be tried without one."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

if any(find_spec(package) is None for package in ("timm", "vit_pytorch", "spandrel")):
    pytest.skip("the extra `bench` is not installed; make bench does that", allow_module_level=True)

from benchmarks import gpu, gpu_document
from benchmarks.peers import PEERS, Shape
from vitpipe.config import Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.training.compute import Compute

CPU = Compute(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of the clock instead of a device."""

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.now = 0.0

        def record(self) -> None:
            self.now = time.perf_counter()

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, end: "Event") -> float:
            return 1000 * (end.now - self.now)

    monkeypatch.setattr(torch.cuda, "Event", Event)


@pytest.fixture
def parts(packed: Path) -> dict[str, PackedDataset]:
    return {part: PackedDataset(packed / part) for part in ("train", "val", "test")}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_device_one_line_says_so(settings: Callable[..., Settings]) -> None:
    with pytest.raises(InputError, match="needs a CUDA device, and torch finds none here"):
        gpu.run(settings())


def test_time_is_that_of_a_step() -> None:
    slow, slower = (gpu.timed(lambda s=s: time.sleep(s), 3) for s in (0.01, 1))
    assert 0.01 < slow < 1 < slower


def test_a_ratio_says_how_many_times_as_fast_ours_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "in_turns", lambda turns, rounds: {"ours": [1.0, 2.0], "slow": [4.0, 8.0]})
    ours, slow = gpu.compared({"ours": lambda: None, "slow": lambda: None}, 12, "ours")
    assert (ours["ratio"]["median"], slow["ratio"]["median"]) == (1.0, 4.0)
    assert (ours["images"]["median"], slow["images"]["median"]) == (9.0, 2.25)


def test_every_way_and_library_is_timed(settings: Callable[..., Settings], parts: dict[str, PackedDataset]) -> None:
    ticks: list[None] = []
    steps = gpu.steps(settings(), parts, CPU, (2, 4), lambda: ticks.append(None))
    assert [(row["batch"], row["name"]) for row in steps] == [(b, name) for b in (2, 4) for name in gpu.WAYS]
    rows = gpu.encoders({"tiny": Shape(16, 32, 1, 2, batch=1)}, CPU.device, lambda: ticks.append(None))
    assert [row["name"] for row in rows] == ["ours", *PEERS] * 2
    content = {"gpu": {"name": "A card", "peak": {"float32": 51.5}}, "dtype": "bfloat16"}
    told = gpu_document.markdown(content | {"steps": steps, "encoders": rows})
    assert "A card, whose fastest product of two large matrices reached 51.5 TFLOP/s in float32." in told
    assert "| 4 | recorded, images on the GPU |" in told
    assert "| tiny | float32 | 8 |" in told
    assert len(ticks) == 2 + 2
