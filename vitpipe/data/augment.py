"""Random changes of training images, mostly by torchvision. Random numbers come from torch's generator."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from vitpipe.sources.torchvision import import_torchvision


def augment(images: Tensor, *, crop: int, randaugment: int) -> Tensor:
    """Shifts each image at random and applies RandAugment to it (Cubuk et al. 2019, arXiv:1909.13719).

    Args:
        images: (b, 3, s, s) uint8.
        crop: largest shift in pixels, in each direction; the border is filled with black.
        randaugment: number of RandAugment operations, of magnitude 9 out of 31.

    Returns:
        Changed images of the same shape, uint8; `images` itself where both settings are 0.
    """
    if not (crop or randaugment):
        return images
    change = transforms(images.shape[-1], crop, randaugment)
    return torch.stack([change(image) for image in images])


@cache
def transforms(size: int, crop: int, operations: int) -> Any:
    import_torchvision()
    from torchvision.transforms import v2

    steps = [v2.RandomCrop(size, padding=crop)] if crop else []
    return v2.Compose([*steps, v2.RandAugment(operations)] if operations else steps)


def shift(hr: Tensor, moves: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Shifts each HR image by its own move and reduces it again, which makes new pairs of LR and HR.

    The border is filled with the mirrored image, without repeating the edge. Moves are whole HR pixels, so the same
    face falls differently on the LR pixels. The reduction is bicubic as in the downsample stage, but by torch instead
    of Pillow: on a CPU with AVX2 one value in 5,000 differs by one level; elsewhere, where torch computes in floats,
    one in ten by up to two levels.

    Args:
        hr: (b, 3, s, s) uint8.
        moves: (b, 2) int on the CPU, pixels down and to the right, less than s.
        scale: HR side / LR side, k.

    Returns:
        LR (b, 3, s/k, s/k) and HR images, uint8.
    """
    import_torchvision()
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    size = hr.shape[-1]
    places = (torch.arange(size) - moves[..., None]).abs()  # (b, 2, s): the row and column that each pixel comes from
    places = (size - 1 - (size - 1 - places).abs()).to(hr.device)
    nhwc = zip(hr.permute(0, 2, 3, 1), places, strict=True)  # the order of packed images
    moved = torch.stack([image.index_select(0, rows).index_select(1, columns) for image, (rows, columns) in nhwc])
    moved = moved.permute(0, 3, 1, 2)
    return resize(moved, [size // scale] * 2, InterpolationMode.BICUBIC, antialias=True), moved


def mix(images: Tensor, labels: Tensor, classes: int, kind: str) -> tuple[Tensor, Tensor]:
    """Blends pairs of images (mixup, arXiv:1710.09412) or pastes one into the other (CutMix, arXiv:1905.04899).

    Args:
        images: (b, 3, s, s) float.
        labels: (b,) class indices.
        classes: number of classes k.
        kind: none, mixup, cutmix or both (one of the two at random).

    Returns:
        Images and labels. The labels of mixed images are the shares of the classes (b, k), which sum to one. With
        `kind` none, and of a single image, both are returned unchanged.
    """
    if kind == "none" or len(images) < 2:
        return images, labels
    return mixers(kind, classes)(images, labels)


@cache
def mixers(kind: str, classes: int) -> Any:
    import_torchvision()
    from torchvision.transforms import v2

    mixup, cutmix = v2.MixUp(alpha=0.2, num_classes=classes), v2.CutMix(alpha=1.0, num_classes=classes)
    return {"mixup": mixup, "cutmix": cutmix, "both": v2.RandomChoice([mixup, cutmix])}[kind]
