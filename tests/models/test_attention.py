from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitpipe.models import attention
from vitpipe.models.attention import Attention, written_out


def attend(layer: Attention, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and weights by the explicit path."""
    layer.recorder = []
    out = layer(x)
    (weights,) = layer.recorder
    layer.recorder = None
    return out, weights


@settings(deadline=None)
@given(
    batch=st.integers(1, 3),
    tokens=st.integers(1, 20),
    heads=st.sampled_from([1, 2, 3, 6]),
    sharp=st.floats(0.1, 10),
    written=st.booleans(),
)
def test_both_paths_equal_the_recorded_one_and_rows_sum_to_one(batch, tokens, heads, sharp, written):
    torch.manual_seed(0)
    layer, x = Attention(dim=18, heads=heads), torch.randn(batch, tokens, 18) * sharp
    out, weights = attend(layer, x)
    assert weights.shape == (batch, heads, tokens, tokens)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(batch, heads, tokens))
    with patch.object(attention, "written_out", lambda q: written):
        torch.testing.assert_close(layer(x), out, rtol=1e-5, atol=1e-5 * sharp)


def test_agrees_with_torchs_own_layer():
    torch.manual_seed(0)
    ours, theirs = Attention(dim=32, heads=4), torch.nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = ours.project.weight.data, ours.project.bias.data
    x = torch.randn(3, 9, 32)
    expected, expected_weights = theirs(x, x, x, average_attn_weights=False)
    out, weights = attend(ours, x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(weights, expected_weights)
    torch.testing.assert_close(ours(x), expected)


def test_without_projection_the_heads_are_joined_as_they_are():
    torch.manual_seed(0)
    layer, x = Attention(dim=16, heads=4, projection=False, bias=False), torch.randn(2, 5, 16)
    out, weights = attend(layer, x)
    values = layer.qkv.weight[32:] @ x.mT  # b d n; row d belongs to head d / 4
    for head in range(4):
        joined = weights[:, head] @ values[:, head * 4 : head * 4 + 4].mT
        torch.testing.assert_close(out[..., head * 4 : head * 4 + 4], joined)
    torch.testing.assert_close(layer(x), out)
    assert [name for name, _ in layer.named_parameters()] == ["qkv.weight"]


def test_gradients_agree_too():
    torch.manual_seed(0)
    layer, x = Attention(dim=16, heads=2), torch.randn(2, 5, 16)
    gradients = []
    for recorder in (None, []):
        layer.recorder = recorder
        layer.zero_grad()
        layer(x).square().sum().backward()
        gradients.append(layer.qkv.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_bfloat16_records_float32_rows_that_sum_to_one():
    layer = Attention(dim=16, heads=2)
    with torch.autocast("cpu", torch.bfloat16):
        _, weights = attend(layer, torch.randn(2, 50, 16))
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 50))


def test_heads_that_do_not_divide():
    with pytest.raises(AssertionError, match="heads 3 must divide dim 16"):
        Attention(dim=16, heads=3)


@pytest.mark.parametrize(
    ("shape", "dtype", "plain", "amx"),
    [
        ((2, 4, 64, 32), torch.bfloat16, True, True),
        ((2, 4, 256, 32), torch.bfloat16, True, True),
        ((2, 4, 128, 32), torch.float32, True, True),
        ((2, 4, 129, 32), torch.float32, False, False),
        ((2, 4, 256, 8), torch.float32, True, False),
        ((2, 4, 256, 9), torch.float32, False, False),
        ((1, 1, 1025, 32), torch.bfloat16, False, False),  # its weights would fill the memory
    ],
)
@pytest.mark.parametrize("learned", [True, False])
def test_where_products_are_written_out(shape, dtype, plain, amx, learned, monkeypatch):
    for has_amx, expected in ((False, plain), (True, amx and learned)):
        monkeypatch.setattr(attention, "cpu_has_amx", lambda has_amx=has_amx: has_amx)
        assert written_out(torch.empty(shape, dtype=dtype, requires_grad=learned)) is expected
        assert not written_out(torch.empty(shape, dtype=dtype, requires_grad=learned, device="meta"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_paths_give_the_same_output_and_gradients(monkeypatch, dtype):
    torch.manual_seed(0)
    layer, x = Attention(dim=64, heads=8), torch.randn(2, 20, 64)
    results = []
    for written in (True, False):
        monkeypatch.setattr(attention, "written_out", lambda _, written=written: written)
        layer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            out = layer(x).float()
        out.square().sum().backward()
        results.append((out.detach(), layer.qkv.weight.grad.clone()))
    tolerance = 1e-5 if dtype is torch.float32 else 2e-2
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))
