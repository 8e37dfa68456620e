"""The encoders that are compared compute the same thing at the same size."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from vitpipe.config import Settings, load_settings

if any(find_spec(package) is None for package in ("timm", "vit_pytorch")):
    pytest.skip("the extra `bench` is not installed; make bench does that", allow_module_level=True)

from benchmarks import encoders, machine, peers
from benchmarks.peers import ENCODERS, PEERS, Shape
from vitpipe.models import attention

TINY = Shape(9, 16, 2, 4, mlp=3, batch=2)


def counted_flops(model: torch.nn.Module, tokens: torch.Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(tokens)
    return counter.get_total_flops()


def test_flops_by_hand() -> None:
    # a block of 2 tokens of width 4, MLP 8: queries, keys, values and projection are 4 products of 2x4 by 4x4, the MLP
    # has 2 of 2x4 by 4x8; all heads together take 2x4 by 4x2 and 2x2 by 2x4
    multiplied = 4 * (2 * 4 * 4) + 2 * (2 * 4 * 8) + 2 * (2 * 4 * 2)
    assert Shape(2, 4, 1, 2, mlp=2).flops == 2 * multiplied
    assert Shape(2, 4, 5, 1, mlp=2).flops == 5 * 2 * multiplied


def test_flops_as_torch_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "written_out", lambda q: True)
    assert counted_flops(peers.ours(TINY), torch.randn(1, 9, 16)) == TINY.flops


def test_peers_have_our_size() -> None:
    own = peers.parameters("ours", TINY)
    assert peers.parameters("unbiased", TINY) == peers.parameters("vit-pytorch", TINY)
    block = 16 * 48 + 48 + 16 * 16 + 16 + 2 * 16 * 48 + 48 + 16 + 4 * 16
    assert own == 2 * block + 2 * 16
    missing = {"timm": 0, "torchvision": 0, "vit-pytorch": 2 * 48}  # no bias of queries, keys and values
    assert {peer: own - peers.parameters(peer, TINY) for peer in PEERS} == missing


@pytest.mark.parametrize("name", PEERS)
def test_peers_compute_what_ours_computes(name: str) -> None:
    """With equal weights, found by their order: sizes, and that each is a pre-norm encoder with a last norm."""
    torch.manual_seed(0)
    own, other = ENCODERS["unbiased" if name == "vit-pytorch" else "ours"](TINY), ENCODERS[name](TINY)
    weights = dict(own.named_parameters())
    if name == "vit-pytorch":  # its last norm comes first
        weights = {key: weights[key] for key in sorted(weights, key=lambda key: not key.startswith("2."))}
    with torch.no_grad():
        for mine, theirs in zip(weights.values(), other.parameters(), strict=True):
            theirs.copy_(mine)
    tokens = torch.randn(2, 9, 16)
    torch.testing.assert_close(other.eval()(tokens), own(tokens), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", encoders.KINDS)
@pytest.mark.parametrize("name", ENCODERS)
def test_steps(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "written_out", attention.written_out)  # restored afterwards
    step = peers.make(name, TINY, kind, "bfloat16")
    first, second = step(), step()
    assert first.shape == (2, 9, 16)
    assert torch.equal(first, second) == (kind == "forward"), "training changes the weights"


def test_shapes_are_those_of_the_models() -> None:
    settings = load_settings()
    found = encoders.shapes(settings)
    model, side = settings.model, settings.data.input_size
    assert found["super-sampler"] == Shape((side // model.patch) ** 2, model.dim, model.depth, model.heads, model.mlp)
    assert found["CIFAR-10"] == Shape(64, 128, 4, 4, 2.0)
    assert found["ViT-S"].flops == pytest.approx(9.2e9, rel=0.03)  # 4.6 GMACs, DeiT-S


def test_quick_run_and_what_is_written_of_it(settings: Callable[..., Settings], monkeypatch: Any) -> None:
    monkeypatch.setattr(encoders, "KINDS", ("training",))
    monkeypatch.setattr(encoders, "types", lambda: ("float32",))
    found = encoders.run(settings(), quick=True, root=Path())
    assert len(found["rows"]) == 3 + 2 * len(PEERS)
    for row in found["rows"]:
        assert row["images"]["q1"] <= row["images"]["median"] <= row["images"]["q3"]
        assert 0 < row["share"] < 1
        assert row["memory"] > 0
    own = next(row for row in found["rows"] if row["encoder"] == "ours")
    assert own["ratio"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}
    assert own["path"] == "written"


@pytest.mark.parametrize("written", [True, False])
def test_other_path_is_the_one_that_is_not_taken(written: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "written_out", lambda q: written)
    calls: list[str] = []
    for make in (peers.ours, peers.other):
        fused = partial(lambda name, q, k, v: calls.append(name) or v, make.__name__)
        monkeypatch.setattr(attention.F, "scaled_dot_product_attention", fused)
        make(TINY)(torch.randn(1, 9, 16))
    assert calls == ["other" if written else "ours"] * TINY.depth


@pytest.mark.parametrize(("amx", "forward"), [(True, "fused"), (False, "written")])
def test_the_path_is_told_of_training_and_forward_apart(amx: bool, forward: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(attention, "cpu_has_amx", lambda: amx)
    shape = Shape(256, 64, 1, 2)
    assert [peers.path(shape, kind, "bfloat16") for kind in ("training", "forward")] == ["written", forward]
    assert {peers.path(shape, kind, "float32") for kind in encoders.KINDS} == {"fused"}


@pytest.mark.parametrize(("fast", "types"), [(True, ("bfloat16", "float32")), (False, ("float32",))])
def test_only_what_the_processor_multiplies_is_timed(monkeypatch: pytest.MonkeyPatch, fast: bool, types: tuple) -> None:
    monkeypatch.setattr(machine, "cpu_multiplies_bfloat16", lambda: fast)
    monkeypatch.setattr(encoders, "compare", lambda shape, kind, dtype, *rest: ([{"dtype": dtype}], 1.0))
    found = encoders.run(load_settings(), quick=True)
    assert {row["dtype"] for row in found["rows"]} == set(types)
    assert set(machine.facts(side=8)["peak"]) == set(types)


def test_rows_from_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours takes 1 s, without bias 0.5, the peers 2 and in the last round 3; the fastest matrix product 0.5."""

    def measure(wanted: dict[str, Any], rounds: int, least: float) -> tuple[dict[str, list[float]], dict[str, int]]:
        seconds = {name: [1.0, 1.0, 1.0] if name.startswith("ours") else [2.0, 2.0, 3.0] for name in wanted}
        return seconds | {"unbiased True": [0.5] * 3, "peak": [0.5, 1.0, 1.0]}, dict.fromkeys(wanted, 5_000_000)

    monkeypatch.setattr(encoders, "measure", measure)
    rows, peak = encoders.compare(TINY, "training", "bfloat16", rounds=3, least=0)
    assert peak == pytest.approx(4 * encoders.SIDE**3 / 1e9)
    found = {(row["encoder"], row["kept"]): row for row in rows}
    assert set(found) == {(name, True) for name in ENCODERS} | {(name, False) for name in PEERS}
    assert found["timm", False]["ratio"] == {"median": 2.0, "q1": 2.0, "q3": 2.5}, "ours is twice as fast, or more"
    assert found["timm", False]["unbiased"] == {"median": 4.0, "q1": 4.0, "q3": 5.0}
    assert found["timm", False]["images"]["median"] == 1.0
    assert found["ours", True]["images"]["median"] == 2.0
    assert found["ours", True]["memory"] == 5.0
    big = encoders.compare(Shape(256, 256, 6, 16), "training", "bfloat16", rounds=3, least=0)[0]
    forward = encoders.compare(Shape(256, 256, 6, 16), "forward", "bfloat16", rounds=3, least=0)[0]
    assert big[0]["share"] == pytest.approx(3 * Shape(256, 256, 6, 16).flops * 32 / 1e9 / peak, abs=1e-4)
    assert forward[0]["share"] == pytest.approx(big[0]["share"] / 3, abs=1e-4)
