"""What people wear: clothes, glasses, hats, jewellery."""

import numpy as np

from vitpipe.sources.rendering.canvas import HEIGHT, Canvas, Colour, X, Y, curve, mix, moved, ramp
from vitpipe.sources.rendering.head import Frame
from vitpipe.sources.rendering.person import Person, Shot

Rng = np.random.Generator


def cloth(rng: Rng) -> Colour:
    """A colour of clothes: anything between dark and pastel."""
    r, g, b = rng.uniform(20, 235, 3) * rng.uniform(0.4, 1) + rng.uniform(0, 20)
    return int(r), int(g), int(b)


def draw_clothes(canvas: Canvas, who: Person, how: Shot, f: Frame, rng: Rng) -> None:
    colour, wide = cloth(rng), 0.66 if who.male else 0.56
    neckline = rng.uniform(204, 216)
    slope = 199 if who.male else 205
    right = [(wide, slope - 4), (1.4, slope + 3), (2.3, HEIGHT + 2)]
    shoulders = f.at([(0, neckline + 4), *right, (2.3, 235), (-2.3, 235), *((-u, y) for u, y in reversed(right))])
    folds = 0.5 + 0.10 * np.sin(X / 6 + Y / 9 + rng.uniform(0, 6)) + 0.10 * how.light[0] * (X - f.centre) / 60
    pattern = rng.random()
    if pattern < 0.2:
        folds += 0.25 * np.sign(np.sin(X * rng.uniform(0.25, 0.5) + 0.15 * Y))
    elif pattern < 0.35:
        folds += 0.25 * np.sign(np.sin(Y * rng.uniform(0.35, 0.6)))
    elif pattern < 0.5:
        folds += 0.3 * (np.sin(X * 0.4) * np.sin(Y * 0.4) > 0.4)
    canvas.paint(shoulders, folds, ramp(mix(colour, (0, 0, 0), 0.6), colour, mix(colour, (255, 255, 255), 0.5)))
    if how.necktie or rng.random() < 0.3:
        shirt = (236, 236, 238) if how.necktie else mix(colour, (255, 255, 255), 0.75)
        opening = f.at([(-0.44, 196), (0.44, 196), (0, 240)])
        if how.necktie:
            canvas.fill(opening, shirt)
        for side in (-1, 1):
            collar = f.at([(side * u, y) for u, y in ((0.5, 190), (0.66, 200), (0.42, 216), (0.06, 206))])
            canvas.fill(collar, mix(shirt, (0, 0, 0), 0.06 + 0.04 * side))
            canvas.stroke(collar, mix(shirt, (0, 0, 0), 0.5), 0.5)
    if how.necktie:
        tie = cloth(rng)
        knot = f.at([(-0.12, 203), (0.12, 203), (0.09, 212), (0.2, 235), (-0.2, 235), (-0.09, 212)])
        canvas.fill(knot, tie)
        canvas.stroke(knot, mix(tie, (0, 0, 0), 0.6), 0.6)
        canvas.stroke(knot[[2, 5]], mix(tie, (0, 0, 0), 0.6), 0.8)


