"""Where a token lies in the image. Every figure and measure asks here."""

import numpy as np


def token_box(token: int, patch: int, columns: int) -> tuple[int, int, int, int]:
    """Pixel box (left, top, right, bottom; right and bottom exclusive) of a token in row-major order."""
    row, column = divmod(token, columns)
    return column * patch, row * patch, (column + 1) * patch, (row + 1) * patch


def token_at(x: float, y: float, patch: int, columns: int, rows: int) -> int:
    """The token whose box holds the point (x, y) in pixels; points outside count as on the border."""
    column = min(max(int(x // patch), 0), columns - 1)
    row = min(max(int(y // patch), 0), rows - 1)
    return row * columns + column


def token_centres(patch: int, columns: int, rows: int) -> np.ndarray:
    """(tokens, 2) array of the boxes' centres as (x, y) in pixels."""
    boxes = np.array([token_box(token, patch, columns) for token in range(rows * columns)], dtype=np.float64)
    return (boxes[:, :2] + boxes[:, 2:]) / 2
