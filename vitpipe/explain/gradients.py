"""Which pixels a classifier's loss, or another number that a model computes, depends on.

Legend of the shapes: b images, s side of an image in pixels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.explain.capture import evaluating

RANGE = 2.0  # of pixel values on [-1, 1]
Score = Callable[[Tensor], Tensor]
"""A model's output for b images to one number for each of them (b,), which depends on that image alone."""


def importance(model: nn.Module, images: Tensor, target: Tensor | Score) -> Tensor:
    """How much the target changes with each pixel: |d target / d pixel| summed over the channels, (b, s, s).

    The saliency map of Simonyan et al. 2013 (arXiv:1312.6034), for class indices of the cross-entropy in place
    of the class score. Since that is a loss, a map is small all over where the model is sure and right: compare
    pixels within an image.

    Args:
        model: evaluated in float32, and left as it was: its modes, its weights' gradients.
        images: (b, 3, s, s) float on [-1, 1].
        target: class index of each image (b,), for the loss of a model that gives logits; or any score.
    """
    return input_gradient(model, images, target).abs().sum(1)


def smooth(
    model: nn.Module, images: Tensor, target: Tensor | Score, samples: int = 25, noise: float = 0.15, seed: int = 0
) -> Tensor:
    """SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825): `importance` with the gradient's mean over noisy copies.

    The mean is of the signed gradients (equation 1 there) and the absolute value comes after it, so that what
    changes its sign with the noise cancels out. Pixels are not clipped to [-1, 1]. All images get the same
    noise, drawn on the CPU: the map of an image depends on no other image and on no device.

    Args:
        model, images, target: as for `importance`.
        samples: noisy copies of each image.
        noise: standard deviation of the Gaussian noise as a share of the value range, which is 2.
        seed: of the noise.
    """
    random = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(images, dtype=torch.float32)
    for _ in range(samples):
        shift = torch.randn(images.shape[1:], generator=random) * (noise * RANGE)
        total += input_gradient(model, images + shift.to(images.device), target)
    return (total / samples).abs().sum(1)


def input_gradient(model: nn.Module, images: Tensor, target: Tensor | Score) -> Tensor:
    """d target / d pixel, of each image's own target, float32 in the shape of `images`; arguments as `importance`."""
    with evaluating(model), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        pixels = images.detach().float().clone().requires_grad_()
        output = model(pixels)
        total = target(output).sum() if callable(target) else loss(output, target)
        return torch.autograd.grad(total, pixels)[0]


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed cross-entropy: a mean would shrink maps with the batch."""
    return F.cross_entropy(logits, labels, reduction="sum")
