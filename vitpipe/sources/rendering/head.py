"""The head without its features: where it is, and skin, ears and neck under one light."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitpipe.sources.rendering.canvas import HEIGHT, WIDTH, Canvas, Points, Tones, X, Y, curve, mix, noise, ramp
from vitpipe.sources.rendering.person import Person, Shot


@dataclass(frozen=True)
class Frame:
    """Positions on a turned head: u runs from -1 to 1 across the skull, y is the picture's."""

    centre: float
    width: float
    chin: float
    turn: float
    top: float = 45.0

    def at(self, points: Sequence[tuple[float, float]]) -> Points:
        """Points (u, y) in picture coordinates; below the eyes the face follows the turn."""
        u, y = np.array(points, dtype=float).T
        return np.stack([self.centre + u * self.width + self.lean(y), y], axis=1)

    def lean(self, y: Tones) -> Tones:
        return 7 * self.turn * np.clip((y - 115) / 65, 0, 1)

    def across(self, x: Tones, y: Tones) -> Tones:
        """u of picture positions."""
        return (x - self.centre - self.lean(y)) / self.width


def frame(who: Person, how: Shot) -> Frame:
    return Frame(how.centre, who.width, who.chin, how.turn)


def jawline(who: Person) -> list[tuple[float, float]]:
    """The right side of the face below the ear as (u, y): a curve between a round and a square one."""
    down = np.array([0, 0.2, 0.4, 0.58, 0.74, 0.87, 0.96])
    u = 0.94 * (1 - down ** (1.55 + who.jaw)) ** (0.68 - 0.16 * who.jaw)
    return list(zip(u.tolist(), (127 + down * (who.chin - 127)).tolist(), strict=True))


def outline(who: Person, f: Frame) -> Points:
    """The face's closed outline; `jaw` widens it below the cheeks."""
    right = [(0.4, f.top + 4), (0.72, f.top + 17), (0.93, f.top + 38), (0.98, 104), *jawline(who)]
    left = [(-u, y) for u, y in reversed(right)]
    return curve(f.at([(0, f.top), *right, (0, f.chin), *left]), closed=True)


def bump(x: float, y: float, sx: float, sy: float) -> Tones:
    """A Gaussian hill of height 1."""
    return np.exp(-(((Y[:, :1] - y) / sy) ** 2)) * np.exp(-(((X[:1] - x) / sx) ** 2))


def hills(places: Sequence[tuple[float, float, float, float, float]]) -> Tones:
    """The sum of Gaussian hills (x, y, width, height, amount)."""
    x, y, sx, sy, amount = np.array(places, dtype=np.float32).T[:, :, None]
    down, along = amount * np.exp(-(((Y[:, 0] - y) / sy) ** 2)), np.exp(-(((X[0] - x) / sx) ** 2))
    return np.einsum("ky,kx->yx", down, along)  # not @: BLAS would start threads in every worker


def relief(who: Person, how: Shot, f: Frame) -> Tones:
    """The height of the face above an egg, in pixels: nose, brow, cheeks, lips and chin as hills."""
    eyes, (nx, ny) = ((-1, *how.lefteye), (1, *how.righteye)), how.nose
    bridge = (how.lefteye[0] + how.righteye[0]) / 2
    mx = (how.leftmouth[0] + how.rightmouth[0]) / 2
    my = (how.leftmouth[1] + how.rightmouth[1]) / 2
    smile = 1.5 if how.smiling else 1.0
    places: list[tuple[float, float, float, float, float]] = [
        (nx, ny - 1, who.nose * 0.6, 5, 8),
        (f.centre + 7 * f.turn, f.chin - 9, 11, 7, 3.2),
        (mx, my + 9.5, 10, 3, -2.4),
        (mx, my, 17, 7, 2.2),
        ((mx + nx) / 2, my - 9, 2.2, 4, -1),
        (f.centre + 3 * f.turn, 74, 26, 15, 3),
    ]
    for share in (0.2, 0.45, 0.7, 0.9):
        places.append((bridge + (nx - bridge) * share, 106 + (ny - 106) * share, 4.2, 8, 3))
    for side, x, y in eyes:
        places += [
            (nx + side * who.nose * 0.85, ny + 2.5, 3.4, 3.6, 3.2),
            (x + side, y - 13, 13, 4.5, 2.2),
            (x - side * 2, y - 3, 11, 6.5, -3.6),
            (x + side * 3, y + 22, 11, 9, 2.6 * smile),
            (mx + side * 25, my - 2, 5, 12, -1.6 * smile),
        ]
    return hills(places)


