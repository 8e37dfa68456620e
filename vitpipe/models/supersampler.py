"""The super-sampler: predicts what an up-sampled copy of its input lacks.

Shapes: b batch, c channels, s side of the input, k scale, d embedding dimension.
"""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitpipe.config import SupersampleModel
from vitpipe.models.consistency import Consistency
from vitpipe.models.convolution import conv_stem, residual_blocks
from vitpipe.models.patches import unpatchify
from vitpipe.models.vit import Features, build_vit


class SuperSampler(nn.Module):
    """LR images (b, 3, s, s) to HR images (b, 3, k*s, k*s), both on [-1, 1].

    Without convolutions a pure Vision Transformer: patches of pixels are embedded linearly, and each patch of the HR
    image is a linear function of one output vector, so that attention alone passes anything from patch to patch, apart
    from the up-sampled input and the projection of `model.consistent`. With `model.conv_channels` a hybrid: a
    convolutional stem at input resolution, the encoder on patches of its features, back to pixels and added to the
    stem's output, convolutions again, and a pixel shuffle (Shi et al. 2016, arXiv:1609.05158).

    The last layer starts at zero: an untrained model gives exactly the up-sampled input, or with `model.consistent` the
    nearest image to it that is consistent with the input.

    Args:
        model: the settings.
        size: side s of the input in pixels, a multiple of the patch. With `model.consistent` inputs can have no other
            size.
        scale: k.
        encoder: how an encoder in a weights file is built, see `vitpipe.models.vit.build_vit`.
        regular: how training is regularized and saves memory, as arguments of `vitpipe.models.vit.ViT`.
    """

    def __init__(
        self,
        model: SupersampleModel,
        *,
        size: int,
        scale: int,
        encoder: Mapping[str, Any] | None = None,
        **regular: Any,
    ) -> None:
        super().__init__()
        self.scale, self.skip = scale, model.skip
        channels = model.conv_channels
        self.convolutions = channels > 0
        self.stem = conv_stem(model, 3, nn.ReLU) if channels else nn.Identity()
        own = {} if encoder else {"channels": channels or 3}
        self.encoder = build_vit(model, encoder, size=size, **own, **regular)
        patch, dim = self.encoder.patch, self.encoder.dim
        if channels:
            self.patch_unembed = nn.Linear(dim, channels * patch**2)
            self.tail = nn.Sequential(*residual_blocks(model, nn.ReLU))
            self.head: nn.Module = nn.Conv2d(channels, 3 * scale**2, 3, padding=1)
        else:
            self.head = nn.Linear(dim, 3 * (scale * patch) ** 2)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        self.consistency = Consistency(size, scale) if model.consistent else None

    def forward_features(self, lr: Tensor) -> Features:
        """The encoder's output for LR images."""
        features: Features = self.encoder(self.stem(lr))
        return features

    def forward(self, lr: Tensor) -> Tensor:
        image = upsample(lr, self.scale, self.skip) + self.residual(lr)
        return image if self.consistency is None else self.consistency(image, lr)

    def residual(self, lr: Tensor) -> Tensor:
        """What is added to the up-sampled input: (b, 3, k*s, k*s)."""
        stem = self.stem(lr)  # b c s s
        patches = self.encoder(stem).patches  # b h w d
        if not self.convolutions:
            return unpatchify(self.head(patches), self.scale * self.encoder.patch)
        features = stem + unpatchify(self.patch_unembed(patches), self.encoder.patch)  # b c s s
        return pixel_shuffle(self.head(self.tail(features)), self.scale)


def pixel_shuffle(x: Tensor, scale: int) -> Tensor:
    """(b, c * k^2, s, s) to (b, c, k*s, k*s), as `nn.PixelShuffle` does it, contiguous in memory.

    torch's own keeps a channels-last input channels-last, in which images of three channels are slow.
    """
    return rearrange(x, "b (c i j) h w -> b c (h i) (w j)", i=scale, j=scale).contiguous()


def upsample(lr: Tensor, scale: int, method: str) -> Tensor:
    """Enlarges (b, c, s, s) to (b, c, scale*s, scale*s) by nearest, bilinear or bicubic interpolation.

    Bicubic is Keys' kernel with a = -0.5, as Pillow and Matlab have it (`antialias=True` chooses it in torch
    and changes nothing else when enlarging; without, torch takes a = -0.75).
    """
    if method == "nearest":
        return F.interpolate(lr, scale_factor=scale, mode="nearest")
    return F.interpolate(lr.float().contiguous(), scale_factor=scale, mode=method, align_corners=False, antialias=True)
