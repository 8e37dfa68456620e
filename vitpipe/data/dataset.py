"""Packed images and their annotation."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vitpipe.data.labels import classes, indices
from vitpipe.data.split import read_table
from vitpipe.errors import InputError
from vitpipe.files import damaged, load_json

COPIED = 1024  # images that are copied to a CUDA device at once


@dataclass(frozen=True)
class PackedDataset:
    """One part of `data/packed`, read image by image (layout: `vitpipe.data.packing`).

    Args:
        folder: the folder of the part.
        target: the label column that the model learns, if any.

    Raises:
        InputError: there are no packed images in the folder.
    """

    folder: Path
    target: str | None = None

    def __post_init__(self) -> None:
        if not (self.folder / "samples.csv").exists():
            raise InputError(f"{self.folder} holds no packed images: run the downsample stage (dvc repro downsample)")

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Annotation by sample id; row i belongs to image i."""
        return read_table(self.folder / "samples.csv")

    @cached_property
    def manifest(self) -> dict[str, dict[str, Any]]:
        """Number of images, digest and images of each class, by part."""
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
        return classes({part: entry["labels"] for part, entry in self.manifest.items()}, self.target)

    @cached_property
    def labels(self) -> np.ndarray:
        """The class index of every image, int64 (n,)."""
        assert self.target is not None, "labels need a target"
        table = read_table(self.folder / "samples.csv", ["id", self.target])  # training needs no other column
        return indices(table, self.target, self.classes)

    @cached_property
    def persons(self) -> np.ndarray | None:
        """Who is in each image, int64 (n,) from 0; None where that is not known of every image."""
        identity = self.samples.get("identity")
        return None if identity is None or identity.isna().any() else pd.factorize(identity)[0]

    @cached_property
    def shards(self) -> dict[str, list["Shard"]]:
        """The files of lr and hr, in order. Where the scale is 1 there are no files of lr, and hr is the input."""
        found = {name: [Shard(path) for path in sorted(self.folder.glob(f"{name}-*.npy"))] for name in ("lr", "hr")}
        return found | {"lr": found["lr"] or found["hr"]}

    @cached_property
    def features(self) -> "Shard":
        """What the pretrained encoder makes of every image, float32 (n, d): `data/features`, beside `data/packed`.

        Raises:
            InputError: there is no such file, it is damaged or holds another number of images.
        """
        path = self.folder.parent.with_name("features") / f"{self.folder.name}.npy"
        if not path.is_file():
            raise InputError(f"{path} is missing: the stage features makes it (dvc repro features)")
        try:
            found = Shard(path)
        except (ValueError, EOFError):
            raise damaged(path, "features") from None
        if found.shape[0] != len(self):
            raise InputError(
                f"{path} holds {found.shape[0]} images, but {self.folder} {len(self)}: run dvc repro features"
            )
        return found

    def __len__(self) -> int:
        return sum(shard.shape[0] for shard in self.shards["hr"])

    @property
    def size(self) -> int:
        """Side of an HR image in pixels."""
        return self.shards["hr"][0].shape[1]

    @property
    def scale(self) -> int:
        """Side of an HR image / side of an LR image."""
        return self.size // self.shards["lr"][0].shape[1]

    def images(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Images `name` (lr or hr) of the given rows, (len(rows), height, width, 3) uint8.

        With the name features it is what the pretrained encoder makes of them, (len(rows), d) float32; see `features`.
        """
        shards = [self.features] if name == "features" else self.shards[name]
        per_shard = shards[0].shape[0]
        images = np.empty((len(rows), *shards[0].shape[1:]), shards[0].dtype)
        for image, row in zip(images, rows.tolist(), strict=True):
            shards[row // per_shard].read(row % per_shard, image)
        return images

    @cached_property
    def copies(self) -> dict[str, Tensor]:
        """All images lr and hr, uint8 NHWC, on the device given to `copy_to`; empty where nothing was copied."""
        return {}

    def copy_to(self, device: torch.device) -> None:
        """Copies all images to a CUDA device, once, if they take less than half of its free memory.

        Batches on that device then come from the copies.
        """
        if self.copies:
            return
        torch.cuda.empty_cache()  # memory that torch reserves counts as taken
        free, _ = torch.cuda.mem_get_info(device)
        count, first = len(self), {name: shards[0] for name, shards in self.shards.items()}
        if count * sum(shard.image_bytes for shard in first.values()) > free / 2:
            return
        for name, shard in first.items():
            self.copies[name] = torch.empty(count, *shard.shape[1:], dtype=torch.uint8, device=device)
            for rows in np.array_split(np.arange(count), -(-count // COPIED)):
                self.copies[name][rows[0] : rows[-1] + 1] = torch.from_numpy(self.images(name, rows))


class Shard:
    """A .npy file of n images, such as uint8 (n, height, width, 3), open for reading.

    It is read, not memory-mapped: pages of a map count as memory of this process, in the end the whole file.
    """

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r")  # numpy reads the header
        self.shape, self.dtype = mapped.shape, mapped.dtype
        self.start, self.image_bytes = mapped.offset, mapped[0].nbytes
        self.file = path.open("rb", buffering=0)

    def read(self, row: int, image: np.ndarray) -> None:
        """Fills `image`, of the shape of one, with the image in `row`. Raises OSError if the file is cut off."""
        self.file.seek(self.start + row * self.image_bytes)
        if self.file.readinto(image.data) != self.image_bytes:  # type: ignore[attr-defined]
            raise OSError(f"{self.file.name} is cut off")
