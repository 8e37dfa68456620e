import os
import platform

import pytest
import torch

from vitpipe.config import Train
from vitpipe.errors import InputError
from vitpipe.training import compute
from vitpipe.training.compute import Compute, cpu_multiplies_bfloat16, select_compute, use_deterministic_cuda


@pytest.fixture
def machine(monkeypatch):
    """Pretends a machine with some CUDA devices, whose processors multiply bfloat16 or not."""

    def pretend(devices: int, fast: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: fast)
        monkeypatch.setattr(compute, "cpu_multiplies_bfloat16", lambda: fast)

    return pretend


@pytest.mark.parametrize(
    ("devices", "fast", "device", "precision", "expected"),
    [
        (0, False, "auto", "auto", ("cpu", torch.float32)),
        (0, True, "auto", "auto", ("cpu", torch.bfloat16)),
        (1, True, "auto", "auto", ("cuda", torch.bfloat16)),
        (1, False, "auto", "auto", ("cuda", torch.float32)),
        (1, True, "cpu", "auto", ("cpu", torch.bfloat16)),
        (1, True, "cuda", "auto", ("cuda", torch.bfloat16)),
        (0, True, "auto", "float32", ("cpu", torch.float32)),
        (0, False, "auto", "bfloat16", ("cpu", torch.bfloat16)),
    ],
)
def test_auto_takes_what_the_machine_has(machine, devices, fast, device, precision, expected):
    machine(devices, fast)
    found = select_compute(Train.model_construct(device=device, precision=precision))
    assert (found.device.type, found.dtype) == expected
    assert not torch.are_deterministic_algorithms_enabled()


def test_every_process_has_a_cuda_device_of_its_own(machine):
    machine(2, True)
    train = Train.model_construct(device="cuda", precision="auto")
    assert select_compute(train, 1).device == torch.device("cuda", 1)
    with pytest.raises(InputError, match="process 3 on this machine needs a CUDA device, but there are 2"):
        select_compute(train, 2)
    machine(0, False)
    with pytest.raises(InputError, match=r"train\.device is 'cuda', but torch finds no CUDA device here: use auto"):
        select_compute(train)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_runs_products_in_that_type_and_leaves_weights_alone(dtype):
    layer = torch.nn.Linear(4, 4)
    with Compute(torch.device("cpu"), dtype).autocast():
        assert layer(torch.ones(1, 4)).dtype is dtype
    assert layer.weight.dtype is torch.float32


@pytest.mark.parametrize("own", [None, ":16:8"])
def test_deterministic_cuda_keeps_what_the_user_set(monkeypatch, own):
    monkeypatch.setattr(os, "environ", {"CUBLAS_WORKSPACE_CONFIG": own} if own else {})
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    before = torch.are_deterministic_algorithms_enabled()
    use_deterministic_cuda()
    assert torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (own or ":4096:8")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these are names of x86's instructions")
@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="this torch does not tell")
def test_torch_knows_the_processor_by_these_names():
    assert {"avx512_bf16", "amx_bf16"} <= set(torch.cpu.get_capabilities())


@pytest.mark.parametrize(
    ("found", "fast"), [({}, False), ({"avx512_bf16": True}, True), ({"avx512_bf16": False, "amx_bf16": True}, True)]
)
def test_what_a_processor_has(monkeypatch, found, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert cpu_multiplies_bfloat16() is fast
