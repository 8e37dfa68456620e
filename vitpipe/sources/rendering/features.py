"""Eyes, brows, nose, mouth, beard and the lines of age."""

import numpy as np

from vitpipe.sources.rendering.canvas import HEIGHT, Canvas, Colour, Points, curve, mix, moved, noise, ramp
from vitpipe.sources.rendering.head import Frame, jawline
from vitpipe.sources.rendering.person import Person, Shot

LINE = (46, 24, 20)


def draw_eyes(canvas: Canvas, who: Person, how: Shot) -> None:
    for side, (x, y) in ((-1, how.lefteye), (1, how.righteye)):
        half = who.eye * (1 - 0.14 * max(0, side * how.turn))
        with canvas.zoom(x, y, 16, 13) as fine:
            draw_eye(fine, who, how, x, y, side, half)


def draw_eye(canvas: Canvas, who: Person, how: Shot, x: float, y: float, side: int, half: float) -> None:
    """One eye about (x, y), on which the iris is centred but for the gaze; `side` is 1 for the picture's right."""
    opening = (2.7 if who.narrow else 4.8) - (0.5 if how.smiling else 0)

    def shape(points: list[tuple[float, float]]) -> Points:
        u, v = np.array(points).T
        return np.stack([x + side * u * half, y + v - who.tilt * (u + 1) / 2 + 0.2], axis=1)

    low = 3.1 - (0.9 if who.narrow else 0) - (0.4 if how.smiling else 0)
    upper = curve(shape([(-1, 1.3), (-0.55, -0.6 * opening), (0, -opening), (0.5, -0.82 * opening), (1, 0.2)]))
    lower = curve(shape([(1, 0.2), (0.55, 0.8 * low), (0, low), (-0.55, 0.75 * low), (-1, 1.3)]))
    almond = np.concatenate([upper, lower])
    skin_shadow = mix(who.skin, LINE, 0.5)
    if how.makeup:
        lid = np.concatenate(
            [upper, curve(shape([(1.25, -2.6), (0.5, -opening - 4), (-0.4, -opening - 2.5), (-1, 0.6)]))]
        )
        canvas.fill(lid, mix(who.skin, who.iris, 0.35), 0.55)
        canvas.fill(lid, (40, 26, 36), 0.25)
    canvas.fill(almond, (226, 220, 216))
    shadow = np.concatenate([upper, shape([(1, -0.4), (0, 1.1 - opening), (-1, 0.6)])])
    ix, iy, r, glint = x + how.gaze, y + 0.1, 4.3, 1.4 * np.sign(how.light[0])
    with canvas.clip(almond) as ball:  # the lids cut the iris
        ball.dot(ix, iy, r, r, mix(who.iris, (10, 8, 8), 0.6))
        ball.dot(ix, iy, r * 0.84, r * 0.84, who.iris)
        ball.dot(ix, iy + 0.9, r * 0.55, r * 0.5, mix(who.iris, (255, 240, 210), 0.25), 0.6)
        ball.dot(ix, iy, r * 0.46, r * 0.46, (10, 8, 10))
        ball.fill(shadow, (30, 20, 22), 0.42)
        ball.dot(ix + glint, iy - 1.3, 0.95, 0.95, (255, 255, 255))
        ball.dot(ix - glint, iy + 1.5, 0.5, 0.5, (255, 255, 255), 0.5)
        ball.dot(x - side * half * 0.93, y + 1.3, 1.5, 1.2, mix(who.skin, (200, 90, 90), 0.6))
    canvas.stroke(lower, skin_shadow, 0.5, 0.75)
    lash = (22, 14, 14)
    width = 1.6 if how.makeup else (0.8 if who.male else 1.15)
    canvas.stroke(upper, lash, width)
    if not who.male:
        for u in (0.15, 0.4, 0.62, 0.82, 1.0):
            root = shape([(u, -opening * (1 - u**2.2) + 0.2 * u)])[0]
            long = 2.7 if how.makeup else 1.8
            canvas.stroke([root, moved(root, side * long * (0.25 + 0.7 * u), -long * 0.8)], lash, 0.5)
    crease = curve(shape([(-0.9, -1.2), (-0.4, -opening - 1.6), (0.3, -opening - 2.2), (1.1, -1.6)]))
    canvas.stroke(crease, skin_shadow, 0.6, 0.6)


