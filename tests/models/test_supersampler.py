import numpy as np
import pytest
import torch
from PIL import Image

from vitpipe.data.pixels import normalize, to_uint8
from vitpipe.models.consistency import Consistency, reduction
from vitpipe.models.supersampler import pixel_shuffle, upsample

PURE = {"conv_channels": 0, "conv_blocks": 0}


@pytest.mark.parametrize("patch", [1, 2, 3, 6, 12])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("skip", ["nearest", "bicubic"])
@pytest.mark.parametrize("changes", [{}, PURE, PURE | {"place": True}, PURE | {"depth": 0}], ids=str)
def test_untrained_is_exactly_its_skip(supersampler, patch, scale, skip, changes):
    lr = torch.rand(2, 3, 12, 12) * 2 - 1
    out = supersampler(patch=patch, scale=scale, skip=skip, **changes)(lr)
    assert out.shape == (2, 3, 12 * scale, 12 * scale)
    assert torch.equal(out, upsample(lr, scale, skip))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_pixel_shuffle_is_torchs_with_columns_last_in_memory(order):
    x = torch.randn(2, 18, 5, 4).to(memory_format=order)
    made = pixel_shuffle(x, 3)
    assert torch.equal(made, torch.nn.functional.pixel_shuffle(x, 3))
    assert made.is_contiguous()


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("skip", ["nearest", "bicubic"])
def test_a_consistent_model_gives_what_reduces_to_its_input(supersampler, scale, skip):
    torch.manual_seed(1)
    lr = torch.rand(2, 3, 12, 12) * 2 - 1
    net, free = (supersampler(scale=scale, skip=skip, consistent=consistent) for consistent in (True, False))
    for each in (net, free):
        torch.nn.init.normal_(each.head.weight, std=0.1, generator=torch.Generator().manual_seed(2))
    reduce = reduction(12, scale).float()
    torch.testing.assert_close(reduce @ net(lr) @ reduce.mT, lr, rtol=0, atol=1e-5)
    torch.testing.assert_close(net(lr), Consistency(12, scale)(free(lr), lr), rtol=0, atol=1e-5)


BLOCK = ("layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias")
ENCODER_BLOCK = (
    *("norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias"),
    *("attn.proj.weight", "attn.proj.bias", "norm2.weight", "norm2.bias"),
    *("mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"),
)


def test_weights_have_the_names_and_values_that_were_published(supersampler):
    """Saved weights must load, and a seed must give the same model, in later versions too."""
    net = supersampler(depth=1)
    assert list(net.state_dict()) == [
        *("stem.0.weight", "stem.0.bias", *(f"stem.1.{name}" for name in BLOCK)),
        *("encoder.pos_embed", "encoder.patch_embed.weight", "encoder.patch_embed.bias"),
        *(f"encoder.blocks.0.{name}" for name in ENCODER_BLOCK),
        *("encoder.norm.weight", "encoder.norm.bias", "patch_unembed.weight", "patch_unembed.bias"),
        *(f"tail.0.{name}" for name in BLOCK),
        *("head.weight", "head.bias"),
    ]
    assert sum(p.numel() for p in net.parameters()) == 8340
    weights = (net.encoder.pos_embed, net.patch_unembed.weight, net.encoder.blocks[0].mlp[2].weight)
    assert [float(w.detach().abs().sum()) for w in weights] == pytest.approx([3.8798, 142.5536, 44.7009], abs=1e-4)
    torch.nn.init.constant_(net.head.weight, 0.1)
    out = net(torch.linspace(-1, 1, 432).view(1, 3, 12, 12)).detach()
    assert [float(out.mean()), float(out[0, 0, 0, 0]), float(out[0, 2, -1, -1])] == pytest.approx(
        [-0.67304, -1.44953, 0.45344], abs=1e-4
    )


@pytest.mark.parametrize("patch", [1, 2, 3, 6])
@pytest.mark.parametrize("changes", [{}, PURE | {"place": True}], ids=str)
def test_one_step_uses_every_weight(supersampler, patch, changes):
    """After the last layer has left zero, gradients reach all parameters."""
    net, lr = supersampler(patch=patch, **changes), torch.randn(2, 3, 12, 12)
    torch.nn.init.normal_(net.head.weight, std=0.1)
    net(lr).square().mean().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize(
    ("changes", "alone"),
    [({"attention": "none"}, True), ({"depth": 0}, True), ({"attention": "uniform"}, False), ({"place": True}, False)],
)
def test_nothing_but_attention_passes_anything_from_patch_to_patch(supersampler, changes, alone):
    """Of a pure model, apart from the interpolation that the output is added to."""
    net, lr = supersampler(**PURE, **changes), torch.rand(1, 3, 12, 12) * 2 - 1
    torch.nn.init.normal_(net.head.weight, std=0.1)
    other = lr.clone()
    other[..., 3:6, 6:9] *= -1  # the patch in row 1, column 2
    differs = (net.residual(lr) - net.residual(other)).abs().amax(1)[0]
    patches = differs.unflatten(0, (4, 6)).unflatten(2, (4, 6)).amax((1, 3)) > 0
    assert bool(patches[1, 2])
    assert int(patches.sum()) == (1 if alone else 16)
    torch.testing.assert_close(net(lr) - upsample(lr, 2, "bicubic"), net.residual(lr))


def test_a_pure_prediction_lies_in_the_place_of_its_patch(supersampler):
    """A last layer that writes one constant for each HR pixel of a patch and channel."""
    net, lr = supersampler(**PURE), torch.zeros(1, 3, 12, 12)
    net.head.bias.data = torch.arange(108.0)
    made = net(lr)[0]  # 3 24 24
    assert torch.equal(made, made[:, :6, :6].repeat(1, 4, 4))
    assert made[:, :6, :6].unique().tolist() == list(range(108))


def test_prediction_is_added_where_it_belongs(supersampler):
    """A last layer that writes one constant per channel and sub-pixel: pixel shuffle lays it out as colours."""
    net, lr = supersampler(), torch.zeros(1, 3, 12, 12)
    net.head.bias.data = torch.tensor([1.0] * 4 + [2.0] * 4 + [3.0] * 4)
    assert torch.equal(net(lr)[0].mean(dim=(1, 2)), torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_upsample_agrees_with_pillow(method, scale):
    # of medium contrast: Pillow clips to 0..255 between its two passes, torch after both
    image = np.random.default_rng(0).integers(64, 192, (12, 12, 3), np.uint8)
    ours = to_uint8(upsample(normalize(torch.from_numpy(image)).permute(2, 0, 1)[None], scale, method))[0].permute(
        1, 2, 0
    )
    theirs = Image.fromarray(image).resize((12 * scale, 12 * scale), getattr(Image.Resampling, method.upper()))
    error = np.abs(ours.numpy().astype(int) - np.asarray(theirs).astype(int)).max()
    assert error <= (0 if method == "nearest" else 1)


def test_settings_that_name_no_method():
    with pytest.raises(ValueError, match="bilinear, bicubic"):
        upsample(torch.zeros(1, 3, 4, 4), 2, "cubic")
