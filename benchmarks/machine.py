"""What the numbers were measured on."""

import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from vitpipe.training.compute import cpu_multiplies_bfloat16

PACKAGES = ("torch", "torchvision", "timm", "vit-pytorch", "spandrel")
SIDE, SMALL = 2048, 256  # of the matrices whose product shows the peak; of those that show that it works
TIMES = 20


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name as the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def types() -> tuple[str, ...]:
    """What the processor multiplies; bfloat16 without instructions for it is emulated, and would take hours."""
    return ("bfloat16", "float32") if cpu_multiplies_bfloat16() else ("float32",)


def facts(side: int = SIDE) -> dict[str, Any]:
    """Processor, cores, threads, versions, date, and the peaks in GFLOP/s of products of this side."""
    return {
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "peak": {name: round(peak(name, side)) for name in types()[::-1]},
        "date": datetime.now(UTC).date().isoformat(),
    }


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def product(dtype: str, side: int = SIDE, device: str = "cpu") -> Callable[[], object]:
    """A function that multiplies two square matrices, into memory that it has."""
    kind = getattr(torch, dtype)
    left, right, out = (torch.randn(side, side, device=device).to(kind) for _ in range(3))
    return lambda: torch.mm(left, right, out=out)


def peak(dtype: str, side: int) -> float:
    """GFLOP/s of the fastest of some matrix products in this type, 2 operations for each multiply and add."""
    multiply = product(dtype, side)
    seconds = []
    for _ in range(TIMES):
        start = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds) / 1e9
