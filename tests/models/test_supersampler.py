import numpy as np
import pytest
import torch
from PIL import Image

from vitpipe.data.pixels import to_uint8, normalize
from vitpipe.models.consistency import Consistency, reduction
from vitpipe.models.supersampler import SuperSampler, enlargement, pixel_shuffle, self_ensemble, upsample


def model(**changes) -> SuperSampler:
    torch.manual_seed(0)
    shape = {"size": 12, "scale": 2, "patch": 3, "dim": 16, "depth": 2, "heads": 2, "mlp": 2.0}
    rest = {"position": "learned", "skip": "bicubic", "width": 8, "blocks": 1}
    return SuperSampler(**(shape | rest | changes)).eval()


@pytest.mark.parametrize("patch", [1, 2, 3, 6, 12])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("skip", ["nearest", "bicubic"])
def test_untrained_is_exactly_its_skip(patch, scale, skip):
    lr = torch.rand(2, 3, 12, 12) * 2 - 1
    out = model(patch=patch, scale=scale, skip=skip)(lr)
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
def test_a_consistent_model_gives_what_reduces_to_its_input(scale, skip):
    torch.manual_seed(1)
    lr = torch.rand(2, 3, 12, 12) * 2 - 1
    net, free = (model(scale=scale, skip=skip, consistent=consistent) for consistent in (True, False))
    for each in (net, free):
        torch.nn.init.normal_(each.last.weight, std=0.1, generator=torch.Generator().manual_seed(2))
    reduce = reduction(12, scale).float()
    torch.testing.assert_close(reduce @ net(lr) @ reduce.mT, lr, rtol=0, atol=1e-5)
    torch.testing.assert_close(net(lr), Consistency(12, scale)(free(lr), lr), rtol=0, atol=1e-5)


def test_a_mirrored_model_is_one_but_for_its_encoder():
    net, lr = model(mirrored=True), torch.rand(1, 3, 12, 12)
    for layer in (net.last, net.readout):
        torch.nn.init.normal_(layer.weight, std=0.1)
    assert not torch.allclose(net(lr.flip(-1)).flip(-1), net(lr), atol=1e-3)
    torch.nn.init.zeros_(net.readout.weight)
    torch.nn.init.zeros_(net.readout.bias)
    torch.testing.assert_close(net(lr.flip(-1)).flip(-1), net(lr), rtol=0, atol=1e-5)
    assert not torch.allclose(net(lr), upsample(lr, 2, "bicubic"), atol=1e-2)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "scale"), [(12, 2), (7, 5), (48, 4)])
def test_an_enlargement_is_the_interpolation_as_products(size, scale, method):
    torch.manual_seed(0)
    matrix, lr = enlargement(size, scale, method), torch.rand(2, 3, size, size) * 2 - 1
    torch.testing.assert_close(matrix @ lr @ matrix.mT, upsample(lr, scale, method), rtol=0, atol=1e-5)


def test_the_mean_of_a_self_ensemble_is_mirrored_with_its_input():
    net, lr = model(), torch.rand(2, 3, 12, 12)
    torch.nn.init.normal_(net.last.weight, std=0.1)
    own, mean = self_ensemble(net, lr)
    assert torch.equal(own, net(lr))
    assert not torch.allclose(own, mean, atol=1e-3)
    torch.testing.assert_close(self_ensemble(net, lr.flip(-1))[1].flip(-1), mean, rtol=0, atol=1e-5)


def test_mirroring_and_consistency_add_no_weights():
    assert list(model(mirrored=True, consistent=True).state_dict()) == list(model().state_dict())


BLOCK = ("layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias")
ENCODER_BLOCK = (
    *("norm1.weight", "norm1.bias", "attention.qkv.weight", "attention.qkv.bias"),
    *("attention.project.weight", "attention.project.bias", "norm2.weight", "norm2.bias"),
    *("mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"),
)


def test_weights_have_the_names_and_values_that_were_published():
    """Saved weights must load, and a seed must give the same model, in later versions too."""
    net = model(depth=1)
    assert list(net.state_dict()) == [
        *("stem.0.weight", "stem.0.bias", *(f"stem.1.{name}" for name in BLOCK)),
        *("encoder.position", "encoder.embed.weight", "encoder.embed.bias"),
        *(f"encoder.blocks.0.{name}" for name in ENCODER_BLOCK),
        *("encoder.norm.weight", "encoder.norm.bias", "readout.weight", "readout.bias"),
        *(f"tail.0.{name}" for name in BLOCK),
        *("last.weight", "last.bias"),
    ]
    assert sum(p.numel() for p in net.parameters()) == 8340
    weights = (net.encoder.position, net.readout.weight, net.encoder.blocks[0].mlp[2].weight)
    assert [float(w.detach().abs().sum()) for w in weights] == pytest.approx([3.8798, 142.5536, 44.7009], abs=1e-4)
    torch.nn.init.constant_(net.last.weight, 0.1)
    out = net(torch.linspace(-1, 1, 432).view(1, 3, 12, 12)).detach()
    assert [float(out.mean()), float(out[0, 0, 0, 0]), float(out[0, 2, -1, -1])] == pytest.approx(
        [-0.67304, -1.44953, 0.45344], abs=1e-4
    )


@pytest.mark.parametrize("patch", [1, 2, 3, 6])
def test_one_step_uses_every_weight(patch):
    """After the last layer has left zero, gradients reach all parameters."""
    net, lr = model(patch=patch), torch.randn(2, 3, 12, 12)
    torch.nn.init.normal_(net.last.weight, std=0.1)
    net(lr).square().mean().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_prediction_is_added_where_it_belongs():
    """A last layer that writes one constant per channel and sub-pixel: pixel shuffle lays it out as colours."""
    net, lr = model(), torch.zeros(1, 3, 12, 12)
    net.last.bias.data = torch.tensor([1.0] * 4 + [2.0] * 4 + [3.0] * 4)
    assert torch.equal(net(lr)[0].mean(dim=(1, 2)), torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_upsample_agrees_with_pillow(method, scale):
    # of medium contrast: Pillow clips to 0..255 between its two passes, torch after both
    image = np.random.default_rng(0).integers(64, 192, (12, 12, 3), np.uint8)
    ours = to_uint8(upsample(normalize(torch.from_numpy(image)).permute(2, 0, 1)[None], scale, method))[0].permute(1, 2, 0)
    theirs = Image.fromarray(image).resize((12 * scale, 12 * scale), getattr(Image.Resampling, method.upper()))
    error = np.abs(ours.numpy().astype(int) - np.asarray(theirs).astype(int)).max()
    assert error <= (0 if method == "nearest" else 1)


def test_settings_that_name_no_method():
    with pytest.raises(ValueError, match="bilinear, bicubic"):
        upsample(torch.zeros(1, 3, 4, 4), 2, "cubic")
