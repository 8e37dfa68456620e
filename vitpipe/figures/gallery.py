"""Super-resolution to look at: input, baseline, model and target side by side, and where they err.

Shapes: f images, s side of the LR input, S side of the HR image in pixels.
"""

from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vitpipe.figures.painting import CLIP, Arrays, Drawn, band
from vitpipe.figures.style import GREEN, MUTED, ORANGE, STRENGTH, Sheet, styled
from vitpipe.figures.text import fitted

SIDE, GAP = 192, 6  # pixels: a panel, between panels
BANDS = {
    "gallery": (
        "Test images: input, bicubic, model and target",
        "Taken at even distances through the test images, not chosen by score. PSNR in dB under each; "
        "error maps share one scale.",
    ),
    "best": (
        "Where the model gains most over bicubic",
        "The test images with the largest difference in PSNR between model and bicubic.",
    ),
    "worst": (
        "Where the model gains least over bicubic",
        "The test images with the smallest difference in PSNR between model and bicubic.",
    ),
}


def draw(arrays: Arrays) -> Drawn:
    """A gallery of each band and a wide picture of the first images, with their captions.

    Args:
        arrays: of each band, as BAND_NAME, for instance worst_ids, the arrays that `gallery` takes.
    """
    for name, (title, caption) in BANDS.items():
        yield name, gallery(band(arrays, name), title), title, caption
    first = {name: values[:4] for name, values in band(arrays, "gallery").items()}
    yield "hero", hero(first), "At a glance", "The first test images of the gallery, enlarged."


@styled
def gallery(arrays: Arrays, title: str) -> Figure:
    """A row per image: input, bicubic, model, target, and the errors of bicubic and of the model.

    Errors are absolute differences from the target, averaged over the channels, in grey levels of
    255. All error maps share one scale from 0 to the 99.5th percentile, which is printed.

    Args:
        arrays: ids (f,), printed under the inputs; lr (f, s, s, 3) uint8, drawn with its pixels visible; bicubic,
            model and hr (f, S, S, 3) uint8; psnr_bicubic and psnr_model (f,) in dB, whose difference is the gain.
        title: above the figure.
    """
    lr, hr, ids = arrays["lr"], arrays["hr"], [str(sample) for sample in arrays["ids"]]
    errors = [np.abs(arrays[name].astype(np.float32) - hr).mean(-1) for name in ("bicubic", "model")]  # 2 f S S
    norm = Normalize(0, max(1.0, float(np.percentile(errors, CLIP))))
    shade = {"norm": norm, "cmap": STRENGTH}
    columns: list[tuple[str, np.ndarray, dict[str, Any]]] = [
        (f"input {lr.shape[2]}×{lr.shape[1]}", lr, {}),
        ("bicubic", arrays["bicubic"], {}),
        ("model", arrays["model"], {}),
        (f"target {hr.shape[2]}×{hr.shape[1]}", hr, {}),
        ("error of bicubic", errors[0], shade),
        ("error of model", errors[1], shade),
    ]
    left, top, height = 12, 74, SIDE + 34
    sheet = Sheet(2 * left + 6 * SIDE + 5 * GAP + 12, top + len(hr) * height + 58)
    sheet.text(left, 10, title, size=16, weight="bold")
    lefts = [left + i * (SIDE + GAP) + (12 if i > 3 else 0) for i in range(6)]
    for x, (name, images, style) in zip(lefts, columns, strict=True):
        sheet.text(x, top - 26, name, size=12.5, weight="bold")
        for row, image in enumerate(images):
            sheet.picture(x, top + row * height, SIDE, f"{name}: {ids[row]}", image, **style)
    for row, (sample, bicubic, model) in enumerate(zip(ids, arrays["psnr_bicubic"], arrays["psnr_model"], strict=True)):
        y, gain = top + row * height + SIDE + 6, f"{model - bicubic:+.2f}".replace("-", "−")
        colour = GREEN if model >= bicubic else ORANGE
        sheet.text(lefts[0], y, fitted(sample, SIDE, 10.5), size=10.5, color=MUTED)
        sheet.text(lefts[1], y, f"{bicubic:.2f} dB", size=12.5)
        sheet.text(lefts[2], y, f"{model:.2f} dB", size=12.5, weight="bold")
        sheet.text(lefts[2] + SIDE, y, gain, size=12.5, weight="bold", ha="right", color=colour)
        for x, error in zip(lefts[4:], errors, strict=True):
            sheet.text(x, y, f"mean {error[row].mean():.1f}", size=10.5, color=MUTED)
    above = 100 * np.mean(np.array(errors) > float(norm.vmax or 0))
    label = f"|image − target|, mean over channels, grey levels of 255; {above:.2g} % lie above {norm.vmax:.0f}"
    sheet.colour_bar(lefts[4], sheet.height - 54, 2 * SIDE + GAP, norm, STRENGTH)
    sheet.text(lefts[3] + SIDE, sheet.height - 57, label, size=10.5, color=MUTED, ha="right")
    return sheet.figure


@styled
def hero(arrays: Arrays) -> Figure:
    """A wide picture without error maps: input, bicubic, model and target, two images to a row.

    `arrays` as `gallery` takes them; the mean PSNR of all these images stands below them, once.
    """
    names, count, across = {"input": "lr", "bicubic": "bicubic", "model": "model", "target": "hr"}, len(arrays["hr"]), 2
    rows, gap, between, left, top = -(-count // across), 3, 21, 6, 30
    width = 4 * SIDE + 3 * gap
    sheet = Sheet(2 * left + across * width + (across - 1) * between, top + rows * (SIDE + gap) + 27)
    for column, (name, key) in enumerate(names.items()):
        for i, image in enumerate(arrays[key]):
            row, block = divmod(i, across)
            x = left + block * (width + between) + column * (SIDE + gap)
            sheet.picture(x, top + row * (SIDE + gap), SIDE, f"{name}: {i}", image)
            if row == 0:
                weight = "bold" if name == "model" else "normal"
                sheet.text(x + SIDE / 2, 6, name, size=12.5, weight=weight, ha="center")
    scores = [f"{name} {np.mean(arrays[f'psnr_{name}']):.1f} dB" for name in ("bicubic", "model")]
    label = f"Mean PSNR of these {count} images" if count > 1 else "PSNR"
    sheet.text(left, sheet.height - 22, f"{label}: {', '.join(scores)}", size=12.5)
    return sheet.figure
