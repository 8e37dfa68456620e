"""The classifier: the encoder, one vector read out of it, and a linear head.

Legend of the shapes: b batch, s input side, n tokens, d embedding width, k classes.
"""

from typing import Any

from torch import Tensor, nn

from vitpipe.nn.convolution import stem
from vitpipe.nn.encoder import Encoder


class Classifier(nn.Module):
    """Images (b, 3, s, s) on [-1, 1] to logits (b, k).

    Args:
        classes: number of classes k.
        channels: 3, or 1 to see the mean of the three only: all there is of a grey image.
        readout: what the head reads, token (the class token, Dosovitskiy et al. 2020, arXiv:2010.11929) or
            mean (of all patches).
        width: channels of a convolution stem at full resolution (as Xiao et al. 2021, arXiv:2106.14881, found
            to help); 0 = patches of bare pixels.
        blocks: residual convolution blocks in that stem.
        expansion: channels between the two convolutions of such a block over `width`.
        encoder: what `Encoder` takes besides.
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        readout: str,
        width: int,
        blocks: int,
        dim: int,
        expansion: int = 1,
        **encoder: Any,
    ) -> None:
        super().__init__()
        self.channels, self.readout = channels, readout
        self.stem = stem(channels, width, blocks, expansion) if width else nn.Identity()
        self.encoder = Encoder(channels=width or channels, dim=dim, token=readout == "token", **encoder)
        self.head = nn.Linear(dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        if self.channels == 1:
            images = images.mean(1, keepdim=True)
        tokens = self.encoder(self.stem(images))  # b n d
        return self.head(tokens[:, 0] if self.readout == "token" else tokens.mean(1))