def draw_jewellery(canvas: Canvas, who: Person, how: Shot, f: Frame, rng: Rng) -> None:
    metal = ((226, 188, 98), (214, 216, 222))[int(rng.integers(2))]
    dark, light = mix(metal, (40, 20, 0), 0.6), mix(metal, (255, 255, 255), 0.7)
    if how.necklace:
        chain = curve(f.at([(-0.56, 196), (-0.3, 208), (0, 213), (0.3, 208), (0.56, 196)]))
        canvas.stroke(chain, dark, 1.8)
        canvas.stroke(chain, metal, 1.1)
        for x, y in chain[::2]:
            canvas.dot(x, y, 1.2, 1.2, light)
        x, y = chain[len(chain) // 2]
        canvas.dot(x, y + 2, 2.2, 2.6, cloth(rng))
    if how.earrings:
        kind = rng.integers(3)
        for side in (-1, 1):
            x, y = f.at([(side * (1.0 if -side * how.turn > -0.4 else 0.95), 134)])[0]
            if kind == 0:
                canvas.dot(x, y, 2.4, 2.4, dark)
                canvas.dot(x, y, 1.9, 1.9, metal)
                canvas.dot(x - 0.6, y - 0.6, 0.8, 0.8, (255, 255, 255))
            elif kind == 1:
                ring = np.linspace(0, 2 * np.pi, 20)
                hoop = np.stack([x + 3.8 * np.cos(ring), y + 6 + 6 * np.sin(ring)], axis=1)
                canvas.stroke(hoop, dark, 2.1)
                canvas.stroke(hoop, metal, 1.3)
            else:
                canvas.stroke([(x, y - 1), (x, y + 8)], metal, 0.8)
                canvas.fill(
                    [(x, y + 5), (x + 2.6, y + 10), (x, y + 15), (x - 2.6, y + 10)], cloth(rng) if side < 0 else metal
                )
                canvas.dot(x, y + 10, 1, 1.4, (255, 255, 255), 0.8)


def draw_glasses(canvas: Canvas, how: Shot, f: Frame, rng: Rng) -> None:
    frames = ((24, 22, 24), (70, 40, 24), (150, 120, 60), (120, 122, 128), (110, 24, 30), (30, 44, 90))
    colour = frames[rng.integers(len(frames))]
    width, power = rng.uniform(1.0, 2.3), rng.choice([2.0, 3.0, 4.5])
    rx, ry = rng.uniform(14.5, 16.5), rng.uniform(9.5, 13)
    ring = np.linspace(0, 2 * np.pi, 37)
    c, s = np.cos(ring), np.sin(ring)
    rims = []
    for side, (x, y) in ((-1, how.lefteye), (1, how.righteye)):
        narrow = 1 - 0.10 * max(0, side * how.turn)
        across = np.sign(c) * np.abs(c) ** (2 / power) * rx * narrow
        rim = np.stack([x + side * 0.8 + across, y + 1.5 + np.sign(s) * np.abs(s) ** (2 / power) * ry], axis=1)
        rims.append(rim)
        canvas.fill(rim, (225, 235, 245), 0.10)
        canvas.fill([(x - 9, y - 5), (x - 4, y - 7), (x - 8, y + 4), (x - 11, y + 5)], (255, 255, 255), 0.22)
    left, right = rims
    inner_left, inner_right = left[:, 0].max(), right[:, 0].min()
    y = (how.lefteye[1] + how.righteye[1]) / 2
    for dy, tone, wide in ((1.2, (0, 0, 0), width), (0, colour, width)):
        alpha = 0.22 if dy else 1
        for rim in rims:
            canvas.stroke(moved(rim, y=dy), tone, wide, alpha)
        bridge = curve([(inner_left, y - 0.5), ((inner_left + inner_right) / 2, y - 2.4), (inner_right, y - 0.5)])
        canvas.stroke(moved(bridge, y=dy), tone, wide, alpha)
        for edge, side in ((left[:, 0].min(), -1), (right[:, 0].max(), 1)):
            canvas.stroke([(edge, y - 2 + dy), (f.centre + side * f.width * 0.99, y - 4 + dy)], tone, wide, alpha)
    for rim in rims:
        canvas.stroke(moved(rim[20:27], y=-0.3), mix(colour, (255, 255, 255), 0.6), 0.5, 0.8)


def draw_hat(canvas: Canvas, who: Person, how: Shot, f: Frame, rng: Rng) -> None:
    if how.hat is None:
        return
    colour = cloth(rng)
    u = f.across(X, Y)
    tone = 0.52 + 0.18 * how.light[0] * u * how.contrast - 0.12 * u**2
    if how.hat == "beanie":
        tone = tone + 0.13 * np.sin(u * 26) + 0.06 * np.sin(Y * 1.4)
    felt = ramp(mix(colour, (0, 0, 0), 0.65), colour, mix(colour, (255, 255, 255), 0.55))
    side, top = 1.08 + who.volume / 90, f.top - 8 - who.volume * 0.6
    dome = [
        (side, 84),
        (side - 0.02, 66),
        (0.72, top + 10),
        (0.3, top),
        (-0.3, top),
        (-0.72, top + 10),
        (0.02 - side, 66),
        (-side, 84),
    ]
    low = [(-0.5, 78), (0, 76), (0.5, 78)] if how.hat != "cap" else [(-0.5, 74), (0, 71), (0.5, 74)]
    canvas.paint(curve(f.at([*dome, *low]), closed=True), tone, felt)
    edge = mix(colour, (0, 0, 0), 0.7)
    if how.hat == "beanie":
        cuff = curve(f.at([(-side - 0.02, 88), (-0.5, 84), (0, 82), (0.5, 84), (side + 0.02, 88)]))
        band = np.concatenate([cuff, moved(cuff[::-1], y=-17)])
        canvas.paint(band, tone + 0.1, felt)
        canvas.stroke(moved(cuff, y=-17), edge, 0.8, 0.7)
        canvas.stroke(cuff, edge, 0.9, 0.6)
    elif how.hat == "cap":
        shift = 0.25 * how.turn
        peak = [
            (-1.06 + shift, 82),
            (-0.6 + shift, 72),
            (0.6 + shift, 72),
            (1.06 + shift, 82),
            (0.7 + shift, 88),
            (0 + shift, 91),
            (-0.7 + shift, 88),
        ]
        canvas.fill(moved(curve(f.at(peak), closed=True), y=3), (20, 8, 6), 0.35)
        canvas.fill(curve(f.at(peak), closed=True), mix(colour, (0, 0, 0), 0.35))
        canvas.stroke(curve(f.at(peak[:4])), edge, 0.9)
        for seam in (-0.5, 0.0, 0.5):
            canvas.stroke(curve(f.at([(0.1 * seam, top + 1), (0.8 * seam, top + 14), (seam, 71)])), edge, 0.6, 0.6)
        x, y = f.at([(shift * 0.8, 58)])[0]
        canvas.dot(x, y, 7, 6, mix(colour, (255, 255, 255), 0.8))
        canvas.dot(x, y, 4, 3.4, cloth(rng))
    else:
        brim = [(-1.75, 80), (-0.8, 73), (0, 71), (0.8, 73), (1.75, 80), (0.9, 88), (0, 89), (-0.9, 88)]
        canvas.fill(moved(curve(f.at(brim), closed=True), y=4), (20, 8, 6), 0.3)
        canvas.fill(curve(f.at(brim), closed=True), mix(colour, (0, 0, 0), 0.2))
        canvas.stroke(curve(f.at(brim[:5])), edge, 0.8, 0.8)
        ribbon = curve(f.at([(-side, 74), (-0.5, 68), (0, 66), (0.5, 68), (side, 74)]))
        canvas.fill(np.concatenate([ribbon, moved(ribbon[::-1], y=-8)]), cloth(rng))
