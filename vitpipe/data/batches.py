"""Packed images in, batches of tensors out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vitpipe.data.labels import classes, indices
from vitpipe.errors import InputError


@dataclass(frozen=True)
class Packed:
    """One part of `data/packed`, mapped into memory read-only (layout: `vitpipe.data.packing`).

    Args:
        folder: where it lies.
        target: the label column that is learned, if any.
    """

    folder: Path
    target: str | None = None

    def __post_init__(self) -> None:
        if not (self.folder / "samples.csv").exists():
            raise InputError(f"{self.folder} holds no packed images: run the downsample stage (dvc repro downsample)")

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Annotation by sample id; row i belongs to image i."""
        return pd.read_csv(
            self.folder / "samples.csv",
            index_col="id",
            dtype={"id": str, "label": str},
            na_values=[""],
            keep_default_na=False,
        )

    @cached_property
    def manifest(self) -> dict[str, dict[str, Any]]:
        """What the downsample stage wrote on all parts: number of images, digest, images of each class."""
        return json.loads((self.folder.parent / "manifest.json").read_text())

    @property
    def digest(self) -> str:
        """Digest of images and annotation."""
        return self.manifest[self.folder.name]["blake2b"]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes of the target; none without a target. Raises as `vitpipe.data.labels.classes` does."""
        if self.target is None:
            return ()
        return classes({part: facts["labels"] for part, facts in self.manifest.items()}, self.target)

    @cached_property
    def labels(self) -> np.ndarray:
        """The class index of every image, int64 (n,)."""
        assert self.target is not None, "labels need a target"
        return indices(self.samples, self.target, self.classes)

    @cached_property
    def shards(self) -> dict[str, list[np.ndarray]]:
        maps = {
            name: [np.load(path, mmap_mode="r") for path in sorted(self.folder.glob(f"{name}-*.npy"))]
            for name in ("lr", "hr")
        }
        return maps | {"lr": maps["lr"] or maps["hr"]}

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Images `name` (lr or hr) of the given rows, (len(rows), height, width, 3) uint8."""
        shards = self.shards[name]
        per_shard = len(shards[0])
        if len(shards) == 1:
            return shards[0][rows]
        return np.stack([shards[row // per_shard][row % per_shard] for row in rows])


@dataclass(frozen=True)
class Batch:
    """Some images of a part: uint8 NCHW tensors on their device, each made when first asked for.

    Args:
        rows: the images' rows.
        mirror: where it holds (a bool per row), left and right are swapped.
        part: those of the rows, by their place in the batch, that this process learns from.
    """

    packed: Packed
    rows: np.ndarray
    device: torch.device
    mirror: np.ndarray | None = None
    part: slice = field(default_factory=lambda: slice(None))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def own(self) -> "Batch":
        """What this process learns from."""
        mirror = None if self.mirror is None else self.mirror[self.part]
        return Batch(self.packed, self.rows[self.part], self.device, mirror)

    @cached_property
    def lr(self) -> Tensor:
        return self.images("lr")

    @cached_property
    def hr(self) -> Tensor:
        return self.images("hr")

    @cached_property
    def labels(self) -> Tensor:
        """Class indices (b,), int64."""
        return torch.from_numpy(self.packed.labels[self.rows]).to(self.device)

    def images(self, name: str) -> Tensor:
        images = torch.from_numpy(self.packed.take(name, self.rows)).to(self.device).permute(0, 3, 1, 2)
        if self.mirror is None:
            return images
        swap = torch.from_numpy(self.mirror).to(self.device)[:, None, None, None]
        return torch.where(swap, images.flip(-1), images)


def part(count: int, rank: int, processes: int) -> slice:
    """Which of `count` images are those of process `rank`: contiguous parts of equal size, or one image apart.

    Raises:
        InputError: there are fewer images than processes.
    """
    if count < processes:
        raise InputError(f"train.processes is {processes}, but a part has only {count} images: they would have none")
    return slice(count * rank // processes, count * (rank + 1) // processes)


def in_order(packed: Packed, batch: int, device: torch.device, only: slice = slice(None)) -> Iterator[Batch]:
    """Every image once, in the order of `samples`; or only some."""
    rows = np.arange(len(packed))[only]
    for start in range(0, len(rows), batch):
        yield Batch(packed, rows[start : start + batch], device)


def shuffled(
    packed: Packed,
    batch: int,
    device: torch.device,
    *,
    seed: int,
    epoch: int,
    flip: bool,
    start: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """Every image at most once, in an order that depends on `seed` and `epoch` alone.

    Batches have one fixed size; the images that fill none are left out of this epoch. With fewer
    images than `batch` there is one batch of all of them. Goes on from batch number `start`. Of each
    batch a part is that of process `rank`, see `part`.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(packed))
    mirror = random.random(len(packed)) < 0.5 if flip else np.zeros(len(packed), bool)
    size = min(batch, len(packed))
    for first in range(start * size, len(packed) - size + 1, size):
        rows = order[first : first + size]
        yield Batch(packed, rows, device, mirror[rows], part(size, rank, processes))


def batches_per_epoch(packed: Packed, batch: int) -> int:
    """How many batches `shuffled` gives in an epoch."""
    return len(packed) // min(batch, len(packed))


def spread(packed: Packed, count: int) -> np.ndarray:
    """At most `count` rows at even distances through the part."""
    return np.unique(np.linspace(0, len(packed) - 1, min(count, len(packed))).round().astype(int))


def unit(images: Tensor) -> Tensor:
    """uint8 0..255 as float32 on [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float on [-1, 1] as uint8 0..255, clipped and rounded to the nearest level."""
    return ((images.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
