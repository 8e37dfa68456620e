"""What explanations of a super-sampler are about: one window of its output for each image.

Shapes: b images, s side of the input in pixels, p side of a patch, k scale, w side of a window in output pixels,
j images with patches missing.
"""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from vitpipe.config import SupersampleSettings
from vitpipe.metrics.grid import query_points, token_at, token_box
from vitpipe.tasks.base import Questions

EPSILON = 1e-6  # under the root of `detail`: where nothing changes its slope is 0, not infinite


def query_patches(
    images: Tensor, patch: int, settings: SupersampleSettings, samples: pd.DataFrame | None
) -> tuple[np.ndarray, np.ndarray]:
    """The patch at an eye of each image, or in its centre without landmarks (b,), and the name of the place (b,)."""
    size, columns = settings.data.size, images.shape[-1] // patch
    side = size // columns  # of a patch, in HR pixels
    rows = [None] * len(images) if samples is None else [samples.iloc[i] for i in range(len(images))]
    points = [next(iter(query_points(row, size).items())) for row in rows]
    tokens = [token_at(x, y, side, columns, columns) for _, (x, y) in points]
    return np.array(tokens), np.array([name for name, _ in points])


def window_questions(images: Tensor, where: tuple[np.ndarray, np.ndarray], patch: int, scale: int) -> Questions:
    """Questions about the windows of the output in the places of the given patches.

    Args:
        images: (b, 3, s, s) on [-1, 1].
        where: what `query_patches` returned.
        patch: p.
        scale: k.
    """
    columns, side = images.shape[-1] // patch, patch * scale
    tokens = torch.from_numpy(where[0]).to(images.device)

    def window(output: Tensor, of: Tensor) -> Tensor:
        """The windows of HR images, with the pixels just below and to the right: (j, 3, w + 1, w + 1)."""
        corners = torch.stack([tokens[of] % columns, tokens[of] // columns], 1) * side
        return crop(F.pad(output, (0, 1, 0, 1), mode="replicate"), corners, side + 1)

    def kept(output: Tensor, of: Tensor, whole: Tensor, blank: Tensor) -> Tensor:
        own, full, empty = (window(o, of)[..., :-1, :-1] for o in (output, whole[of], blank[of]))
        span = rms(full - empty).clamp_min(torch.finfo(torch.float32).tiny)
        return (1 - rms(own - full) / span).clamp_min(0)

    every = torch.arange(len(images), device=images.device)
    boxes = np.array([token_box(int(token), side, columns) for token in where[0]])
    return Questions(
        output_score=lambda output: detail(window(output, every)),
        kept=kept,
        methods=("raw", "rollout", "relevance", "gradient", "smooth", "local"),
        tokens=tokens,
        every_layer=True,
        fill="blur",
        samples=10,
        steps=12,
        shown={"windows": boxes, "points": where[1]},
    )


def rms(values: Tensor) -> Tensor:
    """Root of the mean square of each image (j, c, w, w): (j,)."""
    return values.square().mean((1, 2, 3)).sqrt()


def detail(window: Tensor) -> Tensor:
    """How much detail there is in a window of each image: (b,), the score that local attribution explains.

    The gradient detector of Gu & Dong 2021 (arXiv:2011.11036, section 3): differences to the next pixel on the right
    and below, the length of both, summed over the window and the channels.

    Args:
        window: (b, 3, w + 1, w + 1), with the pixels just below and to the right of it.
    """
    here = window[..., :-1, :-1]
    right, below = window[..., :-1, 1:] - here, window[..., 1:, :-1] - here
    return (right.square() + below.square() + EPSILON).sqrt().sum((1, 2, 3))


def crop(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """A square (b, c, side, side) of each image (b, c, h, w), from its left and top pixel (b, 2) on."""
    along = torch.arange(side, device=images.device)
    x, y = (corners[:, i, None] + along for i in (0, 1))  # b side
    every = torch.arange(len(images), device=images.device)[:, None, None]
    return images[every, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
