"""Between the pixels of images and what models take and give."""

import numpy as np
import torch
from torch import Tensor


def normalize(images: Tensor) -> Tensor:
    """uint8 0..255 as float32 on [-1, 1]."""
    return (images / 127.5).sub_(1)  # in place: a third tensor would cost as much as the two others


def to_input(images: np.ndarray, device: torch.device) -> Tensor:
    """Images (b, s, s, 3) uint8 as models take them, (b, 3, s, s) on [-1, 1]."""
    return normalize(torch.from_numpy(images).to(device).permute(0, 3, 1, 2))


def to_images(output: Tensor) -> np.ndarray:
    """Images (b, 3, h, w) on [-1, 1] as uint8 (b, h, w, 3), clipped and rounded."""
    return to_uint8(output).permute(0, 2, 3, 1).cpu().numpy()


def to_uint8(images: Tensor) -> Tensor:
    """float on [-1, 1] as uint8 0..255, clipped and rounded to the nearest level."""
    return ((images.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
