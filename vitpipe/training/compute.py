"""Where and how precisely a model runs."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.utils.deterministic

from vitpipe.config import Train
from vitpipe.errors import InputError


@dataclass(frozen=True)
class Compute:
    """A device, and the type of matrix products there."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager:
        """Runs matrix products and convolutions in `dtype`; weights stay float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)


def select_compute(train: Train, local_rank: int = 0) -> Compute:
    """Resolves `train.device` and `train.precision`.

    `auto` means CUDA where there is a device, and bfloat16 where the hardware multiplies it (other processors emulate
    it, which is slower than float32). With float32 on CUDA, convolutions run in TF32 where the device has it, which is
    torch's default.

    Args:
        local_rank: number of this process on its machine; it gets the CUDA device of this number.

    Raises:
        InputError: there is no CUDA device for this process.
    """
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if train.device == "cuda" and not devices:
        raise InputError("train.device is 'cuda', but torch finds no CUDA device here: use auto or cpu")
    cuda = devices > 0 and train.device != "cpu"
    if cuda and local_rank >= devices:
        raise InputError(f"process {local_rank + 1} on this machine needs a CUDA device, but there are {devices}")
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if train.precision == "auto":
        fast = torch.cuda.is_bf16_supported() if cuda else cpu_multiplies_bfloat16()
        return Compute(device, torch.bfloat16 if fast else torch.float32)
    return Compute(device, getattr(torch, train.precision))


def cpu_multiplies_bfloat16() -> bool:
    """Whether the processor has AVX512-BF16 or AMX-BF16 instructions."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def use_deterministic_cuda() -> None:
    """Makes CUDA give the same bits in every run, for the rest of this process. CPU kernels are deterministic.

    torch then takes deterministic kernels and raises RuntimeError for an operation that has none. cuBLAS gets a fixed
    workspace, which must happen before its first product; a CUBLAS_WORKSPACE_CONFIG in the environment is kept.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time only
