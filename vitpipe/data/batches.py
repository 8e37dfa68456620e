"""From packed images to batches of tensors."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError

SCORED_IMAGES, SCORED_PIXELS = 256, 2**18  # most images and HR pixels scored together; more is slower on a CPU


@dataclass(frozen=True)
class Batch:
    """Some images of a part: uint8 NCHW tensors on `device`, each read when it is first used.

    Args:
        rows: the images' rows in the part.
        mirror: one bool per row: whether the image is mirrored left to right; None mirrors none.
        part: the slice of the batch that this process trains on.
    """

    packed: PackedDataset
    rows: np.ndarray
    device: torch.device
    mirror: np.ndarray | None = None
    part: slice = field(default_factory=lambda: slice(None))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def local(self) -> "Batch":
        """The images that this process trains on."""
        mirror = None if self.mirror is None else self.mirror[self.part]
        return Batch(self.packed, self.rows[self.part], self.device, mirror)

    @cached_property
    def lr(self) -> Tensor:
        return self.images("lr")

    @cached_property
    def hr(self) -> Tensor:
        return self.images("hr")

    @cached_property
    def features(self) -> Tensor:
        """What a frozen encoder made of the images, float32 (b, d), where such features were computed."""
        return torch.from_numpy(self.packed.images("features", self.rows)).to(self.device)

    @cached_property
    def labels(self) -> Tensor:
        """Class indices (b,), int64."""
        return torch.from_numpy(self.packed.labels[self.rows]).to(self.device)

    def images(self, name: str) -> Tensor:
        """The images `name` (lr or hr), mirrored where `mirror` says so."""
        if name in self.packed.copies:
            images = self.packed.copies[name][torch.from_numpy(self.rows).to(self.device)].permute(0, 3, 1, 2)
            if self.mirror is None:
                return images
            mirror = torch.from_numpy(self.mirror).to(self.device)[:, None, None, None]
            return torch.where(mirror, images.flip(-1), images)
        images = torch.from_numpy(self.packed.images(name, self.rows)).permute(0, 3, 1, 2)
        for row in np.flatnonzero(self.mirror) if self.mirror is not None else ():
            images[row] = images[row].flip(-1)  # one by one: a whole batch at once takes 18 times as long
        return images.to(self.device)


def rank_slice(count: int, rank: int, processes: int) -> slice:
    """The slice of `count` images that process `rank` handles: contiguous, sizes differ by at most one.

    Raises:
        InputError: there are fewer images than processes.
    """
    if count < processes:
        raise InputError(f"train.processes is {processes}, but a part has only {count} images: use {count} or fewer")
    return slice(count * rank // processes, count * (rank + 1) // processes)


def shuffled(
    packed: PackedDataset,
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
    """Batches of one epoch. Their order and the mirrored images depend on `seed` and `epoch` alone.

    All batches have the same size; images that do not fill one are left out of this epoch. A part with fewer than
    `batch` images is one batch.

    Args:
        flip: mirror each image with probability 1/2.
        start: number of the first batch to yield.
        rank: this process; it trains on its `rank_slice` of each batch.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(packed))
    mirror = random.random(len(packed)) < 0.5 if flip else np.zeros(len(packed), bool)
    size = min(batch, len(packed))
    for first in range(start * size, len(packed) - size + 1, size):
        rows = order[first : first + size]
        yield Batch(packed, rows, device, mirror[rows], rank_slice(size, rank, processes))


def batches_per_epoch(packed: PackedDataset, batch: int) -> int:
    """Number of batches that `shuffled` yields in an epoch."""
    return len(packed) // min(batch, len(packed))


def scoring_batches(packed: PackedDataset, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """The rows of images that are scored together: at most 256 images and 2^18 HR pixels, but at least one image.

    Args:
        rows: the images to score, in this order; None for all.
    """
    rows = np.arange(len(packed)) if rows is None else rows
    size = min(SCORED_IMAGES, max(1, SCORED_PIXELS // packed.size**2))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def evenly_spaced(images: Sized, count: int) -> np.ndarray:
    """At most `count` rows at equal distances, the first and the last among them, of anything that has a length."""
    return np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
