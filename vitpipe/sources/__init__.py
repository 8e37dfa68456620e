"""Data sets, one module each; the module's name is the value of `data.name`.

A source is a module with three functions:

    fetch(data: Data, seed: int, raw: Path) -> None
        Fills the empty folder `raw` with archives and annotation files, verified.
    samples(raw: Path) -> pandas.DataFrame
        One row per image, indexed by sample id (unique strings, sorted). Columns named in
        `COLUMNS` have a meaning for the pipeline; every other column is a label: `label` holds the
        class of an image as a string, missing where it has none, and any other is an attribute,
        1 where the image has it, -1 where it has it not, 0 where that is unknown.
    open_images(raw: Path) -> Images
        Random access to the pictures by sample id, safe to share between threads.

The rest of the pipeline never asks which source it was.
"""

from importlib import import_module
from types import ModuleType
from typing import Protocol

from PIL import Image

POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
LANDMARKS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
"""Pixel positions in the original image, as CelebA names them (left is the picture's left)."""

COLUMNS = ("official", "identity", *LANDMARKS, "landmarks")
"""official: train, val or test, where without val that part is cut out of train; identity: who it is;
landmarks: annotated, or mean where the data set has aligned faces but not their landmarks. All optional."""


class Images(Protocol):
    """Pictures by sample id."""

    def read(self, sample: str) -> Image.Image:
        """The picture as RGB, upright. Raises `vitpipe.sources.images.UnreadableImage`."""
        ...


def source(name: str) -> ModuleType:
    """The module of the data set `name`, one of the modules of this package."""
    return import_module(f"{__name__}.{name}")
