"""Which pixels a classifier's loss depends on.

Legend of the shapes: b images, s side of an image in pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RANGE = 2.0  # of pixel values on [-1, 1]


def importance(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """How much the loss changes with each pixel: |d loss / d pixel| summed over the channels, (b, s, s).

    The saliency map of Simonyan et al. 2013 (arXiv:1312.6034), of the cross-entropy in place of the class
    score. Since it is that of the loss, a map is small all over where the model is sure and right: compare
    pixels within an image.

    Args:
        model: images to logits; evaluated in float32, and left as it was: its modes, its weights' gradients.
        images: (b, 3, s, s) float on [-1, 1].
        labels: class index of each image (b,).
    """
    return input_gradient(model, images, labels).abs().sum(1)


def smooth(
    model: nn.Module, images: Tensor, labels: Tensor, samples: int = 25, noise: float = 0.15, seed: int = 0
) -> Tensor:
    """SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825): `importance` with the gradient's mean over noisy copies.

    The mean is of the signed gradients (equation 1 there) and the absolute value comes after it, so that what
    changes its sign with the noise cancels out. Pixels are not clipped to [-1, 1]. All images get the same
    noise, drawn on the CPU: the map of an image depends on no other image and on no device.

    Args:
        model, images, labels: as for `importance`.
        samples: noisy copies of each image.
        noise: standard deviation of the Gaussian noise as a share of the value range, which is 2.
        seed: of the noise.
    """
    random = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(images, dtype=torch.float32)
    for _ in range(samples):
        shift = torch.randn(images.shape[1:], generator=random) * (noise * RANGE)
        total += input_gradient(model, images + shift.to(images.device), labels)
    return (total / samples).abs().sum(1)


def input_gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """d loss / d pixel of each image's own cross-entropy, float32 in the shape of `images`."""
    with evaluating(model), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        pixels = images.detach().float().clone().requires_grad_()
        loss = F.cross_entropy(model(pixels), labels, reduction="sum")  # a mean would shrink maps with the batch
        return torch.autograd.grad(loss, pixels)[0]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` in evaluation mode; afterwards each of its modules in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
