"""Attention of our models and of those of others: right names, right weights, same outputs, nothing left behind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitpipe.errors import InputError
from vitpipe.explain.capture import capture
from vitpipe.models.attention import Attention, attend
from vitpipe.sources.torchvision import import_torchvision


def decoder() -> nn.Module:
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 2, 32, batch_first=True), 2)


def transformer(**options) -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, **options)


def recorded(model: nn.Module, *inputs, **options):
    """What capture saw, after checking that the output is the same and that nothing is left behind."""
    with torch.no_grad():
        before = model(*inputs, **options)
        with capture(model) as seen:
            torch.testing.assert_close(model(*inputs, **options), before, rtol=0, atol=1e-5)
        assert torch.equal(model(*inputs, **options), before)
    assert clean(model)
    for weights in seen.values():
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    return seen


def clean(model: nn.Module) -> bool:
    hooks = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    modes = torch.overrides._get_current_function_mode_stack()
    return not hooks and not modes and torch.backends.mha.get_fastpath_enabled()


def shapes(seen) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weights.shape) for name, weights in seen.items()}


@pytest.mark.parametrize(
    ("task", "tokens", "changes"),
    [
        ("supersample", 16, {}),
        ("classify", 17, {}),
        ("classify", 17, {"model.attention": "uniform"}),
        ("supersample", 16, {"model.attention": "place", "model.place": True}),
    ],
)
def test_our_models(made, images, task, tokens, changes):
    _, model = made(task, **changes)
    seen = recorded(model, images(5))
    assert shapes(seen) == {f"encoder.blocks.{i}.attn": (5, 2, tokens, tokens) for i in range(2)}


def test_weights_are_softmax_of_queries_and_keys():
    torch.manual_seed(0)
    attention = Attention(16, 2).eval()
    x, context = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    mask = torch.rand(3, 1, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.7
    (seen,) = recorded(attention, x, context, mask).values()
    q, k = F.linear(x, attention.qkv.weight[:16]), F.linear(context, attention.qkv.weight[16:32])
    q, k = q + attention.qkv.bias[:16], k + attention.qkv.bias[16:32]
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        logits = (q[..., part] @ k[..., part].mT / 8**0.5).masked_fill(~mask[:, 0], -torch.inf)
        torch.testing.assert_close(seen[:, head], logits.softmax(-1))


def test_timm_with_fused_attention():
    import_torchvision()  # timm imports it, too
    import timm

    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64).eval()
    assert model.blocks[0].attn.fused_attn
    seen = recorded(model, torch.randn(2, 3, 64, 64))
    assert shapes(seen) == {f"blocks.{i}.attn": (2, 3, 17, 17) for i in range(12)}


def test_torchvision():
    import_torchvision()
    from torchvision.models import vit_b_16

    seen = recorded(vit_b_16().eval(), torch.randn(1, 3, 224, 224))
    names = [f"encoder.layers.encoder_layer_{i}.self_attention" for i in range(12)]
    assert shapes(seen) == dict.fromkeys(names, (1, 12, 197, 197))


def test_a_decoder_has_self_attention_and_cross_attention_of_different_sizes():
    torch.manual_seed(0)
    model = decoder().eval()
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    seen = recorded(model, torch.randn(2, 5, 16), torch.randn(2, 16, 16), tgt_mask=causal, tgt_is_causal=True)
    each = {"self_attn": (2, 2, 5, 5), "multihead_attn": (2, 2, 5, 16)}
    assert shapes(seen) == {f"layers.{i}.{name}": shape for i in range(2) for name, shape in each.items()}
    assert not seen["layers.0.self_attn"].triu(1).any()


@pytest.mark.parametrize(
    "options", [{}, {"src_key_padding_mask": torch.tensor([[False] * 5, [False] * 3 + [True] * 2])}]
)
def test_the_fast_path_is_off_only_meanwhile(options):
    torch.manual_seed(0)
    model, x = transformer(enable_nested_tensor=False).eval(), torch.randn(2, 5, 16)
    seen = recorded(model, x, **options)
    assert shapes(seen) == {f"layers.{i}.self_attn": (2, 2, 5, 5) for i in range(2)}
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with capture(model):
            model(x)
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize("asked", [{"need_weights": False}, {}, {"average_attn_weights": False}])
def test_the_caller_gets_the_weights_that_it_asks_for(asked):
    torch.manual_seed(0)
    model, x = nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True).eval(), torch.randn(3, 5, 16)
    expected = model(x, x, x, **asked)
    with capture(model) as seen:
        found = model(x, x, x, **asked)
    torch.testing.assert_close(found, expected)
    each_head = model(x, x, x, average_attn_weights=False)[1]
    torch.testing.assert_close(seen[""], each_head)


def test_dropout_is_in_the_output_and_not_in_the_weights():
    class Dropping(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    multi = nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True).train()
    x = torch.randn(2, 4, 6, 16)
    for model, call in ((Dropping(), lambda m: m(x)), (multi, lambda m: m(x[0], x[0], x[0])[0])):
        torch.manual_seed(0)
        with capture(model) as seen:
            outputs = [call(model) for _ in range(2)]
        assert not torch.allclose(*outputs)
        torch.testing.assert_close(seen[""].sum(-1), torch.ones(seen[""].shape[:-1]))
        half = len(seen[""]) // 2
        torch.testing.assert_close(seen[""][:half], seen[""][half:])


MASK = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()


@pytest.mark.parametrize(
    "options",
    [
        {"attn_mask": MASK},
        {"attn_mask": torch.zeros(3, 4).masked_fill(~MASK, -torch.inf) + torch.arange(4.0)},
        {"is_causal": True},
        {"scale": 0.7},
        {"enable_gqa": True},
    ],
    ids=["bool", "float", "causal", "scale", "grouped"],
)
def test_every_option_of_scaled_dot_product_attention(options):
    class Model(nn.Module):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(*inputs, **options)

    random = torch.Generator().manual_seed(0)
    heads = 4 if "enable_gqa" in options else 2
    q, k, v = (torch.randn(2, h, n, 8, generator=random) for h, n in ((heads, 3), (2, 4), (2, 4)))
    expected, model = F.scaled_dot_product_attention(q, k, v, **options), Model()
    with capture(model) as seen:
        assert torch.equal(F.scaled_dot_product_attention(q, k, v, **options), expected)  # of no module: not recorded
        torch.testing.assert_close(model(q, k, v), expected)
    assert seen[""].shape == (2, heads, 3, 4)
    empty = torch.tensor([0.0 if "attn_mask" in options and row == 1 else 1.0 for row in range(3)])
    torch.testing.assert_close(seen[""].sum(-1), empty.expand(2, heads, 3))


def test_weights_have_gradients_because_the_output_is_computed_from_them(made, images):
    _, model = made("classify")
    with capture(model) as seen:
        total = model(images()).sum()
        slopes = torch.autograd.grad(total, list(seen.values()))
    assert all(slope.abs().max() > 0 for slope in slopes)


def test_bfloat16_models_have_float32_weights(made, images):
    _, model = made("classify")
    with torch.no_grad():
        exact = model(images())
        with torch.autocast("cpu", torch.bfloat16), capture(model) as seen:
            found = model(images())
    torch.testing.assert_close(found.float(), exact, rtol=0.1, atol=0.1)
    for weights in seen.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 17))


def test_several_calls_are_one_batch(made, images):
    _, model = made()
    with torch.no_grad(), capture(model) as whole:
        model(images(5))
    with torch.no_grad(), capture(model) as parts:
        model(images(5)[:2])
        model(images(5)[2:])
    for name, weights in whole.items():
        torch.testing.assert_close(parts[name], weights)


def test_calls_of_different_shapes_are_an_error():
    model, message = Attention(16, 2), r"different shapes, \(1, 2, 5, 5\) and \(1, 2, 6, 6\): capture one"
    with capture(model):
        model(torch.randn(1, 5, 16))
        with pytest.raises(InputError, match=message):
            model(torch.randn(1, 6, 16))
    assert clean(model)


@pytest.mark.parametrize("call", [False, True], ids=["not called", "no attention"])
def test_nothing_recorded_is_an_error(call):
    model = nn.Linear(2, 2) if call else decoder()
    message = f"^no attention was recorded: call {type(model).__name__} inside the block"
    with pytest.raises(InputError, match=message), capture(model):
        _ = call and model(torch.ones(1, 2))
    assert clean(model)


def test_a_failure_inside_leaves_nothing_behind(made, images):
    _, model = made()
    with pytest.raises(RuntimeError, match="normalized_shape"), capture(model):
        model.encoder.blocks[0](torch.randn(1, 16, 17), (4, 4))
    assert clean(model)
    with capture(model) as seen:
        with pytest.raises(RuntimeError, match="normalized_shape"):
            model.encoder.blocks[0](torch.randn(1, 16, 17), (4, 4))
        attend(*torch.randn(3, 1, 2, 5, 8))  # no module runs any more, so this is not recorded
        model.encoder(model.stem(images(1)))
    assert list(seen) == ["encoder.blocks.0.attn", "encoder.blocks.1.attn"]
