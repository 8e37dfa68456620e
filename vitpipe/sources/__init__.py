"""Data sets, one module each; the module's name is the value of `data.name`.

The rest of the pipeline never asks which source it was.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vitpipe.config import Data

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
LANDMARKS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
"""Pixel positions in the original image, as CelebA names them (left is the picture's left)."""

COLUMNS = ("official", "identity", *LANDMARKS, "landmarks")
"""official: train, val or test, where without val that part is cut out of train; identity: who it is;
landmarks: annotated, or mean where the data set has aligned faces but not their landmarks. All optional."""


class Images(Protocol):
    """Pictures by sample id."""

    def read(self, sample: str) -> "Image.Image":
        """The picture as RGB, upright. Raises `vitpipe.sources.images.UnreadableImage`."""
        ...


class Source(Protocol):
    """A data set; every module of a data set has these functions."""

    def fetch(self, data: Data, seed: int, raw: Path) -> None:
        """Fills the empty folder `raw` with archives and annotation files, verified. Raises InputError."""
        ...

    def samples(self, raw: Path) -> "pd.DataFrame":
        """One row per image, indexed by sample id (unique strings, sorted).

        Columns named in `COLUMNS` have a meaning for the pipeline; every other column is a label. `label`, and any
        other of strings, holds the class of an image, missing where it has none. One of numbers is an attribute: 1
        where the image has it, -1 where it does not, 0 where that is unknown. Only `label` may hold names of classes
        that read like numbers.
        """
        ...

    def open_images(self, raw: Path) -> Images:
        """Random access to the pictures by sample id, safe to share between threads."""
        ...


def source(name: str) -> Source:
    """The data set `name`, one of the modules of this package."""
    module: Any = import_module(f"{__name__}.{name}")
    return module
