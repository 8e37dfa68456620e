"""Convolutions around the encoder, so that it gets features with some context instead of bare pixels."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MirroredConv2d(nn.Conv2d):
    """A 3x3 convolution whose output for a mirrored input is the mirrored output, whatever its weights.

    Each kernel is averaged with its mirror image: a group convolution (Cohen & Welling 2016, arXiv:1602.07576) for
    the group of identity and reflection. So half of what its weights could be has no effect. Mirrored means with
    columns reversed, and with the channels reversed within each run of so many: 1 for colours, all for features, k
    for those that a pixel shuffle by k lays out in a row.

    Args:
        channels: of the input (b, channels, h, w), a multiple of `run_in`.
        out: channels of the output (b, out, h, w), a multiple of `run_out`.
        run_in: channels of a run of the input; None for all.
        run_out: channels of a run of the output; None for all.
    """

    def __init__(self, channels: int, out: int, *, run_in: int | None = None, run_out: int | None = None) -> None:
        super().__init__(channels, out, 3, padding=1)
        self.run_in, self.run_out = run_in or channels, run_out or out

    def forward(self, x: Tensor) -> Tensor:
        runs = self.weight.unflatten(1, (-1, self.run_in)).unflatten(0, (-1, self.run_out))  # of out and in: runs, run
        weight = (self.weight + runs.flip(1, 3, 5).view_as(self.weight)) / 2
        assert self.bias is not None
        bias = (self.bias + self.bias.view(-1, self.run_out).flip(1).flatten()) / 2
        return F.conv2d(x, weight, bias, padding=1)


def convolution(
    channels: int, out: int, mirrored: bool, run_in: int | None = None, run_out: int | None = None
) -> nn.Conv2d:
    """3x3, (b, channels, h, w) to (b, out, h, w); `mirrored` makes it a `MirroredConv2d` with these runs."""
    if mirrored:
        return MirroredConv2d(channels, out, run_in=run_in, run_out=run_out)
    return nn.Conv2d(channels, out, 3, padding=1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip, without normalisation (Lim et al. 2017, EDSR, arXiv:1707.02921).

    Between the two are `expansion` times `width` channels (Yu et al. 2018, WDSR, arXiv:1808.08718).
    """

    def __init__(self, width: int, activation: type[nn.Module], expansion: int = 1, mirrored: bool = False) -> None:
        super().__init__()
        hidden = expansion * width
        self.layers = nn.Sequential(
            convolution(width, hidden, mirrored), activation(), convolution(hidden, width, mirrored)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Convolutions(nn.Sequential):
    """A convolution or none, then residual blocks of one kind.

    It computes what nn.Sequential would, in the convolutions' type. Kernels of all blocks are averaged and cast at
    once: one by one, that was a quarter of a training step's operations. Blocks are not called, nor are their hooks.
    """

    def forward(self, x: Tensor) -> Tensor:
        blocks = [layer.layers for layer in self if isinstance(layer, ResidualBlock)]
        if len(blocks) < len(self):
            x = self[0](x)
        if blocks:
            activation = blocks[0][1]
            firsts, seconds = (kernels([layers[place] for layers in blocks], x.dtype) for place in (0, 2))
            for first, second in zip(firsts, seconds, strict=True):
                x = F.conv2d(activation(F.conv2d(x, *first, padding=1)), *second, padding=1).add_(x)
        return x


def kernels(layers: Sequence[Any], dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Kernels (out, channels, 3, 3) and biases (out,) of convolutions of one shape, as they use them, in `dtype`."""
    weight = torch.stack([layer.weight.permute(0, 2, 3, 1) for layer in layers])  # k out 3 3 channels
    bias = torch.stack([layer.bias for layer in layers])  # k out
    if isinstance(layers[0], MirroredConv2d):
        weight, bias = (weight + weight.flip(1, 3, 4)) / 2, (bias + bias.flip(1)) / 2
    return zip(weight.to(dtype).permute(0, 1, 4, 2, 3).unbind(), bias.to(dtype).unbind(), strict=True)


def stem(
    channels: int,
    width: int,
    blocks: int,
    expansion: int,
    activation: type[nn.Module] = nn.GELU,
    mirrored: bool = False,
) -> Convolutions:
    """(b, channels, s, s) to (b, width, s, s): a 3x3 convolution and residual blocks, at full resolution."""
    residual = (ResidualBlock(width, activation, expansion, mirrored) for _ in range(blocks))
    return Convolutions(convolution(channels, width, mirrored, run_in=1), *residual)
