"""What is around the person, and the camera: background, exposure, grain, JPEG."""

import io

import numpy as np
from PIL import Image, ImageFilter

from vitpipe.sources.rendering.canvas import HEIGHT, OVERSAMPLING, WIDTH, Canvas, Colour, mix, noise

Rng = np.random.Generator


def palette(rng: Rng) -> list[Colour]:
    """Five colours around one random colour, from dark to light."""
    base = rng.uniform(40, 190) * np.exp(rng.normal(0, 0.22, 3))
    accent = rng.uniform(10, 245, 3)
    black, white = (0, 0, 0), (255, 255, 255)
    return [
        mix(base, black, 0.6),
        mix(base, black, 0.25),
        mix(base, base, 0),
        mix(base, white, 0.42),
        mix(base, accent, 0.8),
    ]


def bokeh(canvas: Canvas, rng: Rng, colours: list[Colour]) -> None:
    for x, y, r, pick in rng.random((26, 4)):
        size = 4 + 12 * r
        canvas.dot(x * WIDTH, y * HEIGHT, size, size, mix(colours[int(pick * 5)], (255, 255, 255), 0.3), 0.6)


def foliage(canvas: Canvas, rng: Rng, colours: list[Colour]) -> None:
    greens = [mix(c, (60, 110, 40), 0.55) for c in colours]
    for x, y, angle, pick in rng.random((80, 4)):
        a, size = angle * 6.3, 11 + 13 * pick
        tip, wide = np.array([np.cos(a), np.sin(a)]) * size, np.array([-np.sin(a), np.cos(a)]) * size * 0.32
        middle = np.array([x * 200 - 10, y * 240 - 10])
        green = mix(greens[int(pick * 5)], (0, 0, 0), 0.4 * angle)
        leaf = [tip, 0.4 * tip + wide, wide - 0.4 * tip, -tip, -0.4 * tip - wide, 0.4 * tip - wide]
        canvas.fill(middle + leaf, green)
        canvas.stroke([middle - tip, middle + tip], mix(green, (255, 255, 220), 0.35), 0.6)


def stripes(canvas: Canvas, rng: Rng, colours: list[Colour]) -> None:
    slant, x = rng.normal(0, 40), -60.0
    while x < WIDTH + 60:
        wide = rng.uniform(5, 24)
        canvas.fill([(x, 0), (x + wide, 0), (x + wide + slant, HEIGHT), (x + slant, HEIGHT)], colours[rng.integers(5)])
        x += wide


def bricks(canvas: Canvas, rng: Rng, colours: list[Colour]) -> None:
    tall, wide = rng.uniform(12, 20), rng.uniform(28, 44)
    mortar = mix(colours[3], (220, 220, 215), 0.5)
    canvas.fill([(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)], mortar)
    for row in range(int(HEIGHT / tall) + 1):
        for column in range(-1, int(WIDTH / wide) + 2):
            x, y = (column + 0.5 * (row % 2)) * wide, row * tall
            brick = mix(colours[2], colours[0], rng.random())
            canvas.fill([(x, y), (x + wide - 2.4, y), (x + wide - 2.4, y + tall - 2.4), (x, y + tall - 2.4)], brick)


def city(canvas: Canvas, rng: Rng, colours: list[Colour]) -> None:
    x = -5.0
    while x < WIDTH:
        wide, top = rng.uniform(24, 55), rng.uniform(-20, 110)
        wall, glass = colours[rng.integers(3)], colours[3 + rng.integers(2)]
        canvas.fill([(x, top), (x + wide, top), (x + wide, HEIGHT), (x, HEIGHT)], wall)
        step = rng.uniform(11, 18)
        for wy in np.arange(top + 5, HEIGHT, step * 1.4):
            for wx in np.arange(x + 4, x + wide - 5, step):
                lit = mix(glass, wall, 0.7 * (rng.random() < 0.3))
                canvas.fill(
                    [(wx, wy), (wx + step * 0.55, wy), (wx + step * 0.55, wy + step * 0.8), (wx, wy + step * 0.8)], lit
                )
        x += wide + rng.uniform(0, 10)


