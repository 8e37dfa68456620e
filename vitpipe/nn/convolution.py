"""Convolutions around the encoder, so that it gets features with some context instead of bare pixels."""

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip, without normalisation (Lim et al. 2017, EDSR, arXiv:1707.02921).

    Between the two are `expansion` times `width` channels (Yu et al. 2018, WDSR, arXiv:1808.08718).
    """

    def __init__(self, width: int, activation: type[nn.Module], expansion: int = 1) -> None:
        super().__init__()
        hidden = expansion * width
        self.layers = nn.Sequential(
            nn.Conv2d(width, hidden, 3, padding=1), activation(), nn.Conv2d(hidden, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def stem(
    channels: int, width: int, blocks: int, expansion: int, activation: type[nn.Module] = nn.GELU
) -> nn.Sequential:
    """(b, channels, s, s) to (b, width, s, s): a 3x3 convolution and residual blocks, at full resolution."""
    residual = (ResidualBlock(width, activation, expansion) for _ in range(blocks))
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), *residual)
