"""Training images changed at random, mostly by torchvision. What is drawn comes from torch's generator."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from vitpipe.config import Train
from vitpipe.sources.torchvision import import_torchvision


def augment(images: Tensor, train: Train) -> Tensor:
    """Shifts and RandAugments each image by itself, as `train.crop` and `train.randaugment` say.

    (b, 3, s, s) uint8 to the same. A shift moves the image by up to `train.crop` pixels into black; RandAugment
    applies so many operations of magnitude 9 out of 31 (Cubuk et al. 2019, arXiv:1909.13719).
    """
    if not (train.crop or train.randaugment):
        return images
    change = transforms(images.shape[-1], train.crop, train.randaugment)
    return torch.stack([change(image) for image in images])


def shift(hr: Tensor, moves: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Moves each image by itself and reduces it anew, which makes pairs that the data set doesn't have.

    What comes in at a border is the inside, mirrored there. Moves are of HR pixels, so that the same face falls
    differently upon the LR pixels. The reduction is bicubic as the downsample stage has it, by torch instead of Pillow:
    on a CPU with AVX2 a value in 5,000 differs by one level, elsewhere, in floats, one in ten by up to two levels.

    Args:
        hr: (b, 3, s, s) uint8.
        moves: (b, 2) int on the CPU, pixels down and to the right, less than s.
        scale: HR side / side of the LR images, k.

    Returns:
        LR (b, 3, s/k, s/k) and HR images, uint8.
    """
    import_torchvision()
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    size, most = hr.shape[-1], int(moves.abs().max())
    padded = mirrored_edges(hr, most).permute(0, 2, 3, 1)  # as packed images lie: with channels first, 3 times as long
    corners = (most - moves).tolist()
    moved = torch.stack([image[y : y + size, x : x + size] for image, (y, x) in zip(padded, corners, strict=True)])
    moved = moved.permute(0, 3, 1, 2)
    return resize(moved, [size // scale] * 2, InterpolationMode.BICUBIC, antialias=True), moved


def mirrored_edges(images: Tensor, width: int) -> Tensor:
    """(b, c, h, w) with `width` more pixels on each side, mirrored without repeating the edge; less than h and w."""
    # torchvision's pad makes floats of them, in 7 to 17 times the time
    for dim in (-1, -2):
        size = images.shape[dim]
        first, last = images.narrow(dim, 1, width), images.narrow(dim, size - 1 - width, width)
        images = torch.cat([first.flip(dim), images, last.flip(dim)], dim)
    return images


def mix(images: Tensor, labels: Tensor, classes: int, kind: str) -> tuple[Tensor, Tensor]:
    """Blends pairs of images (mixup, arXiv:1710.09412) or pastes one into the other (CutMix, arXiv:1905.04899).

    Args:
        images: (b, 3, s, s) float.
        labels: (b,) class indices.
        classes: number of classes k.
        kind: none, mixup, cutmix or both (one of the two at random).

    Returns:
        Images and labels; the labels of mixed images are (b, k) shares that sum to one. With `kind` none, and of a
        single image, both are what they were.
    """
    if kind == "none" or len(images) < 2:
        return images, labels
    return mixers(kind, classes)(images, labels)


@cache
def transforms(size: int, crop: int, operations: int) -> Any:
    import_torchvision()
    from torchvision.transforms import v2

    steps = [v2.RandomCrop(size, padding=crop)] if crop else []
    return v2.Compose([*steps, v2.RandAugment(operations)] if operations else steps)


@cache
def mixers(kind: str, classes: int) -> Any:
    import_torchvision()
    from torchvision.transforms import v2

    mixup, cutmix = v2.MixUp(alpha=0.2, num_classes=classes), v2.CutMix(alpha=1.0, num_classes=classes)
    return {"mixup": mixup, "cutmix": cutmix, "both": v2.RandomChoice([mixup, cutmix])}[kind]
