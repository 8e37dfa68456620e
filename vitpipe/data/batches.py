"""Packed images in, batches of tensors out."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError


@dataclass(frozen=True)
class Batch:
    """Some images of a part: uint8 NCHW tensors on their device, each made when first asked for.

    Args:
        rows: the images' rows.
        mirror: where it holds (a bool per row), left and right are swapped.
        part: those of the rows, by their place in the batch, that this process learns from.
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
        images = torch.from_numpy(self.packed.images(name, self.rows)).permute(0, 3, 1, 2)
        for place in np.flatnonzero(self.mirror) if self.mirror is not None else ():
            images[place] = images[place].flip(-1)  # one by one: whole batches cost 18 times as much
        return images.to(self.device)


def rank_slice(count: int, rank: int, processes: int) -> slice:
    """Which of `count` images are those of process `rank`: contiguous parts of equal size, or one image apart.

    Raises:
        InputError: there are fewer images than processes.
    """
    if count < processes:
        raise InputError(f"train.processes is {processes}, but a part has only {count} images: they would have none")
    return slice(count * rank // processes, count * (rank + 1) // processes)


def in_order(packed: PackedDataset, batch: int, device: torch.device, only: slice = slice(None)) -> Iterator[Batch]:
    """Every image once, in the order of `samples`; or only some."""
    rows = np.arange(len(packed))[only]
    for start in range(0, len(rows), batch):
        yield Batch(packed, rows[start : start + batch], device)


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
    """Every image at most once, in an order that depends on `seed` and `epoch` alone.

    Batches have one fixed size; the images that fill none are left out of this epoch. With fewer
    images than `batch` there is one batch of all of them. Goes on from batch number `start`. Of each
    batch a part is that of process `rank`, see `rank_slice`.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(packed))
    mirror = random.random(len(packed)) < 0.5 if flip else np.zeros(len(packed), bool)
    size = min(batch, len(packed))
    for first in range(start * size, len(packed) - size + 1, size):
        rows = order[first : first + size]
        yield Batch(packed, rows, device, mirror[rows], rank_slice(size, rank, processes))


def batches_per_epoch(packed: PackedDataset, batch: int) -> int:
    """How many batches `shuffled` gives in an epoch."""
    return len(packed) // min(batch, len(packed))


def evenly_spaced(images: Sized, count: int) -> np.ndarray:
    """At most `count` rows at even distances through a part, or anything else that has a length."""
    return np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
