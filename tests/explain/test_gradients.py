"""Pixel importance where the gradient is known, and over the image that it belongs to."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitpipe.explain.gradients import importance, smooth
from vitpipe.models.classifier import Classifier

SIDE = 12


def linear(classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, classes))


def classifier() -> Classifier:
    torch.manual_seed(0)
    shape = {"size": SIDE, "patch": 3, "dim": 16, "depth": 2, "heads": 2, "mlp": 2.0, "position": "learned"}
    return Classifier(classes=4, channels=3, readout="token", width=0, blocks=0, **shape)


def batch(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, SIDE, SIDE, generator=random) * 2 - 1, torch.arange(count) % 4


class Energy(nn.Module):
    """Two classes with logits +q and -q, q the mean square of the pixels: a pixel's gradient grows with the pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        square = images.square().mean((1, 2, 3))
        return torch.stack([square, -square], 1)


def planted() -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Images with one pixel each that tells the class; no two have it in the same place."""
    places = [7, 130, 64, 21, 99, 140]
    images = torch.randn(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 0.01
    images.flatten(2)[range(6), :, places] = 0.5
    return images, torch.tensor([0, 1, 0, 1, 1, 0]), places


def test_gradient_of_a_linear_model():
    """d loss / d x = W^T (softmax - onehot)."""
    model, (images, labels) = linear(), batch()
    error = model(images).softmax(-1) - F.one_hot(labels, 4)
    expected = (error @ model[1].weight).reshape(-1, 3, SIDE, SIDE).abs().sum(1)
    torch.testing.assert_close(importance(model, images, labels), expected.detach())


def test_finite_differences_agree():
    model, (images, labels) = classifier().eval(), batch(2)
    found = importance(model, images, labels)
    precise, step = copy.deepcopy(model).double().requires_grad_(False), 1e-5
    for image, y, x in ((0, 0, 0), (0, 5, 7), (1, 11, 3), (1, 6, 6)):
        total = 0.0
        for channel in range(3):
            losses = []
            for sign in (1, -1):
                moved = images[image : image + 1].double()
                moved[0, channel, y, x] += sign * step
                losses.append(float(F.cross_entropy(precise(moved), labels[image : image + 1])))
            total += abs(losses[0] - losses[1]) / (2 * step)
        assert float(found[image, y, x]) == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize("method", [importance, smooth])
def test_a_map_lies_over_its_own_image(method):
    images, labels, places = planted()
    assert method(Energy(), images, labels).flatten(1).argmax(1).tolist() == places
    order = [3, 0, 5, 1, 4, 2]
    moved = method(Energy(), images[order], labels[order])
    assert moved.flatten(1).argmax(1).tolist() == [places[i] for i in order]


@pytest.mark.parametrize("method", [importance, smooth])
def test_a_batch_is_its_images_one_by_one(method):
    model, (images, labels) = classifier(), batch()
    alone = torch.cat([method(model, images[i : i + 1], labels[i : i + 1]) for i in range(5)])
    found = method(model, images, labels)
    assert found.shape == (5, SIDE, SIDE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", [importance, smooth])
def test_the_model_is_left_as_it_was(method):
    model, (images, labels) = classifier().train(), batch()
    model.head.eval()
    model.head.weight.grad = torch.full_like(model.head.weight, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    method(model, images, labels)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert list(grads) == ["head.weight"]
    assert (grads["head.weight"] == 3).all()
    assert model.training
    assert model.encoder.training
    assert not model.head.training
    assert not images.requires_grad


def test_evaluated_without_dropout_in_float32_and_where_gradients_are_off():
    model, (images, labels) = nn.Sequential(nn.Dropout(0.5), *linear()).train(), batch()
    plain = importance(model[1:], images, labels)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(importance(model, images, labels), plain)


def test_smooth_averages_before_the_absolute_value():
    """At zero the gradient of the squares is all noise: it cancels out as the root of the samples."""
    images, labels = torch.zeros(1, 3, SIDE, SIDE), torch.tensor([1])
    one, many = (float(smooth(Energy(), images, labels, samples=n, noise=0.01).mean()) for n in (1, 100))
    assert many == pytest.approx(one / 10, rel=0.2)


def test_noise_is_a_share_of_the_range():
    """Near zero both classes of `Energy` are as likely, so d loss / d pixel is d q / d pixel: 2 / 432 of the noise."""
    images, labels = torch.zeros(1, 3, SIDE, SIDE), torch.tensor([1])
    noise = 0.001
    found = float(smooth(Energy(), images, labels, samples=1, noise=noise).mean())
    mean_size = (2 / torch.pi) ** 0.5  # of a standard Gaussian
    assert found == pytest.approx(3 * 2 / (3 * SIDE**2) * (noise * 2) * mean_size, rel=0.1)


def test_noise_comes_from_the_seed_alone():
    model, (images, labels) = classifier(), batch()
    before = torch.get_rng_state()
    first = smooth(model, images, labels, samples=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    assert torch.equal(smooth(model, images, labels, samples=2), first)
    assert not torch.equal(smooth(model, images, labels, samples=2, seed=1), first)


def test_without_noise_smooth_is_the_gradient():
    model, (images, labels) = classifier(), batch()
    found = smooth(model, images, labels, samples=3, noise=0.0)
    torch.testing.assert_close(found, importance(model, images, labels))
