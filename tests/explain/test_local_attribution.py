"""Paths of gradients: what they sum to, where they lie, and that captum sees the same."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import nn

from vitpipe.explain.local_attribution import (
    SIGMA,
    SMOOTHED,
    blurred,
    diffusion_index,
    edges,
    integrated_gradients,
    local_attribution,
)
from vitpipe.explain.window import Window
from vitpipe.models.attention import Attention
from vitpipe.models.classifier import Classifier
from vitpipe.models.supersampler import SuperSampler

SIDE = 24


def images(count: int = 2, side: int = SIDE) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def window(corners=((6, 9), (18, 0))) -> Window:
    torch.manual_seed(0)
    shape = {"size": SIDE, "scale": 2, "patch": 3, "dim": 16, "depth": 2, "heads": 2, "mlp": 2.0}
    net = SuperSampler(**shape, position="learned", skip="bicubic", width=8, blocks=1)
    torch.nn.init.normal_(net.last.weight, std=0.1)
    return Window(net, torch.tensor(corners), 3)


def classifier() -> Classifier:
    torch.manual_seed(0)
    shape = {"size": 12, "patch": 3, "dim": 16, "depth": 2, "heads": 2, "mlp": 2.0, "position": "learned"}
    return Classifier(classes=4, channels=3, readout="token", width=0, blocks=0, **shape)


def test_attributions_sum_to_what_the_detail_brings():
    model, batch = window(), images()
    with torch.inference_mode():
        brought = edges(model(batch)) - edges(model(blurred(batch, torch.tensor([SIGMA]))[0]))
    misses = []
    for steps in (5, 20, 80):
        total = local_attribution(model, batch, edges, steps, at_once=16).sum((1, 2, 3))
        misses.append(float((total - brought).abs().max()))
    assert misses[2] < 1e-3 * float(brought.abs().max())
    assert misses[2] < misses[0] / 10


def test_of_an_image_that_is_blurred_already_nothing_is_attributed():
    flat = torch.full((2, 3, SIDE, SIDE), 0.3)
    assert local_attribution(window(), flat, edges, 4, at_once=16).abs().max() < 1e-6


@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_how_many_go_through_at_a_time_changes_nothing(at_once):
    model, batch = window(), images()
    expected = local_attribution(model, batch, edges, 6, at_once=2)
    torch.testing.assert_close(
        local_attribution(model, batch, edges, 6, at_once=at_once), expected, rtol=1e-3, atol=1e-5
    )


def test_a_map_belongs_to_its_image_and_window():
    batch = images()
    together = local_attribution(window(), batch, edges, 4, at_once=16)
    alone = local_attribution(window(((18, 0),)), batch[1:], edges, 4, at_once=16)
    torch.testing.assert_close(together[1:], alone, rtol=1e-3, atol=1e-5)


def test_only_detail_within_reach_is_attributed():
    """A model that is its input: the window's own pixels and those just below and to the right, and no other."""

    class Middle(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[..., 8:13, 4:9]

    found = local_attribution(Middle(), images(), edges, 8, at_once=16).abs().sum((0, 1)) > 0
    expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    expected[8:13, 4:9] = True
    expected[12, 8] = False  # the corner that no difference reads
    assert torch.equal(found, expected)


def test_straight_path_as_captum_has_it():
    captum = pytest.importorskip("captum.attr")
    model, batch = classifier().eval(), images(3, 12)
    baseline = batch.mean((2, 3), keepdim=True).expand_as(batch)
    labels = torch.tensor([0, 3, 1])
    oracle = captum.IntegratedGradients(model)
    expected = oracle.attribute(batch, baseline, target=labels, n_steps=16, method="riemann_middle")
    found = integrated_gradients(model, batch, baseline, lambda out: out[torch.arange(3), labels], 16, at_once=48)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)


def test_straight_path_of_a_linear_model_is_exact_with_one_step():
    torch.manual_seed(0)
    model, batch = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12**2, 2)), images(2, 12)
    found = integrated_gradients(model, batch, torch.zeros_like(batch), lambda out: out[:, 1], 1, at_once=2)
    torch.testing.assert_close(found, batch * model[1].weight[1].detach().reshape(3, 12, 12))


def test_the_model_is_left_as_it_was():
    model, batch = window().train(), images()
    model.model.tail.eval()
    local_attribution(model, batch, edges, 2, at_once=16)
    assert model.model.encoder.training
    assert not model.model.tail.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(layer.recorder is None for layer in model.modules() if isinstance(layer, Attention))
    assert not batch.requires_grad


@pytest.mark.parametrize("sigma", [0.3, 1.2, 3.0])
def test_blur_as_scipy_has_it(sigma):
    batch = images(2)
    found = blurred(batch, torch.tensor([sigma, 0.0]))
    expected = gaussian_filter(batch.numpy(), sigma, axes=(2, 3), mode="mirror", radius=int(np.ceil(4 * sigma)))
    np.testing.assert_allclose(found[0].numpy(), expected, atol=2e-4)
    torch.testing.assert_close(found[1], batch)


def test_edges_of_a_ramp():
    """Every pixel is 0.2 more than its left neighbour and 0.1 more than that above it."""
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    ramp = (0.2 * x + 0.1 * y).expand(2, 3, 5, 5)
    expected = 3 * 16 * (0.05 + SMOOTHED) ** 0.5
    torch.testing.assert_close(edges(ramp), torch.full((2,), expected))


def test_diffusion_index_of_known_maps():
    single, even, half = torch.zeros(3, 4, 4)
    single[1, 2], even[:], half[:2] = -5, 2, 1
    # the Gini index of a share p with all the mass is 1 - p
    expected = torch.tensor([100 / 16, 100, 50, 0], dtype=torch.float64)
    found = diffusion_index(torch.stack([single, even, half, torch.zeros(4, 4)]))
    torch.testing.assert_close(found, expected)


@given(st.lists(st.floats(0, 10), min_size=9, max_size=9), st.floats(0.1, 100))
def test_diffusion_index_is_one_minus_half_the_relative_mean_difference(values, factor):
    found = float(diffusion_index(factor * torch.tensor(values, dtype=torch.float64).reshape(1, 3, 3)))
    array = np.array(values)
    if array.sum() > 1e-6:
        gini = np.abs(array[:, None] - array).mean() / (2 * array.mean())
        assert found == pytest.approx(100 * (1 - gini), abs=1e-6)
