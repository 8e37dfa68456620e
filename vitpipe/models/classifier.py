"""The classifier: the encoder, one vector pooled from its tokens, and a linear head.

Shapes: b batch, s side of the input, d embedding dimension, k classes.
"""

from torch import Tensor, nn

from vitpipe.config import ClassifyModel
from vitpipe.models.convolution import conv_stem
from vitpipe.models.vit import Features, build_vit


class Classifier(nn.Module):
    """Images (b, 3, s, s) on [-1, 1] to logits (b, k).

    With `model.conv_channels` a convolutional stem at full resolution precedes the encoder (Xiao et al. 2021,
    arXiv:2106.14881). The head reads the class token or, with `model.pool` avg, the mean of all patches.

    Args:
        model: the settings.
        size: side s of the input in pixels.
        classes: number of classes k.
    """

    def __init__(self, model: ClassifyModel, *, size: int, classes: int) -> None:
        super().__init__()
        self.in_chans, self.pool = model.in_chans, model.pool
        self.stem = conv_stem(model, model.in_chans, nn.GELU) if model.conv_channels else nn.Identity()
        channels = model.conv_channels or model.in_chans
        self.encoder = build_vit(model, size=size, channels=channels, class_token=model.pool == "token")
        self.head = nn.Linear(model.dim, classes)

    def forward_features(self, images: Tensor) -> Features:
        """The encoder's output for images (b, 3, s, s)."""
        if self.in_chans == 1:
            images = images.mean(1, keepdim=True)
        features: Features = self.encoder(self.stem(images))
        return features

    def forward(self, images: Tensor) -> Tensor:
        features = self.forward_features(images)
        logits: Tensor = self.head(
            features.prefix[:, 0] if self.pool == "token" else features.patches.flatten(1, 2).mean(1)
        )
        return logits
