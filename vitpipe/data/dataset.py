"""Packed images and their annotation, read image by image."""

from dataclasses import dataclass
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
class PackedDataset:
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
                self.copies[name][rows[0] : rows[-1] + 1] = torch.from_numpy(self.images(name, rows))

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
