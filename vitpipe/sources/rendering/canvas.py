"""Drawing in picture coordinates on an enlarged image that is reduced at the end.

All points are float pixels of the final 178x218 picture, (x, y) from its upper left corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 178, 218
"""Size of an aligned CelebA picture."""

OVERSAMPLING = 2
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)

Points = NDArray[np.floating]
Tones = NDArray[np.floating]
"""One value from 0 to 1 for each pixel of the picture, (218, 178)."""

Colour = tuple[int, int, int]


@cache
def spline_basis(steps: int) -> NDArray[np.float64]:
    """Weights (steps, 4) of four neighbouring points on the Catmull-Rom piece between the middle two."""
    t = np.arange(steps)[:, None] / steps
    return np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]) / 2


def curve(points: ArrayLike, closed: bool = False, steps: int = 6) -> Points:
    """A smooth line through `points` (n, 2): their Catmull-Rom spline."""
    p = np.asarray(points, dtype=np.float64)
    ring = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    pieces = np.stack([ring[i : len(ring) - 3 + i] for i in range(4)], axis=1)  # (pieces, 4, 2)
    line = (spline_basis(steps) @ pieces).reshape(-1, 2)
    return line if closed else np.concatenate([line, p[-1:]])


def moved(points: ArrayLike, x: float = 0, y: float = 0) -> Points:
    """Points pushed by x to the right and y down."""
    return np.asarray(points) + np.array((x, y))


def mix(a: Iterable[float], b: Iterable[float], share: float) -> Colour:
    """The colour `share` of the way from `a` to `b`."""
    (red, green, blue), (other_red, other_green, other_blue) = a, b
    return (
        min(255, max(0, round(red + (other_red - red) * share))),
        min(255, max(0, round(green + (other_green - green) * share))),
        min(255, max(0, round(blue + (other_blue - blue) * share))),
    )


def ramp(dark: ArrayLike, middle: ArrayLike, light: ArrayLike) -> bytes:
    """A palette of 256 colours for tones from 0 to 1: from `dark` over `middle` (at 0.5) to `light`."""
    a, b, c = np.array([dark, middle, light], float)
    share = np.linspace(0, 1, 128)[:, None]
    return np.concatenate([a + (b - a) * share, b + (c - b) * share]).clip(0, 255).astype(np.uint8).tobytes()


def noise(rng: np.random.Generator, shape: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth noise of about unit variance: `shape` (rows, columns) random knots, enlarged to `size` (height, width)."""
    knots = Image.fromarray(rng.standard_normal(shape, dtype=np.float32))
    return np.asarray(knots.resize(size[::-1], Image.Resampling.BICUBIC))


class Canvas:
    """An RGB image of `scale` times the picture's resolution, whose upper left corner lies at `origin`."""

    def __init__(self, image: Image.Image, scale: float = OVERSAMPLING, origin: ArrayLike = (0, 0)):
        self.image, self.scale, self.origin = image, scale, np.asarray(origin, dtype=np.float64)
        self.pen = ImageDraw.Draw(image, "RGBA")

    def place(self, points: ArrayLike) -> list[float]:
        """Picture coordinates as the flat list of image coordinates that Pillow draws from."""
        return ((np.asarray(points, dtype=np.float64) - self.origin) * self.scale).ravel().tolist()

    def fill(self, points: ArrayLike, colour: Colour, alpha: float = 1) -> None:
        self.pen.polygon(self.place(points), (*colour, round(255 * alpha)))

    def stroke(self, points: ArrayLike, colour: Colour, width: float, alpha: float = 1) -> None:
        pixels = max(1, round(width * self.scale))
        self.pen.line(self.place(points), (*colour, round(255 * alpha)), pixels, joint="curve" if pixels > 2 else None)

    def dot(self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: float = 1) -> None:
        self.pen.ellipse(self.place([(x - rx, y - ry), (x + rx, y + ry)]), (*colour, round(255 * alpha)))

    def paint(self, points: ArrayLike, tones: Tones, palette: bytes, blur: float = 0, alpha: float = 1) -> None:
        """Fills the polygon with `tones` through `palette` (see `ramp`); `blur` (pixels) softens its edge.

        For a canvas of the whole picture, `scale` times as large.
        """
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(self.place(points), round(255 * alpha))
        box = mask.getbbox()
        if not box:
            return
        # only what lies about the polygon is worked on, whole pixels of the picture; no blur reaches further
        scale, reach = int(self.scale), math.ceil(4 * blur * self.scale) + 4 if blur else 0
        left, upper = (max(0, v - reach) // scale for v in box[:2])
        right = min(WIDTH, (box[2] + reach - 1) // scale + 1)
        lower = min(HEIGHT, (box[3] + reach - 1) // scale + 1)
        mask = mask.crop((left * scale, upper * scale, right * scale, lower * scale))
        if blur:
            mask = mask.filter(ImageFilter.GaussianBlur(blur * self.scale))
        shades = Image.fromarray((tones[upper:lower, left:right] * 255).clip(0, 255).astype(np.uint8))
        shades = shades.resize(mask.size, Image.Resampling.NEAREST)
        shades.putpalette(palette)
        self.image.paste(shades.convert("RGB"), (left * scale, upper * scale), mask)

    def blend(self, colour: Colour, mask: Tones) -> None:
        """Lays `colour` over the whole with the opacity `mask` (218, 178) in [0, 1]."""
        opacity = Image.fromarray((mask * 255).clip(0, 255).astype(np.uint8))
        opacity = opacity.resize(self.image.size, Image.Resampling.NEAREST)
        box = opacity.getbbox()  # most of a mask is empty
        if box:
            self.image.paste(colour, box, opacity.crop(box))

    @contextmanager
    def zoom(self, x: float, y: float, rx: float, ry: float, factor: int = 4) -> Iterator[Canvas]:
        """A finer canvas for the box of half sizes `rx`, `ry` about (x, y); put back when the block ends."""
        left, upper, right, lower = (round(v) for v in self.place([(x - rx, y - ry), (x + rx, y + ry)]))
        part = self.image.crop((left, upper, right, lower)).resize(
            ((right - left) * factor, (lower - upper) * factor), Image.Resampling.NEAREST
        )
        yield Canvas(part, self.scale * factor, self.origin + np.array((left, upper)) / self.scale)
        self.image.paste(part.reduce(factor), (left, upper))

    @contextmanager
    def clip(self, points: ArrayLike) -> Iterator[Canvas]:
        """A canvas like this one of which only what lies inside the polygon is kept."""
        part = Canvas(self.image.copy(), self.scale, self.origin)
        yield part
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(self.place(points), 255)
        self.image.paste(part.image, (0, 0), mask)
