"""The figures of classification, from what the task's `examples` gives, and the arrays they show."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vitpipe.figures import confusion
from vitpipe.figures.curves import curves
from vitpipe.figures.patches import patches
from vitpipe.figures.ranking import BANDS, ranking
from vitpipe.figures.style import save
from vitpipe.files import write_json


def draw(examples: dict[str, dict], curve: pd.DataFrame, folder: Path) -> None:
    """Writes curve, confusion matrices, ranking and patches as PNG files, with their captions and arrays.

    What confusion.png, confusion_rows.png, ranking.png and patches.png show stands in confusion.npz,
    ranking.npz (see `flat`) and patches.npz beside them; `redrawn` makes the pictures again from these.

    Args:
        examples: "confusion" with matrix and classes as `confusion.counts` takes them; "ranking" with the
            groups of `ranking`; "patches" with image, patch, id and class_token; "training" with
            label: what the curve of the training images is of.
        curve: columns as `curves` takes them for the score "accuracy".
        folder: an empty one.
    """
    arrays = {name: as_arrays(examples[name]) for name in ("confusion", "patches")}
    arrays["ranking"] = flat(examples["ranking"])
    for name, content in arrays.items():
        np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **content)
    pictures = {"curve": curves(curve, "accuracy", training=examples["training"]["label"])} | redrawn(arrays)
    for name, figure in pictures.items():
        save(figure, folder / f"{name}.png")
    count = len(arrays["ranking"]["worst_ids"])
    captions = {
        "curve": ("Training", "Loss and accuracy per epoch; the marked epoch, best on validation images, was kept."),
        "confusion": (
            "Confusion matrix",
            "Test images by actual class (rows) and predicted class (columns), logarithmic colours; white: none.",
        ),
        "confusion_rows": (
            "Confusion matrix in % of each class",
            "Of the test images of each actual class, the share predicted as each class; the diagonal is the recall.",
        ),
        "ranking": (
            "Test images by loss",
            f"{count} with the highest loss, {count} with the lowest and {count} at random: "
            "predicted and real class, probability of the predicted class, loss.",
        ),
        "patches": (
            "What a patch is",
            "A test image in strips and patches, and the number of each patch, row by row.",
        ),
    }
    texts = {f"{name}.png": {"title": title, "caption": caption} for name, (title, caption) in captions.items()}
    write_json(folder / "captions.json", texts)


def redrawn(arrays: dict[str, Any]) -> dict[str, Figure]:
    """The figures that show saved arrays: `arrays` has the content of NAME.npz under confusion, patches and ranking."""
    matrix, classes = arrays["confusion"]["matrix"], list(arrays["confusion"]["classes"])
    cut = arrays["patches"]
    return {
        "confusion": confusion.counts(matrix, classes),
        "confusion_rows": confusion.rows(matrix, classes),
        "ranking": ranking(grouped(arrays["ranking"])),
        "patches": patches(cut["image"], int(cut["patch"]), str(cut["id"]), bool(cut["class_token"])),
    }


def as_arrays(content: dict[str, Any]) -> dict[str, np.ndarray]:
    """Arrays that need no pickle: names of a pandas index become strings of numpy."""
    arrays = {key: np.asarray(value) for key, value in content.items()}
    return {key: array.astype(str) if array.dtype == object else array for key, array in arrays.items()}


def flat(groups: dict[str, dict]) -> dict[str, np.ndarray]:
    """Groups of a ranking as BAND_KEY, for instance worst_images and random_ids."""
    return {f"{band}_{key}": value for band in BANDS for key, value in as_arrays(groups[band]).items()}


def grouped(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The inverse of `flat`; `arrays` may be an opened ranking.npz."""
    return {
        band: {key.removeprefix(f"{band}_"): arrays[key] for key in arrays if key.startswith(f"{band}_")}
        for band in BANDS
    }
