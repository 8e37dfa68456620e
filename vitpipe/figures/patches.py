"""What a patch is: an image cut into strips and tiles, and the number that the encoder gives to each."""

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from vitpipe.figures.painting import Arrays, Drawn
from vitpipe.figures.style import INK, MUTED, Sheet, styled
from vitpipe.figures.text import extent, shortened
from vitpipe.metrics.grid import token_box

SIDE, LARGE = 240, 560  # pixels of the cut images and of the numbered one, about
MOST = 144  # with more patches than this, not every number is written
# whether rows and columns of patches move apart
STEPS = {"image": (0, 0), "horizontal strips": (1, 0), "vertical strips": (0, 1), "patches": (1, 1)}
TITLE = "What a patch is"


def draw(arrays: Arrays) -> Drawn:
    """The figure with its caption. `arrays`: see `patches`."""
    caption = "A test image in strips and patches, and the number of each patch, row by row."
    yield "patches", patches(arrays), TITLE, caption


@styled
def patches(arrays: Arrays) -> Figure:
    """An image, its strips, its patches, and their numbers in the order in which the encoder takes them.

    Args:
        arrays: image (r * p, q * p, 3) uint8; patch, p, side of a patch in pixels of the image; id of the image;
            prefix_tokens, how many tokens the encoder puts before the patches, the class token first.
    """
    image, patch, prefix = arrays["image"], int(arrays["patch"]), int(arrays["prefix_tokens"])
    height, width = image.shape[:2]
    assert height % patch == width % patch == 0, f"patch {patch} must divide the image {height}x{width}"
    rows, columns = height // patch, width // patch
    tokens, longest = rows * columns, max(height, width)
    small, large = max(1, round(SIDE / longest)), max(1, round(LARGE / longest))
    gap = int(np.clip(small * patch // 6, 1, 8))
    cell = small * longest + gap * (max(rows, columns) - 1)
    left, top, between = 12, 100, 24
    right = left + 2 * (cell + between)
    sheet = Sheet(right + large * longest + left, max(top + 2 * (cell + between) + 26, top + large * longest + 36))
    note = f"{tokens} tokens = {rows} × {columns} patches of {patch}×{patch} pixels, row by row; token 0 top left"
    if prefix:
        before = f"{prefix} more tokens come before them and are"
        note += f"; {before if prefix > 1 else 'the class token comes before them and is'} not counted here"
    sheet.title(left, 10, f"{TITLE}: {shortened(str(arrays['id']))}", note)
    for i, (name, (cut_rows, cut_columns)) in enumerate(STEPS.items()):
        x, y = left + i % 2 * (cell + between), top + i // 2 * (cell + between + 26)
        pieces = apart(image.repeat(small, 0).repeat(small, 1), small * patch, gap * cut_rows, gap * cut_columns)
        sheet.text(x, y - 24, name, size=12, weight="bold")
        axes = sheet.axes(x, y, pieces.shape[1], pieces.shape[0], name)
        axes.imshow(pieces, aspect="auto")
        axes.set_axis_off()
    sheet.text(right, top - 24, "token index", size=12, weight="bold")
    axes = sheet.axes(right, top, large * width, large * height, "token index")
    axes.set_axis_off()
    axes.imshow(image.repeat(large, 0).repeat(large, 1), aspect="auto")
    boxes = [token_box(token, large * patch, columns) for token in range(tokens)]
    squares = [Rectangle((x - 0.5, y - 0.5), end - x, bottom - y) for x, y, end, bottom in boxes]
    for colour, line in (("white", 1.8), (INK, 0.7)):  # seen on any ground
        axes.add_collection(PatchCollection(squares, facecolor="none", edgecolor=colour, linewidth=line))
    size = type_size(tokens, large * patch)
    for token in numbered(rows, columns, extent(str(tokens - 1), size) / (large * patch)):
        x, y, end, bottom = boxes[token]
        centre = (x + end - 1) / 2, (y + bottom - 1) / 2
        text = axes.text(*centre, str(token), size=size, color="white", ha="center", va="center_baseline")
        text.set_path_effects([withStroke(linewidth=2.2, foreground=INK)])
    if tokens > MOST:
        sheet.text(right, top + large * height + 8, "not every number is written", size=9.5, color=MUTED)
    return sheet.figure


def apart(image: np.ndarray, patch: int, row_gap: int, column_gap: int) -> np.ndarray:
    """The patches (side `patch`) of an image (H, W, 3) uint8 on white, rows and columns moved apart by pixels."""
    rows, columns = image.shape[0] // patch, image.shape[1] // patch
    shape = image.shape[0] + (rows - 1) * row_gap, image.shape[1] + (columns - 1) * column_gap, 3
    pieces = np.full(shape, 255, np.uint8)
    for token in range(rows * columns):
        left, top, right, bottom = token_box(token, patch, columns)
        down, across = token // columns * row_gap, token % columns * column_gap
        pieces[top + down : bottom + down, left + across : right + across] = image[top:bottom, left:right]
    return pieces


def type_size(tokens: int, side: int) -> float:
    """Points with which the longest number fits into a patch of `side` pixels, at least 7 and at most 13."""
    return float(np.clip(10 * (side - 6) / extent(str(tokens - 1), 10), 7, 13))


def numbered(rows: int, columns: int, room: float) -> list[int]:
    """The tokens whose number is written: all, or from `MOST` on the first row and column and the last token.

    `room` is the width of a number in patches; where it is more than one, numbers keep that distance.
    """
    if rows * columns <= MOST:
        return list(range(rows * columns))
    step = max(1, int(np.ceil(room)))
    return sorted({*range(0, columns, step), *range(0, rows * columns, columns * step), rows * columns - 1})
