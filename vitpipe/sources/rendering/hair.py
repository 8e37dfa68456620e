"""Hair: masses with crisp outlines, filled with strands that run from the parting."""

import numpy as np

from vitpipe.sources.rendering.canvas import HEIGHT, Canvas, Tones, X, Y, curve, ramp
from vitpipe.sources.rendering.head import Frame
from vitpipe.sources.rendering.person import Person, Shot

LONG = ("bob", "long")
Edge = list[tuple[float, float]]


def strands(who: Person, how: Shot, f: Frame, depth: float) -> tuple[Tones, bytes]:
    """Tones and palette of hair everywhere; `depth` darkens what lies further back.

    A strand is a line of equal u, the place across the head seen from the parting: meridians of the
    skull above, falling straight (or in waves) below.
    """
    rng = np.random.default_rng(who.texture)
    top, middle = f.top - who.volume, 100.0
    v = np.clip((Y[:, :1] - top) / (middle - top), 0.02, None)
    spread = np.where(v < 1, np.sqrt(np.clip(1 - (1 - v) ** 2, 0.02, 1)), 1 + 0.1 * (v - 1))
    parting = f.centre + who.part * 0.5 * f.width * np.clip(1 - v, 0, 1)
    u = (X[:1] - parting) / (f.width * spread)
    short = who.style not in (*LONG, "bun")
    if who.wavy:
        length, sway = (11, 0.09) if short else (22, 0.085)
        u = u + sway * np.sin(
            2 * np.pi / length * Y[:, :1] + 4 * np.sin(3 * u) + 1.2 * np.sin(Y[:, :1] / 15) + rng.uniform(0, 6)
        )
    # 16 steps from one strand to the next, 256 strands in a ring
    table = np.interp(np.arange(4096) / 16, np.arange(257), rng.standard_normal(257)).astype(np.float32)
    coarse = ((9 if short else 10) * 16 * u).astype(np.int16)
    tone = (0.2 if who.wavy else 0.22) * table[coarse & 4095] + 0.05 * table[(coarse * 2 + 900) & 4095]
    gleam = np.exp(-(((v - 0.42 - 0.1 * np.sin(5 * u) + 0.25 * tone) / 0.13) ** 2))
    gleam += 0.5 * np.exp(-(((v - 1.35) / 0.2) ** 2))
    tone = 0.45 - depth + tone * (0.6 + gleam) + 0.2 * gleam
    tone += how.contrast * 0.16 * how.light[0] * np.clip((X[:1] - f.centre) / f.width, -1.2, 1.2)
    hair = np.array(who.hair, float)
    return tone, ramp(hair * 0.4, hair, hair * 0.75 + 70)


def draw_back(canvas: Canvas, who: Person, how: Shot, f: Frame) -> None:
    """What hangs or is tied behind the head."""
    if who.style == "bun" and not how.hat:
        x, y = f.centre - 12 * how.turn, f.top - who.volume - 6
        ring = np.linspace(0, 2 * np.pi, 14)[:-1]
        canvas.paint(
            curve(np.stack([x + 17 * np.cos(ring), y + 14 * np.sin(ring)], 1), closed=True), *strands(who, how, f, 0.1)
        )
    if who.style not in LONG:
        return
    v, end = who.volume / 60, HEIGHT + 8 if who.style == "long" else 186
    side = [(0.7, 70), (1.03 + v, 95), (1.12 + v, 130), (1.2 + v, 165), (1.14 + v, end - 4), (0.6, end + 3)]
    shape = f.at([*side, *((-u, y) for u, y in reversed(side))])
    canvas.paint(curve(shape, closed=True), *strands(who, how, f, 0.2))


