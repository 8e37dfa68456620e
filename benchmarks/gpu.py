"""What the sections on a GPU share: whether there is one, what it can do, and the time of what it does."""

from typing import Any

import torch

from benchmarks.machine import product
from benchmarks.timing import Step
from vitpipe.errors import InputError

SIDE = 8192  # of the matrices whose product shows the peak


def require_cuda() -> None:
    """Raises InputError where there is no CUDA device."""
    if not torch.cuda.is_available():
        raise InputError("this section needs a CUDA device, and torch finds none here")


def gpu_facts() -> dict[str, Any]:
    """`name` of the GPU and its `peak` in TFLOP/s by type."""
    return {"name": torch.cuda.get_device_name(), "peak": {name: peak(name) for name in ("float32", "bfloat16")}}


def peak(dtype: str) -> float:
    """TFLOP/s of the fastest of some products of two large matrices."""
    multiply = product(dtype, SIDE, "cuda")
    return round(2 * SIDE**3 / min(timed(multiply, 3) for _ in range(5)) / 1e12, 1)


def timed(step: Step, count: int) -> float:
    """Mean seconds of so many steps, with all that they left the device to do."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / count
