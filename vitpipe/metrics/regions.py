"""Regions of a face, made from its landmarks, and how much of an attention map lies in them.

Shapes: b images, l layers, h heads, r regions, n patches, q points in a patch.

Regions are ellipses in the face's own frame: the origin lies between the eyes, the unit of the first axis is the way
from the left eye to the right one, that of the second the way from the origin to the middle of the mouth. So they
follow a face that is tilted or larger, and an image that was stretched. They are disjoint: a point in two of them
counts in the first. The rest of the face (cheeks, forehead, chin) belongs to none.
"""

import numpy as np
import torch
from torch import Tensor

REGIONS = ("eyes", "nose", "mouth", "background")

EYE, MOUTH, NOSE, FACE = (0.32, 0.25), (0.5, 0.25), (0.28, 0.34), (1.1, 1.45)
"""Semi-axes along the eyes and towards the mouth. Between the pupils lie about 63 mm; an eye is 30 mm wide, a mouth
50, a nose 35 and a face 140 (Farkas 1994, "Anthropometry of the Head and Face")."""

NOSE_UP = 0.7  # the nose's centre lies at this share of the way from between the eyes to its tip
FACE_CENTRE = 0.35  # on the way from between the eyes to the mouth
FINEST = 12  # points across a token that coverage is counted on, at most
FLATTEST = 0.1  # sine of the angle between the two axes below which a face has no frame
CAP, TINY = 100.0, 1e-9  # of ratios: JSON knows no infinity, and 0 / 0 counts as 1
AT_ONCE = 2**22  # points tested at a time


def regions(landmarks: np.ndarray, size: int, grid: int) -> Tensor:
    """Share of each token that each of `REGIONS` covers, (b, r, n) float32 in [0, 1], summing over r to at most 1.

    Args:
        landmarks: (b, 5, 2) as (x, y) in pixels of an image with `size` pixels on each side: left eye, right eye, nose,
            left and right corner of the mouth; left is the picture's left. Pixel i spans i to i + 1.
        size: side of the images, a multiple of `grid`.
        grid: tokens across an image.

    Returns:
        The shares, counted on up to 12x12 points of each token (each pixel's centre where a token has no more); NaN
        for an image whose landmarks are missing or whose eyes and mouth lie in a line.
    """
    across = min(size // grid, FINEST)
    step = size / (grid * across)
    centres = (torch.arange(grid * across, dtype=torch.float64) + 0.5) * step
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    points = torch.stack([x, y], -1).reshape(grid, across, grid, across, 2).transpose(1, 2).reshape(-1, 2)
    batch = max(1, AT_ONCE // len(points))
    parts = [inside(part, points) for part in torch.from_numpy(landmarks).double().split(batch)]  # b r n*q
    return torch.cat(parts).unflatten(-1, (grid * grid, -1)).mean(-1)


def inside(landmarks: Tensor, points: Tensor) -> Tensor:
    """Which region each of `points` (p, 2) lies in: (b, r, p) float32, 1 or 0, NaN without a frame."""
    left, right, nose = landmarks[:, 0], landmarks[:, 1], landmarks[:, 2]
    origin = (left + right) / 2
    axes = torch.stack([right - left, landmarks[:, 3:].mean(1) - origin], -1)  # b 2 2: the axes are columns
    framed = axes.isfinite().all(-1).all(-1) & nose.isfinite().all(-1)
    framed &= torch.linalg.det(axes).abs() > FLATTEST * axes.norm(dim=1).prod(-1)
    inverse = torch.linalg.inv(torch.where(framed[:, None, None], axes, torch.eye(2).to(axes)))
    across, down = (inverse @ (points - origin[:, None]).mT).unbind(1)  # b p, in the face's frame
    tip = (inverse @ (nose - origin)[:, :, None])[:, :, 0]  # b 2

    def ellipse(x: Tensor | float, y: Tensor | float, semi: tuple[float, float]) -> Tensor:
        return ((across - x) / semi[0]).square_().add_(((down - y) / semi[1]).square_()) <= 1  # b p

    eyes = ellipse(-0.5, 0, EYE) | ellipse(0.5, 0, EYE)
    mouth = ellipse(0, 1, MOUTH) & ~eyes
    snout = ellipse(NOSE_UP * tip[:, :1], NOSE_UP * tip[:, 1:], NOSE) & ~eyes & ~mouth
    face = ellipse(0, FACE_CENTRE, FACE)
    background = ~(face | eyes | mouth | snout)
    found = torch.stack([eyes, snout, mouth, background], 1).float()
    return found.masked_fill(~framed[:, None, None], torch.nan)


def mass(maps: Tensor, shares: Tensor) -> Tensor:
    """Share of each map that lies in each region, (b, l, h, r) in [0, 1].

    Args:
        maps: (b, l, h, n), not negative, each summing to one.
        shares: (b, r, n) as `regions` gives; a token's attention is spread over its area evenly.
    """
    return torch.einsum("blhn,brn->blhr", maps, shares.to(maps))


def lift(maps: Tensor, shares: Tensor) -> Tensor:
    """`mass` over the region's share of the image's area, (b, l, h, r), 0 or more: 1 is what a uniform map has.

    NaN where the region does not lie in the image.
    """
    area = shares.to(maps).mean(-1)[:, None, None]  # b 1 1 r
    return torch.where(area > 0, mass(maps, shares) / area, torch.nan)


def lift_over(maps: Tensor, others: Tensor, shares: Tensor) -> Tensor:
    """`mass` over that of other maps (1 or b, l, h, n), (b, l, h, r), at most `CAP`: 1 where both masses are alike.

    NaN where the region does not lie in the image.
    """
    ratio = (mass(maps, shares) + TINY) / (mass(others.expand_as(maps), shares) + TINY)
    there = shares.sum(-1)[:, None, None] > 0  # b 1 1 r
    return torch.where(there, ratio.clamp(max=CAP), torch.nan)


def pointing(maps: Tensor, shares: Tensor) -> Tensor:
    """Whether the map's maximum lies in the region, (b, l, h, r) in [0, 1]: the pointing game.

    Zhang et al. 2016 (arXiv:1608.00507, section 4.2) ask it of a pixel. The maximum of an attention map is a token,
    of which a region may cover a part: that share counts, the chance that a point in the token hits, and the mean
    of the shares where several tokens are equally high. A uniform map thus scores the region's share of the area,
    a map of zeros nothing.
    """
    highest = maps.amax(-1, keepdim=True)
    best = ((maps >= highest * (1 - 1e-6)) & (highest > 0)).to(maps)  # b l h n; up to rounding of float32
    return mass(best / best.sum(-1, keepdim=True).clamp_min(1), shares)
