"""Where a patch lies in the image, and which patch lies at a point of it."""

import pandas as pd


def token_box(token: int, patch: int, columns: int) -> tuple[int, int, int, int]:
    """Pixel box (left, top, right, bottom; right and bottom exclusive) of a token in row-major order."""
    row, column = divmod(token, columns)
    return column * patch, row * patch, (column + 1) * patch, (row + 1) * patch


def token_at(x: float, y: float, patch: int, columns: int, rows: int) -> int:
    """The token whose box holds the point (x, y) in pixels; points outside count as on the border."""
    column = min(max(int(x // patch), 0), columns - 1)
    row = min(max(int(y // patch), 0), rows - 1)
    return row * columns + column


def query_points(sample: pd.Series | None, size: int) -> dict[str, tuple[float, float]]:
    """Named points (x, y) of one image in HR pixels: eye, mouth and background of a face with landmarks, else centre
    and corner. Names say where landmarks are mean ones.

    Args:
        sample: the annotation of the image, where there is one.
        size: side of the HR image.
    """
    corner = (size / 24, size / 24)
    if sample is None or "lefteye_x" not in sample or sample[["lefteye_x", "leftmouth_x"]].isna().any():
        return {"centre": (size / 2, size / 2), "corner": corner}
    note = "" if sample.get("landmarks") == "annotated" else " (mean landmark)"
    x, y = (float(sample[f"leftmouth_{axis}"] + sample[f"rightmouth_{axis}"]) / 2 for axis in "xy")
    return {
        f"eye{note}": (float(sample["lefteye_x"]), float(sample["lefteye_y"])),
        f"mouth{note}": (x, y),
        "background": corner,
    }