def letters(canvas: Canvas, rng: Rng, colours: list[Colour]) -> None:
    """A sponsors' wall: rows of made-up letters, bars on a 2 x 3 grid."""
    canvas.fill([(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)], colours[rng.integers(2, 4)])
    size = rng.uniform(8, 14)
    for row, y in enumerate(np.arange(6, HEIGHT, size * 4.4)):
        x, ink = -20 * (row % 2) + rng.uniform(-10, 0), colours[rng.choice((0, 1, 4))]
        while x < WIDTH:
            for _ in range(rng.integers(3, 7)):
                for bar in np.flatnonzero(rng.random(5) < 0.62):
                    ends = (((0, 0), (0, 2)), ((1, 0), (1, 2)), ((0, 0), (1, 0)), ((0, 1), (1, 1)), ((0, 2), (1, 2)))[
                        bar
                    ]
                    canvas.stroke([(x + cx * size, y + cy * size) for cx, cy in ends], ink, size * 0.3)
                x += size * 1.7
            x += size * 3


def shelves(canvas: Canvas, rng: Rng, colours: list[Colour]) -> None:
    tall = rng.uniform(38, 60)
    for y in np.arange(-rng.uniform(0, tall), HEIGHT, tall):
        x = 0.0
        while x < WIDTH:
            wide, high = rng.uniform(8, 15), rng.uniform(0.6, 0.9) * tall
            book = mix(colours[rng.integers(5)], rng.uniform(20, 230, 3), 0.4)
            canvas.fill(
                [
                    (x, y + tall - high),
                    (x + wide - 0.8, y + tall - high),
                    (x + wide - 0.8, y + tall - 3),
                    (x, y + tall - 3),
                ],
                book,
            )
            canvas.stroke(
                [(x + 1.5, y + tall - high * 0.8), (x + wide - 2, y + tall - high * 0.8)],
                mix(book, (255, 250, 220), 0.6),
                1.2,
            )
            x += wide
        canvas.fill(
            [(0, y + tall - 3), (WIDTH, y + tall - 3), (WIDTH, y + tall), (0, y + tall)],
            mix(colours[0], (70, 40, 20), 0.5),
        )


def studio(canvas: Canvas, rng: Rng, colours: list[Colour]) -> None:
    """A lit backdrop in soft patches."""
    field = noise(rng, (4, 3), (HEIGHT, WIDTH))
    canvas.blend(colours[3], np.clip(0.5 + 0.5 * field, 0, 1))


KINDS = (bokeh, foliage, stripes, bricks, city, letters, shelves, studio)


def background(rng: Rng) -> Image.Image:
    """A background (RGB, oversampled), in focus or out of it."""
    colours = palette(rng)
    kind = KINDS[rng.choice(len(KINDS), p=(0.13, 0.16, 0.11, 0.1, 0.15, 0.15, 0.1, 0.1))]
    size = WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING
    if rng.random() < 0.7 and kind not in (bokeh, studio):
        image = Image.new("RGB", size, colours[1])
        kind(Canvas(image), rng, colours)
        return image
    image = Image.new("RGB", (WIDTH // 2, HEIGHT // 2), colours[1])
    kind(Canvas(image, 0.5), rng, colours)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(1.2, 2.8))).resize(size, Image.Resampling.BICUBIC)


def expose(image: Image.Image, rng: Rng) -> Image.Image:
    """The camera's automatic exposure and white balance, each a little off.

    Both bring the mean colour near a target that is drawn independently of what is in the picture,
    so the mean tells next to nothing about the person.
    """
    target = rng.uniform(72, 165) * np.exp(rng.normal(0, 0.08, 3))
    pixels = np.asarray(image.reduce(4), dtype=np.float32) / 255
    gain = np.ones(3)
    x = np.arange(256) / 255
    for _ in range(3):
        mean = (gain * pixels / (1 + (gain - 1) * pixels)).mean((0, 1)) * 255
        gain *= np.clip(target / mean, 0.5, 2) ** 1.2
        level = gain.mean()
        gain = (gain / level).clip(0.86, 1.16) * level.clip(0.5, 2.0)
    table = gain[:, None] * x / (1 + (gain[:, None] - 1) * x)
    return image.point((table * 255).round().astype(int).ravel().tolist())


def develop(image: Image.Image, rng: Rng) -> bytes:
    """The JPEG file (quality 92) of an oversampled image: reduced, exposed, as sharp as a lens is, with film grain."""
    picture = expose(image.reduce(OVERSAMPLING), rng)
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.75)))  # no lens is sharper
    grain = rng.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32) * rng.uniform(0.8, 2)
    pixels = (np.asarray(picture, dtype=np.float32) + grain + 0.5).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()
