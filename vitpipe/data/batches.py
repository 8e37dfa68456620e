"""Packed images in, batches of tensors out."""

from collections.abc import Iterator, Sized
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
from vitpipe.files import load_json

COPIED = 1024  # images that go to a CUDA device at once


@dataclass(frozen=True)
class Packed:
    """One part of `data/packed`, read image by image (layout: `vitpipe.data.packing`).

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
        return self.read()

    def read(self, **options: Any) -> pd.DataFrame:
        kinds = {"id": str, "label": str}
        path = self.folder / "samples.csv"
        return pd.read_csv(path, index_col="id", dtype=kinds, na_values=[""], keep_default_na=False, **options)

    @cached_property
    def manifest(self) -> dict[str, dict[str, Any]]:
        """What the downsample stage wrote on all parts: number of images, digest, images of each class."""
        return load_json(self.folder.parent / "manifest.json", "downsample")

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
        known = "samples" in vars(self)  # else one column is read: CelebA has 50, which training needs not
        table = self.samples if known else self.read(usecols=["id", self.target])
        return indices(table, self.target, self.classes)

    @cached_property
    def shards(self) -> dict[str, list["Shard"]]:
        """The files of lr and hr, in order; where there is no lr, hr is the input, too."""
        found = {name: [Shard(path) for path in sorted(self.folder.glob(f"{name}-*.npy"))] for name in ("lr", "hr")}
        return found | {"lr": found["lr"] or found["hr"]}

    def __len__(self) -> int:
        return sum(shard.shape[0] for shard in self.shards["hr"])

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Images `name` (lr or hr) of the given rows, (len(rows), height, width, 3) uint8."""
        shards = self.shards[name]
        per_shard = shards[0].shape[0]
        images = np.empty((len(rows), *shards[0].shape[1:]), np.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            shards[row // per_shard].read(row % per_shard, image)
        return images

    @property
    def scale(self) -> int:
        """Side of an HR image / side of an LR image."""
        lr, hr = (self.shards[name][0].shape[1] for name in ("lr", "hr"))
        return hr // lr

    def copy_to(self, device: torch.device) -> None:
        """Copies all images to the memory of a CUDA device, once, if they take less than half of what is free there.

        Batches on that device are then taken from the copies.
        """
        if self.copies:
            return
        torch.cuda.empty_cache()  # what torch keeps for later tensors counts as taken
        free, _ = torch.cuda.mem_get_info(device)
        count, first = len(self), {name: shards[0] for name, shards in self.shards.items()}
        if count * sum(shard.image_bytes for shard in first.values()) > free / 2:
            return
        for name, shard in first.items():
            self.copies[name] = torch.empty(count, *shard.shape[1:], dtype=torch.uint8, device=device)
            for rows in np.array_split(np.arange(count), -(-count // COPIED)):
                self.copies[name][rows[0] : rows[-1] + 1] = torch.from_numpy(self.take(name, rows))

    @cached_property
    def copies(self) -> dict[str, Tensor]:
        """All images lr and hr as uint8 NHWC on the device that `copy_to` was given; else nothing."""
        return {}


class Shard:
    """A .npy file of uint8 images (n, height, width, 3), open for reading.

    It is read and not mapped: what was read from a map counts as this process's memory, in the end the whole file.
    """

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r")  # numpy reads the header
        self.shape, self.start, self.image_bytes = mapped.shape, mapped.offset, mapped[0].nbytes
        self.file = path.open("rb", buffering=0)

    def read(self, row: int, image: np.ndarray) -> None:
        """Fills `image`, uint8 (height, width, 3), with that of the row. Raises OSError if the file is cut off."""
        self.file.seek(self.start + row * self.image_bytes)
        if self.file.readinto(image.data) != self.image_bytes:  # type: ignore[attr-defined]
            raise OSError(f"{self.file.name} is cut off")


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
        if name in self.packed.copies:
            images = self.packed.copies[name][torch.from_numpy(self.rows).to(self.device)].permute(0, 3, 1, 2)
            if self.mirror is None:
                return images
            mirror = torch.from_numpy(self.mirror).to(self.device)[:, None, None, None]
            return torch.where(mirror, images.flip(-1), images)
        images = torch.from_numpy(self.packed.take(name, self.rows)).permute(0, 3, 1, 2)
        for place in np.flatnonzero(self.mirror) if self.mirror is not None else ():
            images[place] = images[place].flip(-1)  # one by one: whole batches cost 18 times as much
        return images.to(self.device)


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


def spread(images: Sized, count: int) -> np.ndarray:
    """At most `count` rows at even distances through a part, or anything else that has a length."""
    return np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
