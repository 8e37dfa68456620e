"""Where and how precisely a model runs."""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.utils.deterministic

from vitpipe.config import Train
from vitpipe.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names of malloc.h


@dataclass(frozen=True)
class Compute:
    """A device, and the type that matrix products run in there."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager:
        """Runs matrix products and convolutions in `dtype`; weights stay float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    @contextmanager
    def repeatable(self) -> Iterator[None]:
        """Has CUDA libraries take only kernels that give the same bits every time; CPUs' do so anyway.

        Raises RuntimeError where a computation has none, or CUBLAS_WORKSPACE_CONFIG was set to a value that allows
        cuBLAS others.
        """
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(before or self.device.type == "cuda")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def choose(train: Train) -> Compute:
    """Resolves `train.device` and `train.precision`.

    `auto` means CUDA where there is one, and bfloat16 where the hardware multiplies it (on other
    processors it is emulated and slower than float32). With float32 on CUDA convolutions
    run in TF32 where the device has it, as torch has it by default.

    Raises:
        InputError: CUDA is asked for and absent.
    """
    cuda = torch.cuda.is_available()
    if train.device == "cuda" and not cuda:
        raise InputError("train.device is 'cuda', but torch finds no CUDA device here: use auto or cpu")
    device = torch.device("cuda" if cuda and train.device != "cpu" else "cpu")
    if device.type == "cpu":
        keep_memory()
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without, its products may differ between runs
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if train.precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_multiplies_bfloat16()
        return Compute(device, torch.bfloat16 if fast else torch.float32)
    return Compute(device, getattr(torch, train.precision))


def cpu_multiplies_bfloat16() -> bool:
    """Whether the processor has AVX512-BF16 or AMX-BF16 instructions."""
    return bool(capabilities().get("avx512_bf16")) or cpu_has_amx()


def cpu_has_amx() -> bool:
    """Whether the processor has AMX-BF16 instructions: units that multiply whole tiles of matrices."""
    return bool(capabilities().get("amx_bf16"))


@cache
def capabilities() -> Mapping[str, Any]:
    """What torch knows of the processor."""
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


def keep_memory() -> None:
    """Makes this process keep freed memory for its next tensors instead of handing it back to the system.

    glibc maps every large block anew and gives it back when freed; filling the fresh pages costs more than what is
    then computed in them. Only glibc on Linux is told so; elsewhere nothing happens. Changes no result.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
