"""Gradients that are known, over the image that they belong to; paths of gradients and what they sum to."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import nn

from vitpipe.explain.gradients import (
    SIGMA,
    blurred,
    diffusion_index,
    integrated_gradients,
    local_attribution,
    saliency,
    smooth,
)

SIDE = 12
BOTH = pytest.mark.parametrize("method", [saliency, smooth])


def loss(labels: torch.Tensor):
    return lambda logits: F.cross_entropy(logits, labels, reduction="none")


LABELS = torch.tensor([0, 1, 1])


class Energy(nn.Module):
    """Two classes with logits +q and -q, q the mean square of the pixels: a pixel's gradient grows with the pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        square = images.square().mean((1, 2, 3))
        return torch.stack([square, -square], 1)


def detail(output: torch.Tensor) -> torch.Tensor:
    """A score that depends on neighbouring pixels in a window of the output of a super-sampler."""
    return output[..., 6:12, 2:9].diff().square().sum((1, 2, 3))


def test_finite_differences_agree(made, images):
    (_, model), batch = made("classify"), images(2)
    found = saliency(model, batch, loss(LABELS[:2]))
    precise, step = copy.deepcopy(model).double().requires_grad_(False), 1e-5
    for image, y, x in ((0, 0, 0), (0, 5, 7), (1, 11, 3), (1, 6, 6)):
        total = 0.0
        for channel in range(3):
            losses = []
            for sign in (1, -1):
                moved = batch[image : image + 1].double()
                moved[0, channel, y, x] += sign * step
                losses.append(float(F.cross_entropy(precise(moved), LABELS[image : image + 1])))
            total += abs(losses[0] - losses[1]) / (2 * step)
        assert float(found[image, y, x]) == pytest.approx(total, rel=1e-3)


@BOTH
def test_a_batch_is_its_images_one_by_one_and_the_model_stays(made, images, unchanged, method):
    (_, model), batch = made("classify", sharp=2), images()
    with unchanged(model):
        found = method(model, batch, loss(LABELS))
    alone = torch.cat([method(model, batch[i : i + 1], loss(LABELS[i : i + 1])) for i in range(3)])
    assert found.shape == (3, SIDE, SIDE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-7)
    assert not batch.requires_grad


def test_evaluated_without_dropout_in_float32_and_where_gradients_are_off(made, images):
    (_, model), batch = made("classify"), images()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = saliency(nn.Sequential(nn.Dropout(0.5), model).train(), batch, loss(LABELS))
    assert torch.equal(found, saliency(model, batch, loss(LABELS)))


def test_smooth_averages_before_the_absolute_value():
    """At zero the gradient of the squares is all noise: it cancels out as the root of the samples."""
    batch, score = torch.zeros(1, 3, SIDE, SIDE), loss(torch.tensor([1]))
    one, many = (float(smooth(Energy(), batch, score, samples=n, noise=0.01).mean()) for n in (1, 100))
    assert many == pytest.approx(one / 10, rel=0.2)


def test_noise_is_a_share_of_the_range():
    """Near zero both classes of `Energy` are as likely, so d loss / d pixel is d q / d pixel: 2 / 432 of the noise."""
    batch, noise = torch.zeros(1, 3, SIDE, SIDE), 0.001
    found = float(smooth(Energy(), batch, loss(torch.tensor([1])), samples=1, noise=noise).mean())
    mean_size = (2 / torch.pi) ** 0.5  # of a standard Gaussian
    assert found == pytest.approx(3 * 2 / (3 * SIDE**2) * (noise * 2) * mean_size, rel=0.1)


def test_noise_comes_from_the_seed_alone(made, images):
    (_, model), score = made("classify"), loss(LABELS)
    before = torch.get_rng_state()
    first = smooth(model, images(), score, samples=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    assert torch.equal(smooth(model, images(), score, samples=2), first)
    assert not torch.equal(smooth(model, images(), score, samples=2, seed=1), first)
    without = smooth(model, images(), score, samples=3, noise=0.0)
    torch.testing.assert_close(without, saliency(model, images(), score))


def test_local_attributions_sum_to_what_the_detail_brings(made, images):
    (_, model), batch = made(sharp=1), images(2)
    with torch.inference_mode():
        brought = detail(model(batch)) - detail(model(blurred(batch, torch.tensor([SIGMA]))[0]))
    misses = []
    for steps in (5, 20, 80):
        total = local_attribution(model, batch, detail, steps, at_once=16).sum((1, 2, 3))
        misses.append(float((total - brought).abs().max()))
    assert misses[2] < 1e-3 * float(brought.abs().max())
    assert misses[2] < misses[0] / 10
    flat = torch.full((2, 3, SIDE, SIDE), 0.3)  # blurred already
    assert local_attribution(model, flat, detail, 4, at_once=16).abs().max() < 1e-6


@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_parts_of_a_path_change_nothing_and_images_do_not_mix(made, images, unchanged, at_once):
    (_, model), batch = made(sharp=1), images(2)
    expected = local_attribution(model, batch, detail, 6, at_once=2)
    with unchanged(model):
        found = local_attribution(model, batch, detail, 6, at_once=at_once)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    alone = local_attribution(model, batch[1:], detail, 6, at_once=at_once)
    torch.testing.assert_close(found[1:], alone, rtol=1e-3, atol=1e-5)
    assert not batch.requires_grad


def test_straight_path_as_captum_has_it(made, images):
    captum = pytest.importorskip("captum.attr")
    (_, model), batch = made("classify"), images()
    baseline = batch.mean((2, 3), keepdim=True).expand_as(batch)
    oracle = captum.IntegratedGradients(model)
    expected = oracle.attribute(batch, baseline, target=LABELS, n_steps=16, method="riemann_middle")
    found = integrated_gradients(model, batch, baseline, lambda out: out[torch.arange(3), LABELS], 16, at_once=48)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.3, 1.2, 3.0])
def test_blur_as_scipy_has_it(images, sigma):
    batch = images(2, 24)[..., :16]
    found = blurred(batch, torch.tensor([sigma, 0.0]))
    expected = gaussian_filter(batch.numpy(), sigma, axes=(2, 3), mode="mirror", radius=int(np.ceil(4 * sigma)))
    np.testing.assert_allclose(found[0].numpy(), expected, atol=2e-4)
    torch.testing.assert_close(found[1], batch)


@given(st.lists(st.floats(0, 10), min_size=9, max_size=9), st.floats(0.1, 100))
def test_diffusion_index_is_one_minus_half_the_relative_mean_difference(values, factor):
    found = float(diffusion_index(factor * torch.tensor(values, dtype=torch.float64).reshape(1, 3, 3)))
    array = np.array(values)
    if array.sum() > 1e-6:
        gini = np.abs(array[:, None] - array).mean() / (2 * array.mean())
        assert found == pytest.approx(100 * (1 - gini), abs=1e-6)
    single = torch.zeros(2, 4, 4)
    single[0, 1, 2] = -5
    assert diffusion_index(single).tolist() == [100 / 16, 0]
