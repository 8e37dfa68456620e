"""Which pixels a number that the model computes depends on: gradients, and their sums along a path to the image.

Shapes: b images, s side of an image in pixels, t parts of the path.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitpipe.explain.encoders import evaluating

RANGE = 2.0  # of pixel values on [-1, 1]
SIGMA = 1.2  # of the blur that local attribution begins with, in input pixels, as in its authors' published code
Score = Callable[[Tensor], Tensor]
"""A model's output for b images to one number for each of them (b,), which depends on that image alone."""


def saliency(model: nn.Module, images: Tensor, score: Score) -> Tensor:
    """How much the score changes with each pixel: |d score / d pixel| summed over the channels, (b, s, s).

    The saliency map of Simonyan et al. 2013 (arXiv:1312.6034), of any score. That of a loss is small everywhere where
    the model is sure and right: compare pixels within an image.

    Args:
        model: evaluated in float32, and left as it was: its modes, its weights' gradients.
        images: (b, 3, s, s) float on [-1, 1].
        score: what is differentiated.
    """
    return input_gradient(model, images, score).abs().sum(1)


def smooth(
    model: nn.Module, images: Tensor, score: Score, samples: int = 25, noise: float = 0.15, seed: int = 0
) -> Tensor:
    """SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825): `saliency` with the gradient's mean over noisy copies.

    The mean is of the signed gradients (equation 1 there), so that what changes its sign with the noise cancels out.
    Pixels are not clipped to [-1, 1]. All images get the same noise, drawn on the CPU: the map of an image depends on
    no other image and on no device.

    Args:
        model, images, score: as for `saliency`.
        samples: noisy copies of each image.
        noise: standard deviation of the Gaussian noise as a share of the value range, which is 2.
        seed: of the noise.
    """
    random = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(images, dtype=torch.float32)
    for _ in range(samples):
        shift = torch.randn(images.shape[1:], generator=random) * (noise * RANGE)
        total += input_gradient(model, images + shift.to(images.device), score)
    return (total / samples).abs().sum(1)


def input_gradient(model: nn.Module, images: Tensor, score: Score) -> Tensor:
    """d score / d pixel of each image's own score, float32 in the shape of `images`; arguments as `saliency`."""
    with evaluating(model), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        pixels = images.detach().float().clone().requires_grad_()
        return torch.autograd.grad(score(model(pixels)).sum(), pixels)[0]


def local_attribution(model: nn.Module, images: Tensor, score: Score, steps: int, at_once: int) -> Tensor:
    """Integrated gradients of a score along a path from blurred to sharp: (b, 3, s, s) float32, signed.

    Local attribution maps (Gu & Dong 2021, arXiv:2011.11036, section 3), whose score is the detail in a window of the
    output: the path is the image under a Gaussian blur whose sigma falls evenly from `SIGMA` to 0, so that detail is
    attributed and not colour. As `steps` grow, the attributions of an image sum to
    score(image) - score(blurred image).

    Args:
        model, images, score: as for `saliency`.
        steps: t, parts of the path.
        at_once: the number of images that go through the model at a time, at least b.
    """
    sigmas = torch.linspace(1, 0, 2 * steps + 1, device=images.device) * SIGMA
    return path_integral(model, blurred(images.detach().float(), sigmas), score, at_once)


def integrated_gradients(
    model: nn.Module, images: Tensor, baseline: Tensor, score: Score, steps: int, at_once: int
) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365): a straight path from `baseline` to the image.

    Arguments and result as `local_attribution`; baseline (b, 3, s, s) on [-1, 1].
    """
    start = baseline.detach().float()
    share = torch.linspace(0, 1, 2 * steps + 1, device=images.device)[:, None, None, None, None]
    return path_integral(model, start + share * (images.detach().float() - start), score, at_once)


def path_integral(model: nn.Module, path: Tensor, score: Score, at_once: int) -> Tensor:
    """Sum over t parts of a path, whose ends and middles take turns in `path` (2t + 1, b, 3, s, s), of the change of
    the image times the gradient in the middle."""
    images, steps = path.shape[1], max(1, at_once // path.shape[1])

    def scores(output: Tensor) -> Tensor:
        return torch.cat([score(of_step) for of_step in torch.split(output, images)])

    total = torch.zeros_like(path[0])
    for change, middle in zip(
        torch.split(path[2::2] - path[:-1:2], steps), torch.split(path[1::2], steps), strict=True
    ):
        total += (change * input_gradient(model, middle.flatten(0, 1), scores).view_as(change)).sum(0)
    return total


def blurred(images: Tensor, sigmas: Tensor) -> Tensor:
    """Images (b, c, h, w), float, under Gaussian blurs of t `sigmas` in pixels (0: none), mirrored at the border:
    (t, b, c, h, w)."""
    rows, columns = (blur_matrices(side, sigmas) for side in images.shape[-2:])
    return torch.einsum("tij,bcjk,tlk->tbcil", rows, images, columns)


def blur_matrices(side: int, sigmas: Tensor) -> Tensor:
    """The Gaussian blurs (t, s, s) of a line of s pixels, mirrored at its ends."""
    reach = min(math.ceil(4 * float(sigmas.max())), side - 1)  # beyond four sigma lies 1 / 16,000 of the weight
    offsets = torch.arange(-reach, reach + 1, device=sigmas.device)
    kernel = (-0.5 * (offsets / sigmas[:, None].clamp_min(1e-6)).square()).softmax(1)  # t k
    places = (torch.arange(side, device=sigmas.device)[:, None] + offsets).abs()
    mirrored = (side - 1) - ((side - 1) - places).abs()  # s k
    matrix = torch.zeros(len(sigmas), side, side, device=sigmas.device)
    return matrix.scatter_add_(2, mirrored.expand(len(sigmas), -1, -1), kernel[:, None].expand(-1, side, -1))


def diffusion_index(maps: Tensor) -> Tensor:
    """How many pixels contribute: (b,), from 100 / s^2 for a single one to 100 for all alike.

    (1 - Gini) * 100 of the absolute attributions (Gu & Dong 2021, arXiv:2011.11036, section 4), where Gini is the
    mean absolute difference of all pairs over twice the mean. A map of zeros has 0: nothing contributes.

    Args:
        maps: attributions of each image (b, s, s), signed or not.
    """
    ordered = maps.flatten(1).abs().double().sort(1).values
    count, total = ordered.shape[1], ordered.sum(1)
    rank = torch.arange(1, count + 1, dtype=torch.float64, device=maps.device)
    gini = ((2 * rank - count - 1) * ordered).sum(1) / (count * total).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(total > 0, 100 * (1 - gini), 0)
