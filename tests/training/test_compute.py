import ctypes
import platform
import subprocess
import sys

import pytest
import torch

from vitpipe.config import Train
from vitpipe.errors import InputError
from vitpipe.models import compute
from vitpipe.training.compute import Compute, choose


def train(device: str = "auto", precision: str = "auto") -> Train:
    return Train.model_construct(device=device, precision=precision)


@pytest.fixture
def machine(monkeypatch):
    """Pretends a machine with or without CUDA, whose processor multiplies bfloat16 or not."""

    def pretend(cuda: bool, fast: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: fast)
        monkeypatch.setattr(compute, "cpu_multiplies_bfloat16", lambda: fast)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "fast", "device", "expected"),
    [
        (False, False, "auto", ("cpu", torch.float32)),
        (False, True, "auto", ("cpu", torch.bfloat16)),
        (True, True, "auto", ("cuda", torch.bfloat16)),
        (True, False, "auto", ("cuda", torch.float32)),
        (True, True, "cpu", ("cpu", torch.bfloat16)),
        (True, True, "cuda", ("cuda", torch.bfloat16)),
    ],
)
def test_auto_takes_what_the_machine_has(machine, cuda, fast, device, expected):
    machine(cuda, fast)
    chosen = choose(train(device=device))
    assert (chosen.device.type, chosen.dtype) == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_asked_for_is_used(machine, precision):
    machine(False, precision == "float32")
    assert choose(train(precision=precision)).dtype is getattr(torch, precision)


def test_cuda_that_is_absent(machine):
    machine(False, False)
    with pytest.raises(InputError, match=r"train\.device is 'cuda', but torch finds no CUDA device here: use auto"):
        choose(train(device="cuda"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_runs_products_in_that_type_and_leaves_weights_alone(dtype):
    layer = torch.nn.Linear(4, 4)
    with Compute(torch.device("cpu"), dtype).autocast():
        assert layer(torch.ones(1, 4)).dtype is dtype
    assert layer.weight.dtype is torch.float32


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_cuda_needs_to_be_told_to_repeat_itself(device):
    with Compute(torch.device(device), torch.float32).repeatable():
        assert torch.are_deterministic_algorithms_enabled() is (device == "cuda")
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with Compute(torch.device(device), torch.float32).repeatable():
            assert torch.are_deterministic_algorithms_enabled()
        assert torch.are_deterministic_algorithms_enabled(), "as it was"
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these are names of x86's instructions")
def test_torch_knows_the_processor_by_the_names_that_are_asked_for():
    assert {"avx512_bf16", "amx_bf16"} <= set(compute.capabilities())


@pytest.mark.parametrize(
    ("found", "bfloat16", "amx"),
    [({}, False, False), ({"avx512_bf16": True}, True, False), ({"avx512_bf16": False, "amx_bf16": True}, True, True)],
)
def test_what_a_processor_has(monkeypatch, found, bfloat16, amx):
    monkeypatch.setattr(compute, "capabilities", lambda: found)
    assert (compute.cpu_multiplies_bfloat16(), compute.cpu_has_amx()) == (bfloat16, amx)


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs Linux's glibc")
@pytest.mark.parametrize("kept", [True, False])
def test_freed_memory_is_used_again(kept):
    """In a process of its own: what is told to the allocator lasts.

    Now and then a block is taken anew although it is kept, as glibc before 2.38 passes over a free one that only just
    fits: eight of 100 at most were seen. So the middle one of many counts.
    """
    code = f"""
import resource
import torch
from vitpipe.training.compute import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if {kept}:
    keep_memory()
print(sorted(faults() for _ in range(41))[20])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(found.stdout) < 10) is kept
