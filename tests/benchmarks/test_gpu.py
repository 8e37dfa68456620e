"""The sections on a GPU, as far as they can be tried without one."""

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

if any(find_spec(package) is None for package in ("timm", "vit_pytorch", "spandrel")):
    pytest.skip("the extra `bench` is not installed; make bench does that", allow_module_level=True)

from benchmarks import gpu, gpu_document, gpu_quality, gpu_speed
from benchmarks.networks import Network, SmallEDSR, Variant
from benchmarks.peers import PEERS, Shape
from vitpipe.config import Settings
from vitpipe.data.batches import Packed
from vitpipe.errors import InputError
from vitpipe.nn.compute import Compute

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
def parts(packed: Path) -> dict[str, Packed]:
    return {part: Packed(packed / part) for part in ("train", "val", "test")}


def test_a_network_that_diverges_at_last_is_no_result(
    settings: Callable[..., Settings], parts: dict[str, Packed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_quality, "train", lambda *_: ({"diverged": True}, None))
    variant = Variant(lambda made: SmallEDSR(width=4, blocks=1, scale=made.data.scale))
    with pytest.raises(InputError, match=r"A network diverged with learning rate 0\.001"):
        gpu_quality.trained("A network", Network("tiny", {"it": variant}), variant, settings(), parts, CPU, 60, 6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("section", [gpu_speed, gpu_quality])
def test_without_a_device_one_line_says_so(section: Any, settings: Callable[..., Settings]) -> None:
    with pytest.raises(InputError, match="needs a CUDA device, and torch finds none here"):
        section.run(settings())


def test_time_is_that_of_a_step() -> None:
    slow, slower = (gpu.timed(lambda s=s: time.sleep(s), 3) for s in (0.01, 1))
    assert 0.01 < slow < 1 < slower


def test_every_way_and_library_is_timed(settings: Callable[..., Settings], parts: dict[str, Packed]) -> None:
    steps = gpu_speed.steps(settings(), parts, CPU, (2, 4))
    assert [(row["batch"], row["name"]) for row in steps] == [(b, name) for b in (2, 4) for name in gpu_speed.WAYS]
    rows = gpu_speed.encoders({"tiny": Shape(16, 32, 1, 2, batch=1)}, CPU.device)
    assert [row["name"] for row in rows] == ["ours", *PEERS] * 2
    content = {"gpu": {"name": "A card", "peak": {"float32": 51.5}}, "dtype": "bfloat16"}
    told = gpu_document.speed(content | {"steps": steps, "encoders": rows})
    assert "A card, whose fastest product of two large matrices reached 51.5 TFLOP/s in float32." in told
    assert "| 4 | recorded, images on the GPU |" in told
    assert "| tiny | float32 | 8 |" in told


def test_the_rate_with_the_best_validation_is_trained_on(
    settings: Callable[..., Settings], parts: dict[str, Packed], monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = {1e-3: 30.0, 2e-3: 32.0, 4e-3: None}
    seen = []

    def train(trial: Any, *rest: Any) -> tuple[dict[str, Any], Any]:
        seen.append((trial.lr, trial.seconds))
        score = reached[trial.lr]
        record = {"parameters": 5, "images": 7, "diverged": score is None}
        return record | {"points": [{"val": {"psnr": score}}]}, trial.variant.build(settings())

    monkeypatch.setattr(gpu_quality, "train", train)
    variant = Variant(lambda made: SmallEDSR(width=4, blocks=1, scale=made.data.scale), batch=8)
    network = Network("tiny", {"it": variant})
    row = gpu_quality.trained("A network", network, replace(variant), settings(), parts, CPU, 60, 6)
    assert seen == [(1e-3, 6), (2e-3, 6), (4e-3, 6), (2e-3, 60)]
    assert (row["network"], row["lr"], row["batch"], row["images"]) == ("A network", 2e-3, 8, 7)
    content = {"gpu": {"name": "A card", "peak": {"float32": 51.5}}, "seconds": [60, 6], "rates": [0.001, 0.002]}
    content |= {"dtype": "bfloat16", "images": {"train": 3925, "val": 44, "test": 33}}
    bicubic = {part: row[part] for part in ("val", "test")}
    told = gpu_document.quality(content | {"bicubic": bicubic, "networks": [row]})
    assert "trained in bfloat16 for 60 seconds on the same 3,925 images" in told
    assert "| A network | +0.000 | 1.000 | +0.000 | 5 | 7 | 8 | 0.002 |" in told
