"""The super-resolution networks that vitpipe's is compared with, and how each is trained.

All map LR images (b, 3, s, s) to HR images (b, 3, k*s, k*s), both on [-1, 1]; b batch, s side, k scale.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import peer
from benchmarks.original import Original
from vitpipe.config import SupersampleSettings
from vitpipe.models.supersampler import upsample
from vitpipe.tasks import training_task


@dataclass(frozen=True)
class Network:
    """A network and its training.

    Args:
        build: makes it with fresh weights from torch's generator.
        train: settings of the section `train` that differ from those of vitpipe's recipe. Validation chose learning
            rate, batch and size of every other network in trainings of 2 and 10 minutes, before the benchmarks were
            rebuilt.
        channels_last: whether it is faster with channels last in memory.
    """

    build: Callable[[SupersampleSettings], nn.Module]
    train: Mapping[str, Any] = field(default_factory=dict)
    channels_last: bool = True


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution(channels, channels), nn.ReLU(), convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class EDSR(nn.Module):
    """EDSR-baseline (Lim et al. 2017, arXiv:1707.02921), for scale 4: residual blocks, then two pixel shuffles.

    With 64 channels and 16 blocks it has 1,517,571 parameters, as the published one.
    """

    def __init__(self, *, channels: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.head = convolution(3, channels)
        self.body = residual_body(channels, blocks)
        steps = [layer for _ in range(2) for layer in (convolution(channels, 4 * channels), nn.PixelShuffle(2))]
        self.tail = nn.Sequential(*steps, convolution(channels, 3))

    def forward(self, lr: Tensor) -> Tensor:
        x = self.head(lr)  # b c s s
        return self.tail(x + self.body(x))


class SmallEDSR(nn.Module):
    """EDSR for a few minutes of training: it predicts what bicubic interpolation lacks, with a single pixel shuffle.

    Its last layer starts at zero, so the untrained network equals bicubic interpolation.
    """

    def __init__(self, *, channels: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.head = convolution(3, channels)
        self.body = residual_body(channels, blocks)
        self.tail = convolution(channels, 3 * scale**2)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def forward(self, lr: Tensor) -> Tensor:
        x = self.head(lr)  # b c s s
        return upsample(lr, self.scale, "bicubic") + F.pixel_shuffle(self.tail(x + self.body(x)), self.scale)


class UnitRange(nn.Module):
    """A network for images on [0, 1] as one for images on [-1, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        return 2 * self.network((lr + 1) / 2) - 1


def convolution(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1)


def residual_body(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)), convolution(channels, channels))


def edsr(settings: SupersampleSettings) -> nn.Module:
    assert settings.data.scale == 4, "EDSR-baseline is built for scale 4"
    return EDSR()


def swinir_light(settings: SupersampleSettings) -> nn.Module:
    """SwinIR-light (Liang et al. 2021, arXiv:2108.10257), 0.9 million parameters at scale 4.

    Without stochastic depth, which is for trainings of days and costs quality in minutes.
    """
    network = peer("spandrel.architectures.SwinIR").SwinIR(
        img_size=settings.data.input_size,
        window_size=8,
        embed_dim=60,
        depths=[6] * 4,
        num_heads=[6] * 4,
        mlp_ratio=2.0,
        drop_path_rate=0.0,
        upscale=settings.data.scale,
        upsampler="pixelshuffledirect",
    )
    return UnitRange(network)


def rcan(settings: SupersampleSettings) -> nn.Module:
    """RCAN (Zhang et al. 2018, arXiv:1807.02758): 10 groups of 20 blocks, 15.6 million parameters at scale 4.

    Without its shift by the mean of DIV2K: images on [-1, 1] have a mean near zero already.
    """
    return peer("spandrel.architectures.RCAN").RCAN(scale=settings.data.scale, norm=False)


def vitpipe(**changes: Any) -> Callable[[SupersampleSettings], nn.Module]:
    """vitpipe's super-sampler, with changes to the section `model` of its recipe."""

    def make(settings: SupersampleSettings) -> nn.Module:
        model = settings.model.model_copy(update=changes)
        return training_task(settings.model_copy(update={"model": model})).build()

    return make


HYBRID = {
    "patch": 6,
    "dim": 128,
    "depth": 2,
    "heads": 8,
    "place": False,
    "conv_channels": 32,
    "conv_blocks": 10,
}  # celeba-hybrid
ADAM = {"optimizer": "adamw", "weight_decay": 0.0, "crop": 0}  # Adam, as the publications have it
NETWORKS = {
    "vitpipe": Network(vitpipe()),
    "vitpipe by place alone": Network(vitpipe(attention="place")),
    "vitpipe without attention": Network(vitpipe(attention="none")),
    "vitpipe hybrid": Network(vitpipe(**HYBRID), {"batch": 12, "lr": 2.8e-3}),
    "small EDSR": Network(lambda settings: SmallEDSR(channels=32, blocks=20, scale=settings.data.scale), {"lr": 2e-3}),
    "EDSR-baseline": Network(edsr, {"lr": 2e-3, "loss": "l1", "batch": 8, "weight_decay": 0.0, "crop": 0}),
    "SwinIR-light": Network(swinir_light, ADAM | {"lr": 2e-3, "loss": "l1", "batch": 4}, channels_last=False),
    "RCAN": Network(rcan, ADAM | {"lr": 2.5e-4, "loss": "l1", "batch": 4}),
    "original": Network(
        lambda settings: Original(size=settings.data.input_size, patch=6),
        ADAM | {"lr": 3.2e-3, "loss": "mse", "batch": 32},
        channels_last=False,
    ),
}


def build(name: str, settings: SupersampleSettings) -> nn.Module:
    """The named network, in the order of memory that suits it."""
    network = NETWORKS[name]
    model = network.build(settings)
    if network.channels_last:
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.register_forward_pre_hook(lambda _, images: (images[0].contiguous(),))  # packed images have channels last
    return model
