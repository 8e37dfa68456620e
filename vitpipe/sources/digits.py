"""Handwritten digits that come with scikit-learn: 1,797 real pictures of 8x8 pixels, without a download.

Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI 1998, the test part: 13 people, each pixel
counts the ink in 4x4 pixels of the scan. `raw` holds `digits.npz`: `images` uint8 (1797, 8, 8), `labels` uint8.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources.arrays import ArrayImages, require_side

ARCHIVE = "digits.npz"


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Writes the digits into `raw`, their pixels scaled from 0..16 to 0..255; always the same bytes.

    Raises:
        InputError: `data.root` is set, but the digits are not read from a folder.
    """
    require_side(data, 8)
    from sklearn.datasets import load_digits

    if data.root is not None:
        raise InputError(f"data.root is {data.root!r}, but must be null with data.name digits: scikit-learn has them")
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    np.savez(raw / ARCHIVE, images=images, labels=digits.target.astype(np.uint8))


def samples(raw: Path) -> pd.DataFrame:
    """One row per digit, indexed by its four-digit number. Column `label`: "0" to "9"."""
    with np.load(raw / ARCHIVE) as arrays:
        labels = arrays["labels"].astype(str)
    ids = pd.Index([f"{number:04d}" for number in range(len(labels))], name="id")
    return pd.DataFrame({"label": labels}, ids)


def open_images(raw: Path) -> ArrayImages:
    """The pictures by number."""
    with np.load(raw / ARCHIVE) as arrays:
        return ArrayImages({"": arrays["images"]})
