"""Settings of a recipe, and the pictures that benchmarks of quality and of the data path use."""

from pathlib import Path
from typing import Any, cast

import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vitpipe.config import SupersampleSettings, check_settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.data.split import PARTS, split
from vitpipe.sources import source

CONF = Path(__file__).resolve().parents[1] / "conf"
RECIPE = "celeba"


def recipe_settings(root: Path | None, count: int | None) -> SupersampleSettings:
    """The settings of the recipe `celeba`, composed as `dvc exp run` does.

    Args:
        root: folder or zip with CelebA; None for the built-in faces.
        count: images at most; None for all.
    """
    with initialize_config_dir(str(CONF), version_base=None):
        content: Any = OmegaConf.to_container(compose("config", overrides=[f"recipe={RECIPE}"]))
    name, folder = ("celeba", str(root.resolve())) if root else ("faces", None)
    content["data"] |= {"name": name, "root": folder, "count": count, "split": "identity"}
    return cast(SupersampleSettings, check_settings(content, f"recipe {RECIPE}"))


def fetch(settings: SupersampleSettings, raw: Path) -> pd.DataFrame:
    """Fills the folder `raw` with the pictures; returns what the split stage writes, no person in two parts."""
    raw.mkdir(parents=True)
    origin = source(settings.data.name)
    origin.fetch(settings.data, settings.seed, raw)
    return split(origin.samples(raw), settings.data, settings.seed)


def pack_parts(settings: SupersampleSettings, table: pd.DataFrame, raw: Path, packed: Path) -> dict[str, PackedDataset]:
    """Packs the pictures in the folder `raw` as the downsample stage does; returns the parts."""
    packed.mkdir()
    pack(table, source(settings.data.name).open_images(raw), settings.data, packed)
    return {part: PackedDataset(packed / part) for part in PARTS}


def scratch() -> Path:
    """The folder for temporary pictures, in the working directory; git ignores it."""
    folder = Path(".bench")
    folder.mkdir(exist_ok=True)
    return folder