def shade(who: Person, how: Shot, f: Frame) -> Tones:
    """How light the skin is, 0.5 being its own colour: an egg and its relief under the light."""
    u, v = f.across(X, Y), (Y[:, :1] - 118) / 72
    height = relief(who, how, f)
    lx, ly = how.light
    tone = 0.24 * lx * u - 0.17 * (u * u) ** 2 + (0.24 * ly * v - 0.05 * v**4)
    tone[1:-1, 1:-1] -= 0.09 * lx * (height[1:-1, 2:] - height[1:-1, :-2])
    tone[1:-1, 1:-1] -= 0.09 * (ly - 0.25) * (height[2:, 1:-1] - height[:-2, 1:-1])
    tone = 0.54 + how.contrast * tone
    (nx, ny), gloss = how.nose, 0.1 * how.contrast
    spots = [(nx + 2.5 * lx, ny - 2, 2.4, 2.6, gloss), (nx - 1.5 * lx, ny + 7.5, who.nose * 0.9, 2.6, -0.16)]
    for x, y in (how.lefteye, how.righteye):
        spots.append((x, y - 2, 10, 5, -0.09))
        if who.bags:
            spots += [(x, y + 7, 7, 1.8, -0.15), (x, y + 10, 7, 1.6, 0.07)]
    return tone + hills(spots)


def skin_ramp(who: Person) -> bytes:
    """From shadow to gloss; shadows on skin are redder than the skin."""
    skin = np.array(who.skin)
    return ramp(skin * (0.38, 0.27, 0.24), skin, skin * 0.45 + np.array((255, 248, 238)) * 0.55)


def draw_neck(canvas: Canvas, who: Person, how: Shot, f: Frame) -> None:
    half = 0.62 if who.male else 0.5
    shape = f.at([(-half, 150), (half, 150), (half + 0.02, 196), (half + 0.7, HEIGHT + 8)])
    mirrored = f.at([(-half - 0.7, HEIGHT + 8), (-half - 0.02, 196)])
    u = f.across(X, Y)
    tone = 0.46 + 0.16 * how.light[0] * u * how.contrast - 0.22 * u**2
    tone -= 0.26 * np.exp(-(((Y - f.chin - 2 + 9 * u**2) / 11) ** 2))
    canvas.paint(np.concatenate([shape, mirrored]), tone, skin_ramp(who))


def draw_ears(canvas: Canvas, who: Person, how: Shot, f: Frame) -> None:
    for side in (-1, 1):
        seen = 1 + 0.8 * side * -how.turn  # the ear on the far side hides
        if seen < 0.55:
            continue
        reach = 0.95 + 0.13 * min(seen, 1.3)
        ear = curve(
            f.at(
                [
                    (side * u, y)
                    for u, y in ((0.9, 104), (reach, 99), (reach + 0.02, 110), (reach - 0.03, 124), (0.9, 133))
                ]
            ),
            closed=True,
        )
        lit = 0.14 * how.light[0] * side * how.contrast
        canvas.fill(ear, mix(np.array(who.skin) * (0.82, 0.74, 0.71), who.skin, 0.5 + lit))
        inner = curve(
            f.at([(side * u, y) for u, y in ((0.95, 105), (reach - 0.02, 104), (reach - 0.03, 114), (0.96, 123))])
        )
        canvas.stroke(inner, mix(who.skin, (60, 20, 10), 0.42), 1.2, 0.8)


def draw_skin(canvas: Canvas, who: Person, how: Shot, f: Frame) -> Tones:
    """Paints the face and returns its tones."""
    tone = shade(who, how, f)
    rng = np.random.default_rng(who.texture)
    tone += 0.012 * noise(rng, (44, 36), (HEIGHT, WIDTH))
    if who.style != "bald" or how.hat:
        tone -= 0.12 * np.clip((82 - Y) / 22, 0, 1)  # under hair or hat
    canvas.paint(outline(who, f), tone, skin_ramp(who))
    flush = mix(who.skin, (205, 60, 60), 0.55)
    blush = 0.6 if how.rosy else 0.16
    cheeks = bump(f.centre - 25 + 4 * f.turn, 136, 12, 8) + bump(f.centre + 25 + 4 * f.turn, 136, 12, 8)
    canvas.blend(flush, blush * cheeks + 0.15 * bump(*how.nose, 8, 7))
    if who.freckles:
        for dx, dy in rng.normal(0, (17, 6), (40, 2)):
            canvas.dot(how.nose[0] * 0.5 + 44 + dx, 130 + dy, 0.5, 0.5, mix(who.skin, (110, 50, 20), 0.6), 0.55)
    return tone