def fringe(who: Person) -> Edge:
    """The hairline over the forehead from right to left, as (u, y)."""
    p = who.part
    if who.style == "receding":
        return [(0.86, 92), (0.74, 66), (0.5, 54), (0.2, 62), (-0.2, 62), (-0.5, 54), (-0.74, 66), (-0.86, 92)]
    if who.bangs:
        level = 94
        return [
            (0.84, 104),
            (0.7, level + 1),
            (0.35, level),
            (0.05, level - 1),
            (-0.3, level),
            (-0.68, level + 1),
            (-0.84, 104),
        ]
    if who.style in (*LONG, "parted"):
        right = [(0.86, 96), (0.66, 80 - 6 * p), (p * 0.6 + 0.2, 67)]
        left = [(p * 0.6 - 0.2, 67), (-0.66, 80 + 6 * p), (-0.86, 96)]
        return [*right, (p * 0.6, 61), *left]
    return [(0.87, 94), (0.76, 74), (0.4, 68), (0, 66), (-0.4, 68), (-0.76, 74), (-0.87, 94)]


def locks(who: Person, side: int, v: float) -> tuple[Edge, Edge]:
    """Outer and inner edge (u, y), from below, of long hair on one side of the face."""
    if who.fall in (2, -side):  # behind the shoulder
        return [(0.96, 120), (1.03 + v, 100), (0.98 + v, 78)], [(0.9, 116)]
    end = HEIGHT + 8 if who.style == "long" else 180
    sway = 0.05 if who.wavy else 0
    outer: Edge = [(1.12 + v, end), (1.18 + v, 168), (1.12 + v + sway, 135), (1.06 + v, 105), (0.98 + v, 78)]
    return outer, [(0.78, end), (0.88, 178), (0.94 - sway, 155), (0.88 + sway, 130), (0.9, 112)]


def draw_front(canvas: Canvas, who: Person, how: Shot, f: Frame) -> None:
    """The cap of hair on the skull with its sides; under a hat only the sides show."""
    if who.style == "bald":
        return
    rng = np.random.default_rng(who.texture)
    v, top = who.volume / 60, f.top - who.volume
    if who.style in LONG:
        sides = [locks(who, side, v) for side in (-1, 1)]
    else:
        low = 128 if who.sideburns else 113
        flat = 0.3 if who.style in ("bun", "receding") else 1
        edges: tuple[Edge, Edge] = [(0.96, low), (0.99 + 0.4 * v * flat, 96), (0.96 + v * flat, 76)], [(0.87, low)]
        sides = [edges, edges]
    (left_outer, left_inner), (right_outer, right_inner) = sides
    dome = [(0.8 + 0.8 * v, 60), (0.46 + 0.4 * v, top + 6), (0, top), (-0.46 - 0.4 * v, top + 6), (-0.8 - 0.8 * v, 60)]
    rim = curve(f.at([*right_outer, *dome, *((-u, y) for u, y in reversed(left_outer))]))
    line = curve(f.at([*((-u, y) for u, y in left_inner), *reversed(fringe(who)), *reversed(right_inner)]), steps=8)
    tips = rng.uniform(-1, 1, len(line)) * np.where(np.arange(len(line)) % 3, -0.6, 1)
    forehead = (line[:, 1] < 97) & (np.abs(line[:, 0] - f.centre) < 0.8 * f.width)
    line[:, 1] += forehead * tips * (3.2 if who.bangs or who.style == "short" else 0.8)
    if who.style in ("short", "parted"):
        rim[8:-8] += rng.normal(0, 0.9 if who.wavy else 0.5, rim[8:-8].shape)
    canvas.paint(np.concatenate([rim, line]), *strands(who, how, f, 0))
    for k in rng.integers(12, len(rim) - 12, 6):  # a few hairs stand off
        along = (rim[k + 1] - rim[k - 1]) * rng.uniform(0.8, 1.6)
        off = (rim[k] - (f.centre, 110)) * rng.uniform(0.02, 0.05)
        canvas.stroke(curve([rim[k], rim[k] + along * 0.6 + off, rim[k] + along + off * 0.6]), who.hair, 0.5, 0.8)
