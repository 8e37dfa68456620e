"""What a user would write instead of downsample and packed arrays: torchvision's transforms in a DataLoader."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitpipe.sources.torchvision import import_torchvision


class Jpegs(Dataset):
    """LR and HR of JPEG files in a folder as float tensors on [0, 1], decoded and resized when asked for.

    Args:
        files: the pictures.
        size: side of HR in pixels.
        scale: HR is so many times as large as LR.
    """

    def __init__(self, files: list[Path], size: int, scale: int) -> None:
        import_torchvision()
        from torchvision import transforms

        def resize(side: int) -> Any:
            return transforms.Resize((side, side), transforms.InterpolationMode.BICUBIC)

        self.files, self.hr, self.lr, self.tensor = files, resize(size), resize(size // scale), transforms.ToTensor()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        with self.files[row].open("rb") as file:
            hr = self.hr(Image.open(file).convert("RGB"))
        return self.tensor(self.lr(hr)), self.tensor(hr)


class Arrays(Dataset):
    """LR and HR from arrays that were made once, mapped; half of the images mirrored, float on [-1, 1].

    Args:
        folder: a packed part of one shard.
    """

    def __init__(self, folder: Path) -> None:
        self.arrays = [np.load(folder / f"{name}-000.npy", mmap_mode="r") for name in ("lr", "hr")]

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        images = (torch.from_numpy(np.array(array[row])).permute(2, 0, 1) for array in self.arrays)
        flip = torch.rand(()) < 0.5
        return tuple((image.flip(-1) if flip else image).float() / 127.5 - 1 for image in images)


def epoch(dataset: Dataset, batch: int, workers: int) -> int:
    """Iterates once over the shuffled data set as training does, workers started and ended; returns the images seen."""
    context = "fork" if workers else None  # what a training script on Linux gets; this process was itself spawned
    loader = DataLoader(dataset, batch, shuffle=True, num_workers=workers, multiprocessing_context=context)
    return sum(len(hr) for _, hr in loader)
