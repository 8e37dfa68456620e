"""Data path: decoding, packing and batches beside torchvision's ImageFolder in a DataLoader."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from benchmarks import peer
from benchmarks.encoder import in_turns
from benchmarks.pictures import fetch, pack_parts, recipe_settings, scratch
from benchmarks.results import Measurement, measurement, table
from vitpipe.config import Data, SupersampleSettings
from vitpipe.data.batches import shuffled
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import targets_of
from vitpipe.data.pixels import normalize
from vitpipe.progress import progress
from vitpipe.sources import source

BATCH = 32


def decode(settings: SupersampleSettings, table: pd.DataFrame, raw: Path) -> int:
    """Reads, decodes and resizes all pictures to HR and LR in one thread; returns how many."""
    images = source(settings.data.name).open_images(raw)
    return sum(len(targets_of(images.read(sample), settings.data)) > 0 for sample in table.index)


def pack_all(settings: SupersampleSettings, table: pd.DataFrame, raw: Path) -> int:
    """The downsample stage: the same on all cores, and written as arrays; returns the number of pictures."""
    packed = raw.with_name("again")
    parts = pack_parts(settings, table, raw, packed)
    count = sum(len(part) for part in parts.values())
    shutil.rmtree(packed)
    return count


def read_batches(data: PackedDataset, batch: int) -> int:
    """An epoch of training batches from packed arrays: LR and HR, half of them mirrored, float32 on [-1, 1]."""
    seen = 0
    for taken in shuffled(data, batch, torch.device("cpu"), seed=0, epoch=0, flip=True):
        normalize(taken.lr)
        seen += len(normalize(taken.hr))
    return seen


class Pair:
    """A transform of an ImageFolder: a picture to LR and HR as tensors, the usual way with torchvision."""

    def __init__(self, data: Data) -> None:
        v2 = peer("torchvision.transforms.v2")
        resize = partial(v2.Resize, interpolation=v2.InterpolationMode.BICUBIC)
        self.hr, self.lr = resize((data.size, data.size)), resize((data.input_size, data.input_size))
        self.tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def __call__(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        hr = self.hr(image)
        return self.tensor(self.lr(hr)), self.tensor(hr)


def load_folder(folder: Path, count: int, data: Data, workers: int) -> int:
    """An epoch of a DataLoader over the first `count` JPEGs, workers started and ended; returns the pictures seen."""
    pictures = peer("torchvision.datasets").ImageFolder(folder, Pair(data))
    subset = Subset(pictures, range(min(count, len(pictures))))
    return sum(len(hr) for (_, hr), _ in DataLoader(subset, BATCH, shuffle=True, num_workers=workers))


def run(root: Path | None, *, count: int = 3000, rounds: int = 5, workers: tuple[int, ...] = (0, 1, 2)) -> Measurement:
    """Times each way in turns.

    Rows: `way` and `images`, the images per second, median over the rounds.

    Args:
        root: folder or zip with CelebA; None for the built-in faces.
        count: pictures at most.
        workers: of the DataLoader.
    """
    settings = recipe_settings(root, count)
    with TemporaryDirectory(dir=scratch()) as temporary:
        folder = Path(temporary)
        raw, jpegs = folder / "raw", folder / "jpeg"
        samples = fetch(settings, raw)
        parts = pack_parts(settings, samples, raw, folder / "packed")
        with ZipFile(next(raw.glob("*.zip"))) as archive:
            archive.extractall(jpegs / "all")  # ImageFolder wants a folder for each class
        train, batch = parts["train"], settings.train.batch
        ways: dict[str, tuple[Callable[[], int], int]] = {
            "decode and resize, one thread": (partial(decode, settings, samples, raw), len(samples)),
            "pack, once": (partial(pack_all, settings, samples, raw), len(samples)),
            "training batches from packed arrays": (partial(read_batches, train, batch), len(train) // batch * batch),
        }
        for number in workers:
            load = partial(load_folder, jpegs, len(samples), settings.data, number)
            ways[f"ImageFolder and DataLoader, {number} workers"] = load, len(samples)
        with progress(len(ways) * (rounds + 1), "data", "turn") as bar:
            times = in_turns({name: way for name, (way, _) in ways.items()}, rounds, 0.0, bar)
    rows = [{"way": name, "images": float(f"{ways[name][1] / median(own):.4g}")} for name, own in times.items()]
    data = settings.data
    setup = {"data": data.name, "images": len(samples), "HR side": data.size, "LR side": data.input_size}
    return measurement(setup | {"rounds": rounds}, rows)


def markdown(one: Measurement) -> str:
    """The table of docs/benchmarks.md."""
    return table(["way", "images per second"], [[row["way"], f"{row['images']:,.0f}"] for row in one["rows"]])
