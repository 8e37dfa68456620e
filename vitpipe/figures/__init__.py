"""Figures: arrays in, PNG files out. No model code is imported here, and no figure knows a task.

Each kind of figure has a module of its name with `draw(arrays)`, which yields its figures and their captions.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from vitpipe.figures import backend  # noqa: F401  before anything of matplotlib
from vitpipe.figures.style import save
from vitpipe.files import write_json

KINDS = (
    "curve", "gallery", "confusion", "ranking", "patches", "class_attention", "per_class", "pixels", "maps", "place",
    "methods", "faithfulness", "distances", "filters", "positions",
)  # fmt: skip
"""In the order of the captions."""


def draw(arrays: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Writes figures as PNG files, and captions.json: {file: {"title": ..., "caption": ...}}.

    Args:
        arrays: by kind of figure what its module takes, for instance an opened KIND.npz. Kinds that are not among
            `KINDS` are skipped.
        folder: an existing one.
    """
    captions = {}
    for kind in KINDS:
        if kind in arrays:
            for name, figure, title, caption in import_module(f"{__name__}.{kind}").draw(dict(arrays[kind])):
                save(figure, folder / f"{name}.png")
                captions[f"{name}.png"] = {"title": title, "caption": caption}
    write_json(folder / "captions.json", captions)
