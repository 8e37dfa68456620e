"""The classifier: the encoder, one vector pooled from its tokens, and a linear head.

Shapes: b batch, s side of the input, d embedding dimension, k classes.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vitpipe.config import ClassifyModel
from vitpipe.models.convolution import conv_stem
from vitpipe.models.hybrid import feature_map
from vitpipe.models.vit import Features, build_vit


class Classifier(nn.Module):
    """Images (b, 3, s, s) on [-1, 1] to logits (b, k).

    With `model.conv_channels` a convolutional stem at full resolution precedes the encoder (Xiao et al. 2021,
    arXiv:2106.14881). The head reads the class token or, with `model.pool` avg, the mean of all patches.

    Args:
        model: the settings.
        size: side s of the input in pixels.
        classes: number of classes k.
        encoder: how an encoder in a weights file is built, see `vitpipe.models.vit.build_vit`. The head then starts at
            zero, so that the first step changes nothing else.
        regular: how training is regularized and saves memory, as arguments of `vitpipe.models.vit.ViT`.
    """

    def __init__(
        self,
        model: ClassifyModel,
        *,
        size: int,
        classes: int,
        encoder: Mapping[str, Any] | None = None,
        **regular: Any,
    ) -> None:
        super().__init__()
        self.in_chans, self.pool = model.in_chans, model.pool
        hybrid = encoder and encoder.get("stem")
        self.stem: nn.Module = nn.Identity()
        if hybrid:
            self.stem = feature_map(hybrid)
        elif model.conv_channels:
            self.stem = conv_stem(model, model.in_chans, nn.GELU)
        own = (
            {} if encoder else {"channels": model.conv_channels or model.in_chans, "class_token": self.pool == "token"}
        )
        stride = encoder.get("stride", 1) if encoder else 1
        self.encoder = build_vit(model, encoder, size=size // stride, **own, **regular)
        self.head = nn.Linear(self.encoder.dim, classes)
        if encoder:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward_features(self, images: Tensor) -> Features:
        """The encoder's output for images (b, 3, s, s)."""
        if self.in_chans == 1:
            images = images.mean(1, keepdim=True)
        features: Features = self.encoder(self.stem(images))
        return features

    def pooled(self, images: Tensor) -> Tensor:
        """What the head reads (b, d)."""
        return self.encoder.pool(self.forward_features(images), self.pool)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pooled(images))
        return logits
