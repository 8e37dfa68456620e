import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from vitpipe.models import attention
from vitpipe.models.attention import Attention, attend, attention_weights


def torchs_own(ours: Attention, dim: int) -> torch.nn.MultiheadAttention:
    theirs = torch.nn.MultiheadAttention(dim, ours.heads, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = ours.proj.weight.data, ours.proj.bias.data
    return theirs


@given(batch=st.integers(1, 3), queries=st.integers(1, 20), keys=st.integers(1, 20), sharp=st.floats(0.1, 10))
def test_both_ways_to_compute_it_agree(batch, queries, keys, sharp):
    torch.manual_seed(0)
    # in float64: in float32 the rounding of large logits is as large as what a fault would change
    q, k, v = (torch.randn(batch, 2, n, 8, dtype=torch.float64) * sharp for n in (queries, keys, keys))
    mask = torch.rand(batch, 1, queries, keys) < 0.7
    mask[..., 0] = True
    for allowed in (None, mask):
        torch.testing.assert_close(attend(q, k, v, allowed), F.scaled_dot_product_attention(q, k, v, allowed))


def test_many_keys_go_through_the_fused_kernel(monkeypatch):
    q, k, v = torch.randn(3, 1, 2, 6, 8)
    monkeypatch.setattr(attention, "attention_weights", lambda *args: pytest.fail("computed step by step"))
    monkeypatch.setattr(attention, "LONGEST", 5)
    torch.testing.assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("cross", [False, True])
def test_agrees_with_torchs_own_layer(cross):
    torch.manual_seed(0)
    ours, x = Attention(32, 4), torch.randn(3, 9, 32)
    context = torch.randn(3, 5, 32) if cross else x
    mask = torch.rand(9, context.shape[1]) < 0.8
    mask[:, 0] = True
    theirs = torchs_own(ours, 32)
    torch.testing.assert_close(ours(x, context if cross else None), theirs(x, context, context)[0])
    expected, _ = theirs(x, context, context, attn_mask=~mask)
    torch.testing.assert_close(ours(x, context if cross else None, mask), expected)


def test_weights_are_a_softmax_over_the_keys_that_are_allowed():
    torch.manual_seed(0)
    q, k = torch.randn(2, 2, 3, 4, 8)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    weights = attention_weights(q, k, mask)
    assert (weights.masked_select(~mask) == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 4))
    added = attention_weights(q, k, torch.zeros(4, 4).masked_fill(~mask, -torch.inf), scale=8**-0.5)
    torch.testing.assert_close(added, weights)
    expected = ((q @ k.mT) / 8**0.5).exp()
    torch.testing.assert_close(attention_weights(q, k), expected / expected.sum(-1, keepdim=True))


def test_without_an_output_projection_the_outputs_of_heads_are_concatenated():
    torch.manual_seed(0)
    layer, x = Attention(16, 4, proj=False, qkv_bias=False), torch.randn(2, 5, 16)
    q, k, v = (layer.qkv(x)[..., start : start + 16].unflatten(-1, (4, 4)).transpose(1, 2) for start in (0, 16, 32))
    expected = torch.cat([(attention_weights(q, k) @ v)[:, head] for head in range(4)], dim=-1)
    torch.testing.assert_close(layer(x), expected)
    assert [name for name, _ in layer.named_parameters()] == ["qkv.weight"]


@pytest.mark.parametrize("cross", [False, True])
def test_controls_are_attention_with_known_weights(cross):
    """Set on a layer as it is, because the weights of queries and keys stay; these have no influence."""
    torch.manual_seed(0)
    layer, x, mask = Attention(16, 2), torch.randn(3, 5, 16), torch.randn(2, 5, 5)
    context = torch.randn(3, 5, 16) if cross else x
    value = layer.project(context, slice(32, None))
    windows = mask.softmax(-1).repeat_interleave(8, 0)  # of each dimension of the values
    expected = {
        "uniform": layer.proj(value.mean(1, keepdim=True)).expand(-1, 5, -1),
        "none": layer.proj(value),
        "place": layer.proj(torch.einsum("dnm,bmd->bnd", windows, value)),
    }
    weights = dict(layer.named_parameters())
    for kind, output in expected.items():
        layer.kind = kind
        torch.testing.assert_close(layer(x, context if cross else None, mask), output)
        control = Attention(16, 2, kind=kind)
        control.load_state_dict(layer.state_dict())
        assert torch.equal(control(x, context if cross else None, mask), layer(x, context if cross else None, mask))
        other = Attention(16, 2, kind=kind)
        other.load_state_dict(weights | {"qkv.weight": weights["qkv.weight"].clone()})
        other.qkv.weight.data[:32], other.qkv.bias.data[:32] = torch.randn(32, 16), torch.randn(32)
        assert torch.equal(other(x, context if cross else None, mask), layer(x, context if cross else None, mask))
    layer.kind = "none"
    assert torch.equal(layer(context), expected["none"])
    layer.kind = "softmax"
    assert min(float((layer(x, context, mask) - output).detach().abs().max()) for output in expected.values()) > 0.01


def test_a_mode_sees_the_call_and_may_answer_it():
    class Seen(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is attend:
                calls.append([tuple(part.shape) for part in args[:3]])
                return torch.zeros_like(args[0])
            return func(*args, **(kwargs or {}))

    calls: list[list[tuple[int, ...]]] = []
    layer, x = Attention(16, 2, proj=False), torch.randn(1, 5, 16)
    with Seen():
        assert not layer(x).any()
    assert calls == [[(1, 2, 5, 8)] * 3]
    assert layer(x).any()


def test_bfloat16_is_close_to_float32():
    torch.manual_seed(0)
    layer, x = Attention(16, 2), torch.randn(2, 50, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found.float(), layer(x), rtol=0.05, atol=0.02)


def test_heads_that_do_not_divide():
    with pytest.raises(AssertionError, match="heads 3 must divide dim 16"):
        Attention(16, 3)