def draw_brows(canvas: Canvas, who: Person, how: Shot) -> None:
    rng = np.random.default_rng(who.texture)
    colour = mix(who.hair, (40, 28, 22), 0.3 if who.hair_name == "Gray_Hair" else 0.55)
    thick = who.brow * (1.5 if who.bushy else 1)
    arch = 3.0 if who.arched else 0.8
    for side, (x, y) in ((-1, how.lefteye), (1, how.righteye)):
        narrow = 1 - 0.12 * max(0, side * how.turn)
        level = y - 12.2 + (0.8 if who.male else -0.9) + (-0.8 if how.gape > 4 else 0)
        u = np.array([-11.0, -5, 2, 8, 13.5]) * narrow
        v = np.array([1.2, -0.2 - 0.3 * arch, -1.0 - 0.75 * arch, -0.6 - 0.8 * arch, 2.6 - 0.3 * arch])
        body = np.array([0.95, 1.1, 1.0, 0.75, 0.2]) * thick
        top, bottom = (
            np.stack([x + side * u, level + v - body / 2], 1),
            np.stack([x + side * u, level + v + body / 2], 1),
        )
        with canvas.zoom(x, level, 18, 10, 2) as fine:
            fine.fill(np.concatenate([curve(top), curve(bottom[::-1])]), colour, 0.72)
            spots = rng.random((26 if who.bushy else 16, 2))
            for s, t in spots:
                k = min(int(s * 4), 3)
                root = (bottom[k] * (1 - s * 4 % 1) + bottom[k + 1] * (s * 4 % 1)) - (0, t * body[k])
                tip = moved(root, side * (1.1 + 1.4 * s), (-1.9 + 2.6 * s) * (1.2 if who.bushy else 0.8))
                fine.stroke([root, tip], mix(colour, (0, 0, 0), 0.3), 0.5, 0.85)


def draw_nose(canvas: Canvas, who: Person, how: Shot) -> None:
    x, y = how.nose
    line = mix(who.skin, LINE, 0.6)
    with canvas.zoom(x, y, 16, 12, 2) as fine:
        for side in (-1, 1):
            seen = 1 - 0.3 * max(0, side * how.turn)
            reach = who.nose * seen
            fine.dot(x + side * reach * 0.5, y + 5.3, 2.3 * seen, 1.15, mix(who.skin, (30, 10, 8), 0.8), 0.9)
            wing = [(x + side * u * reach, y + v) for u, v in ((0.86, -2.2), (1.04, 1.2), (1.0, 4.4), (0.72, 5.6))]
            fine.stroke(curve(wing), line, 0.9, 0.55)
        fine.stroke(curve([(x - 2, y + 6.3), (x, y + 6.8), (x + 2, y + 6.3)]), line, 0.7, 0.55)


def lip_colour(who: Person, how: Shot) -> Colour:
    return how.lipstick or mix(np.array(who.skin) * (0.86, 0.66, 0.64), (170, 70, 74), 0.3)


def draw_mouth(canvas: Canvas, who: Person, how: Shot) -> None:
    (lx, ly), (rx, ry) = how.leftmouth, how.rightmouth
    x, y, half = (lx + rx) / 2, (ly + ry) / 2, (rx - lx) / 2
    x += 1.2 * how.turn
    sag = 3.4 if how.smiling else -0.3  # the middle of the mouth below its corners
    full, gape = who.lips, how.gape
    rise = 0.62 * full
    upper_top = [(-1, 0), (-0.5, sag * 0.55 - rise * 0.8), (-0.17, sag * 0.6 - rise - 0.5), (0, sag * 0.7 - rise + 0.4)]
    upper_top += [(-u, v) for u, v in reversed(upper_top[:3])]
    upper_edge = [(-1, 0), (-0.5, sag * 0.8 - 0.1), (0, sag * 0.9 + 0.3), (0.5, sag * 0.8 - 0.1), (1, 0)]
    lower_edge = [(-1, 0), (-0.5, sag * 0.85 + gape * 0.75), (0, sag + gape), (0.5, sag * 0.85 + gape * 0.75), (1, 0)]
    bottom = [(-1, 0), (-0.55, sag * 0.9 + gape * 0.85 + full * 0.62), (0, sag + gape + full * 0.95)]
    bottom += [(0.55, bottom[1][1]), (1, 0)]

    def line(points: list[tuple[float, float]]) -> Points:
        u, v = np.array(points).T
        return curve(np.stack([x + u * half - 1.2 * how.turn * np.abs(u), y + v + (ry - ly) / 2 * u], axis=1))

    top, inner_top, inner_low, low = line(upper_top), line(upper_edge), line(lower_edge), line(bottom)
    lips = lip_colour(who, how)
    with canvas.zoom(x, y + 4, half + 4, 15, 2) as fine:
        if gape:
            fine.fill(np.concatenate([inner_top, inner_low[::-1]]), (58, 16, 18))
            if gape > 4.5:
                fine.dot(x, y + sag + gape, half * 0.42, gape * 0.3, (178, 82, 84))
            teeth = moved(inner_top, y=min(gape * 0.75, 4.4))
            edge = np.minimum(teeth[:, 1], inner_low[:, 1])
            teeth = np.stack([teeth[:, 0], edge], axis=1)
            fine.fill(np.concatenate([inner_top, teeth[::-1]]), (238, 234, 226))
            for k in range(-4, 5):
                tx = x + half * 0.17 * (k + 0.5) * (1 - 0.02 * abs(k))
                height = np.interp(tx, inner_top[:, 0], inner_top[:, 1]), np.interp(tx, teeth[:, 0], edge)
                fine.stroke([(tx, height[0]), (tx, height[1])], (150, 130, 124), 0.35, 0.55)
            fine.fill(np.concatenate([inner_top, moved(inner_top, y=0.9)[::-1]]), (70, 30, 30), 0.5)
        fine.fill(np.concatenate([top, inner_top[::-1]]), mix(lips, (60, 10, 20), 0.2))
        fine.fill(np.concatenate([inner_low, low[::-1]]), lips)
        gloss = line([(u, v + 0.24 * full) for u, v in lower_edge[1:4]])
        fine.stroke(gloss, mix(lips, (255, 235, 230), 0.5), 0.16 * full, 0.65 if how.lipstick else 0.4)
        fine.stroke(inner_top, mix(lips, (40, 8, 12), 0.72), 0.9 if not gape else 0.6, 0.95)
        for corner in (lx, rx):
            fine.dot(corner, y + (ry - ly) / 2 * np.sign(corner - x), 1.0, 0.8, mix(lips, (40, 8, 12), 0.6), 0.7)


