"""Which input pixels a number that the model computes draws on: gradients along a path to the image, summed up.

Legend of the shapes: b images, s side of the input in pixels, t parts of the path, w side of a window in output
pixels.
"""

import math

import torch
from torch import Tensor, nn

from vitpipe.explain.gradients import Score, input_gradient

SIGMA = 1.2  # of the blur that local attribution begins with, in LR pixels, as in its authors' published code
SMOOTHED = 1e-6  # under the root of `edges`, on [-1, 1]: where nothing changes its slope is 0, not infinite


def local_attribution(model: nn.Module, images: Tensor, score: Score, steps: int, at_once: int) -> Tensor:
    """Integrated gradients of a score along a path from blurred to sharp: (b, 3, s, s) float32, signed.

    Local attribution maps (Gu & Dong 2021, arXiv:2011.11036, section 3), with `edges` of a window of the output as
    the score: the path is the image under a Gaussian blur whose sigma falls evenly from `SIGMA` to 0, so that what is
    attributed is detail and not colour. As `steps` grow, the attributions of an image sum to
    score(image) - score(blurred image).

    Args:
        model: evaluated in float32, and left as it was: its modes, its weights' gradients.
        images: (b, 3, s, s) float on [-1, 1].
        score: the model's output for all b images to one number per image (b,).
        steps: t, parts of the path.
        at_once: how many images go through the model at a time, or b if that is more.
    """
    strength = torch.linspace(1, 0, 2 * steps + 1, device=images.device) * SIGMA
    return along(model, blurred(images.detach().float(), strength), score, at_once)


def integrated_gradients(
    model: nn.Module, images: Tensor, baseline: Tensor, score: Score, steps: int, at_once: int
) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365): a straight path from `baseline` to the image.

    Arguments and result as `local_attribution`; baseline (b, 3, s, s) on [-1, 1].
    """
    start = baseline.detach().float()
    share = torch.linspace(0, 1, 2 * steps + 1, device=images.device)[:, None, None, None, None]
    return along(model, start + share * (images.detach().float() - start), score, at_once)


def along(model: nn.Module, path: Tensor, score: Score, at_once: int) -> Tensor:
    """Sum over the parts of a path of the change of the image times the gradient in its middle.

    Args:
        path: ends and middles of its parts by turns (2t + 1, b, 3, s, s).
    """
    changes, middles = path[2::2] - path[:-1:2], path[1::2]  # t b 3 s s
    together = max(1, at_once // path.shape[1])
    total = torch.zeros_like(path[0])
    for change, middle in zip(changes.split(together), middles.split(together), strict=True):
        total += (change * path_gradient(model, middle, score)).sum(0)
    return total


def path_gradient(model: nn.Module, images: Tensor, score: Score) -> Tensor:
    """d score / d pixel at several points of the path at once, (t, b, 3, s, s) to the same shape."""

    def every(output: Tensor) -> Tensor:
        return torch.cat([score(of_images) for of_images in output.unflatten(0, images.shape[:2])])

    return input_gradient(model, images.flatten(0, 1), every).view_as(images)


def blurred(images: Tensor, sigmas: Tensor) -> Tensor:
    """Images (b, c, s, s) under Gaussian blurs, (t, b, c, s, s), mirrored at the border; sigma 0 changes nothing.

    Args:
        images: float.
        sigmas: standard deviations (t,) in pixels.
    """
    side = images.shape[-1]
    place = torch.arange(side, device=images.device)
    reach = min(math.ceil(4 * float(sigmas.max())), side - 1)  # beyond four sigma lies 1 / 16,000 of the weight
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    kernel = (-0.5 * (offsets / sigmas[:, None].clamp_min(1e-6)).square()).softmax(1)  # t k
    mirrored = (place[:, None] + offsets).abs()
    mirrored = (side - 1) - ((side - 1) - mirrored).abs()  # s k
    matrix = torch.zeros(len(sigmas), side, side, device=images.device)
    matrix.scatter_add_(2, mirrored.expand(len(sigmas), -1, -1), kernel[:, None].expand(-1, side, -1))
    return torch.einsum("tij,bcjk,tlk->tbcil", matrix, images, matrix)


def edges(window: Tensor) -> Tensor:
    """How much detail there is in a window of each image: (b,), the score that local attribution explains.

    The gradient detector of Gu & Dong 2021 (arXiv:2011.11036, section 3): differences to the next pixel on the right
    and below, the length of both, summed over the window and the channels.

    Args:
        window: (b, 3, w + 1, w + 1), with the pixels just below and to the right of it.
    """
    here = window[..., :-1, :-1]
    right, below = window[..., :-1, 1:] - here, window[..., 1:, :-1] - here
    return (right.square() + below.square() + SMOOTHED).sqrt().sum((1, 2, 3))


def diffusion_index(maps: Tensor) -> Tensor:
    """How many pixels take part: (b,), from 100 / s^2 for a single one to 100 for all alike.

    (1 - Gini) * 100 of the absolute attributions (Gu & Dong 2021, arXiv:2011.11036, section 4), where Gini is the
    mean absolute difference of all pairs over twice the mean. A map of zeros has 0: nothing takes part.

    Args:
        maps: attributions of each image (b, s, s), signed or not.
    """
    ordered = maps.flatten(1).abs().double().sort(1).values
    count, total = ordered.shape[1], ordered.sum(1)
    rank = torch.arange(1, count + 1, dtype=torch.float64, device=maps.device)
    gini = ((2 * rank - count - 1) * ordered).sum(1) / (count * total).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(total > 0, 100 * (1 - gini), 0)
