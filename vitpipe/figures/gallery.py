"""Super-resolution to look at: input, baseline, model and target side by side, and where they err."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures.style import GREEN, INK, MUTED, ORANGE, STRENGTH, Sheet, enlarge, shortened, styled
from vitpipe.figures.text import fitted

PANEL, GAP = 192, 6
CLIP = 99.5


@styled
def gallery(
    lr: np.ndarray,
    bicubic: np.ndarray,
    model: np.ndarray,
    hr: np.ndarray,
    ids: Sequence[str],
    psnr_bicubic: Sequence[float],
    psnr_model: Sequence[float],
    title: str,
) -> Figure:
    """A row per image: input, bicubic, model, target, and the errors of bicubic and of the model.

    Errors are absolute differences from the target, averaged over the channels, in grey levels of
    255. All error maps share one scale from 0 to the 99.5th percentile, which is printed.

    Args:
        lr: (F, h, w, 3) uint8, drawn with its pixels visible.
        bicubic, model, hr: (F, H, W, 3) uint8.
        ids: sample ids, printed under the inputs.
        psnr_bicubic, psnr_model: dB, printed under the images; their difference is the gain.
    """
    errors = [np.abs(image.astype(np.float32) - hr).mean(-1) for image in (bicubic, model)]  # 2 x (F, H, W)
    norm = Normalize(0, max(1.0, float(np.percentile(errors, CLIP))))
    columns: list[tuple[str, Any, dict[str, Any]]] = [
        (f"input {lr.shape[2]}×{lr.shape[1]}", [enlarge(image, max(hr.shape[1:3])) for image in lr], {}),
        ("bicubic", bicubic, {}),
        ("model", model, {}),
        (f"target {hr.shape[2]}×{hr.shape[1]}", hr, {}),
        ("error of bicubic", errors[0], {"norm": norm, "cmap": STRENGTH}),
        ("error of model", errors[1], {"norm": norm, "cmap": STRENGTH}),
    ]
    left, top, row_height = 12, 74, PANEL + 34
    sheet = Sheet(2 * left + 6 * PANEL + 5 * GAP + 12, top + len(hr) * row_height + 58)
    sheet.text(left, 10, title, size=16, weight="bold")
    lefts = [left + i * (PANEL + GAP) + (12 if i > 3 else 0) for i in range(6)]
    for x, (name, pictures, style) in zip(lefts, columns, strict=True):
        sheet.text(x, top - 26, name, size=12.5, weight="bold")
        for row, picture in enumerate(pictures):
            panel = sheet.panel(x, top + row * row_height, PANEL, f"{name}: {ids[row]}")
            panel.imshow(picture, aspect="auto", **style)
    for row, sample in enumerate(ids):
        y = top + row * row_height + PANEL + 6
        gain = psnr_model[row] - psnr_bicubic[row]
        colour = GREEN if gain >= 0 else ORANGE
        sheet.text(lefts[0], y, fitted(sample, PANEL, 10.5, shortened), size=10.5, color=MUTED)
        sheet.text(lefts[1], y, f"{psnr_bicubic[row]:.2f} dB", size=12.5)
        sheet.text(lefts[2], y, f"{psnr_model[row]:.2f} dB", size=12.5, weight="bold")
        signed = f"{gain:+.2f}".replace("-", "−")
        sheet.text(lefts[2] + PANEL, y, signed, size=12.5, weight="bold", ha="right", color=colour)
        for x, error in zip(lefts[4:], errors, strict=True):
            sheet.text(x, y, f"mean {error[row].mean():.1f}", size=10.5, color=MUTED)
    above = 100 * np.mean(np.array(errors) > float(norm.vmax or 0))
    label = f"|image − target|, mean over channels, grey levels of 255; {above:.2g} % lie above {norm.vmax:.0f}"
    sheet.colour_bar(lefts[4], sheet.height - 54, 2 * PANEL + GAP, norm, STRENGTH)
    sheet.text(lefts[3] + PANEL, sheet.height - 57, label, size=10.5, color=MUTED, ha="right")
    return sheet.figure


@styled
def hero(
    lr: np.ndarray,
    bicubic: np.ndarray,
    model: np.ndarray,
    hr: np.ndarray,
    psnr_bicubic: Sequence[float],
    psnr_model: Sequence[float],
) -> Figure:
    """A wide picture without error maps: input, bicubic, model and target, two images to a row.

    Arguments as `gallery` takes them; the mean PSNR of all these images stands below them, once.
    """
    blocks = 2  # to a row
    rows = -(-len(hr) // blocks)
    width, gap, between, left, top = 4 * PANEL + 9, 3, 21, 6, 30
    sheet = Sheet(2 * left + blocks * width + (blocks - 1) * between, top + rows * (PANEL + gap) + 27)
    names = ["input", "bicubic", "model", "target"]
    for i, pictures in enumerate(zip(lr, bicubic, model, hr, strict=True)):
        row, block = divmod(i, blocks)
        for column, picture in enumerate(pictures):
            x = left + block * (width + between) + column * (PANEL + gap)
            panel = sheet.panel(x, top + row * (PANEL + gap), PANEL, f"{names[column]}: {i}")
            panel.imshow(enlarge(picture, max(hr.shape[1:3])), aspect="auto")
            if row == 0:
                weight = "bold" if column == 2 else "normal"
                sheet.text(x + PANEL / 2, 6, names[column], size=12.5, weight=weight, ha="center", color=INK)
    scores = f"bicubic {np.mean(psnr_bicubic):.1f} dB, model {np.mean(psnr_model):.1f} dB"
    name = f"Mean PSNR of these {len(hr)} images" if len(hr) > 1 else "PSNR"
    sheet.text(left, sheet.height - 22, f"{name}: {scores}", size=12.5)
    return sheet.figure