def draw_age(canvas: Canvas, who: Person, how: Shot, f: Frame) -> None:
    """Folds next to the nose when smiling; wrinkles of old people."""
    fold = mix(who.skin, LINE, 0.5)
    (nx, ny), strength = how.nose, (0.55 if who.old else 0.2)
    for side, corner in ((-1, how.leftmouth), (1, how.rightmouth)):
        if who.old or how.smiling:
            path = [
                (nx + side * who.nose * 1.2, ny + 2),
                (corner[0] + side * 2, corner[1] - 8),
                (corner[0] + side * 4.5, corner[1]),
            ]
            canvas.stroke(curve(path), fold, 1.0, strength)
        if who.old:
            ex, ey = how.lefteye if side < 0 else how.righteye
            for tilt in (-3.5, -0.5, 2.5):
                canvas.stroke([(ex + side * 12.5, ey + 0.4 * tilt), (ex + side * 18, ey + 1.4 * tilt)], fold, 0.5, 0.7)
    if who.old:
        for y, wide in ((74, 20), (81, 24), (88, 19)):
            mid = f.centre + 3 * f.turn
            canvas.stroke(
                curve([(mid - wide, y + 1), (mid - wide / 3, y - 1), (mid + wide / 3, y - 0.6), (mid + wide, y + 1)]),
                fold,
                0.7,
                0.5,
            )


def draw_beard(canvas: Canvas, who: Person, how: Shot, f: Frame) -> None:
    """Hair on lip, chin and jaw as short strokes; stubble as a thin veil of the same."""
    if who.beard == "none":
        return
    (lx, ly), (rx, _), (nx, ny) = how.leftmouth, how.rightmouth, how.nose
    x = (lx + rx) / 2
    rng = np.random.default_rng(who.texture)
    grain = noise(rng, (HEIGHT // 4, 89), (HEIGHT, 178))
    dark = mix(who.hair, (20, 14, 12), 0.35)
    hairs = 0.5 + 0.2 * grain, ramp(mix(dark, (0, 0, 0), 0.5), dark, mix(dark, (255, 240, 220), 0.3))
    veil = 0.3 if who.beard == "stubble" else 0.9
    blur = 2.0 if who.beard == "stubble" else 0.7
    lip = [
        (lx - 3, ly + 2),
        (lx + 3, ly - 5.5),
        (nx - 3, ny + 9),
        (nx, ny + 10),
        (nx + 3, ny + 9),
        (rx - 3, ly - 5.5),
        (rx + 3, ly + 2),
    ]
    if who.beard != "full" and who.beard != "stubble":
        canvas.paint(curve([*lip, (x, ly - 1)], closed=True), *hairs, blur, veil)
    chin = f.centre + 7 * f.turn
    if who.beard == "goatee":
        around = [(lx - 3, ly), (lx + 1, ly), (lx + 3, ly + 12), (rx - 3, ly + 12), (rx - 1, ly), (rx + 3, ly)]
        below = [(rx + 1, f.chin - 8), (chin + 8, f.chin + 1), (chin - 8, f.chin + 1), (lx - 1, f.chin - 8)]
        canvas.paint(np.array(around + below), *hairs, blur, veil)
    if who.beard in ("full", "stubble"):
        grow = 0 if who.beard == "stubble" else 1
        edge = [(0.97, 116), *((u + 0.015 * grow, y + 2.5 * grow * (1 - u)) for u, y in jawline(who))]
        inner = [(0.9, 118), (0.84, 138), (0.62, 150)]
        outer = f.at([*edge, (0, f.chin + 2.5 * grow), *((-u, y) for u, y in reversed(edge))])
        left, right = f.at([(-u, y) for u, y in inner]), f.at([(u, y) for u, y in reversed(inner)])
        canvas.paint(np.concatenate([curve(outer), curve(np.concatenate([left, lip, right]))]), *hairs, blur, veil)
