"""Convolutions around the encoder, which give it features with some context instead of bare pixels."""

from torch import Tensor, nn

from vitpipe.config import Model


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip, without normalisation (Lim et al. 2017, EDSR, arXiv:1707.02921).

    Between the two are `expansion` times `channels` channels (Yu et al. 2018, WDSR, arXiv:1808.08718).
    (b, channels, h, w) to the same shape.
    """

    def __init__(self, channels: int, expansion: int, activation: type[nn.Module]) -> None:
        super().__init__()
        hidden = expansion * channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), activation(), nn.Conv2d(hidden, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.layers(x)
        return x + residual


def residual_blocks(model: Model, activation: type[nn.Module]) -> list[ResidualBlock]:
    """As many blocks as `model.conv_blocks` says."""
    return [ResidualBlock(model.conv_channels, model.conv_expansion, activation) for _ in range(model.conv_blocks)]


def conv_stem(model: Model, channels: int, activation: type[nn.Module]) -> nn.Sequential:
    """(b, channels, h, w) to (b, model.conv_channels, h, w): a 3x3 convolution and residual blocks."""
    first = nn.Conv2d(channels, model.conv_channels, 3, padding=1)
    return nn.Sequential(first, *residual_blocks(model, activation))
