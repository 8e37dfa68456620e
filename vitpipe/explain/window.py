"""A super-sampler of whose output one window is looked at.

Legend of the shapes: b images, c channels, s side of the input in pixels, k scale, w side of a window in input pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.errors import InputError
from vitpipe.models.supersampler import SuperSampler


class Window(nn.Module):
    """LR images (t * b, 3, s, s) to a window of each one's HR image, (t * b, 3, k*w + 1, k*w + 1).

    The last row and column lie just below and to the right of the window, and repeat its own where the image ends.

    Args:
        model: its weights are used, and it stays as it is.
        corners: left and top of each image's window (b, 2) in input pixels; for t times as many images they repeat.
        side: w.

    Raises:
        InputError: a window does not lie within images of the size that the model is for.
    """

    def __init__(self, model: SuperSampler, corners: Tensor, side: int) -> None:
        super().__init__()
        self.model, self.corners, self.side = model, corners, side
        size = model.encoder.grid * model.encoder.patch
        outside = ((corners < 0) | (corners + side > size)).any(1)
        if bool(outside.any()):
            left, top = corners[outside][0].tolist()
            raise InputError(
                f"a window of {side}x{side} pixels with its corner at ({left}, {top}) lies outside the image of "
                f"{size}x{size}: left and top must be 0 to {size - side}"
            )

    def forward(self, images: Tensor) -> Tensor:
        output = F.pad(self.model(images), (0, 1, 0, 1), mode="replicate")
        corners = self.corners.repeat(len(images) // len(self.corners), 1)
        return crop(output, corners * self.model.scale, self.side * self.model.scale + 1)


def crop(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """A square of each image (b, c, side, side) of (b, c, s, s), from its left and top pixel (b, 2) on."""
    along = torch.arange(side, device=images.device)
    x, y = (corners[:, i, None] + along for i in (0, 1))  # b side
    every = torch.arange(len(images), device=images.device)[:, None, None]
    return images[every, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
