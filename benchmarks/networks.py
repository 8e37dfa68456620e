"""The networks that the super-sampler is compared with; all map LR (b, 3, s, s) to HR (b, 3, k*s, k*s) on [-1, 1].

Legend of the shapes: b batch, s input side, k scale, w width (channels).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from benchmarks.original import Original
from vitpipe.config import Settings
from vitpipe.sources.torchvision import import_torchvision
from vitpipe.errors import InputError
from vitpipe.models.convolution import ResidualBlock
from vitpipe.models.supersampler import upsample
from vitpipe.tasks import task


@dataclass(frozen=True)
class Variant:
    """One form of a network.

    Args:
        build: makes it with fresh weights from torch's generator.
        train: what of the settings `train` is its own.
    """

    build: Callable[[Settings], nn.Module]
    train: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """A network in its variants, of which validation chooses one, and how it is trained.

    Args:
        title: its name in tables and figures.
        variants: by a name that tells them apart.
        lr: where the search for its learning rate begins; None is that of the settings.
        train: what of the settings `train` is its own.
        whole: what of them only the whole training has, not the short ones that choose: long ones gain from larger
            batches and from what keeps a network from learning images by heart that it sees often.
        channels_last: whether it is faster with its channels in the last place of memory.
    """

    title: str
    variants: Mapping[str, Variant]
    lr: float | None = None
    train: Mapping[str, Any] = field(default_factory=dict)
    whole: Mapping[str, Any] = field(default_factory=dict)
    channels_last: bool = True


class EDSR(nn.Module):
    """EDSR-baseline (Lim et al. 2017, arXiv:1707.02921): residual blocks, then two steps of pixel-shuffle.

    The published one with 64 channels, 16 blocks and scale 4 has 1,517,571 parameters; so has this. It expects images
    with a mean near zero.
    """

    def __init__(self, *, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.head = convolution(3, width)
        self.body = nn.Sequential(*(ResidualBlock(width, nn.ReLU) for _ in range(blocks)), convolution(width, width))
        steps = [layer for _ in range(2) for layer in (convolution(width, 4 * width), nn.PixelShuffle(2))]
        self.tail = nn.Sequential(*steps, convolution(width, 3))

    def forward(self, lr: Tensor) -> Tensor:
        x = self.head(lr)  # b w s s
        return self.tail(x + self.body(x))


class SmallEDSR(nn.Module):
    """EDSR made for a few minutes of training: it never leaves the input's resolution and learns what bicubic lacks.

    One step of pixel-shuffle from the last convolution, which starts at zero, beside the bicubic enlargement.
    """

    def __init__(self, *, width: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.head = convolution(3, width)
        self.body = nn.Sequential(*(ResidualBlock(width, nn.ReLU) for _ in range(blocks)), convolution(width, width))
        self.last = convolution(width, 3 * scale * scale)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, lr: Tensor) -> Tensor:
        x = self.head(lr)  # b w s s
        missing = F.pixel_shuffle(self.last(x + self.body(x)), self.scale)  # b 3 ks ks
        return upsample(lr, self.scale, "bicubic") + missing


class Unit(nn.Module):
    """A network for images on [0, 1] as one for images on [-1, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        return 2 * self.network((lr + 1) / 2) - 1


def convolution(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1)


def architecture(name: str) -> type[nn.Module]:
    """A network's class in spandrel.

    Raises:
        InputError: spandrel is not installed.
    """
    if find_spec("spandrel") is None:
        raise InputError(f"{name} needs spandrel: pip install -e '.[bench]'")
    import_torchvision()  # which spandrel imports
    return getattr(import_module(f"spandrel.architectures.{name}"), name)


def swinir_light(settings: Settings) -> nn.Module:
    """SwinIR-light (Liang et al. 2021, arXiv:2108.10257): 0.9 million parameters at scale 4; expects [0, 1].

    Without stochastic depth, which is for trainings of days and costs quality in minutes.
    """
    network = architecture("SwinIR")(
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
    return Unit(network)


def edsr(settings: Settings) -> nn.Module:
    assert settings.data.scale == 4, "EDSR is built for scale 4"
    return EDSR()


def rcan(settings: Settings) -> nn.Module:
    """RCAN (Zhang et al. 2018, arXiv:1807.02758): 10 groups of 20 blocks, 15.6 million parameters at scale 4.

    Without its shift by DIV2K's mean: like EDSR it wants images around zero, and [-1, 1] is that already.
    """
    return architecture("RCAN")(scale=settings.data.scale, norm=False)


def original(strided: bool) -> Callable[[Settings], nn.Module]:
    return lambda settings: Original(size=settings.data.input_size, patch=6, strided=strided)


def small_edsr(width: int, blocks: int, train: Mapping[str, Any]) -> Variant:
    def build(settings: Settings) -> nn.Module:
        return SmallEDSR(width=width, blocks=blocks, scale=settings.data.scale)

    return Variant(build, train)


def ours(patch: int) -> Variant:
    def build(settings: Settings) -> nn.Module:
        model = settings.model.model_copy(update=RECIPE["model"] | {"patch": patch})
        return task("supersample").build(settings.model_copy(update={"model": model}))

    return Variant(build)


RECIPE = yaml.safe_load((Path(__file__).parents[1] / "conf/recipe/celeba.yaml").read_text())
SIZES = ((48, 6), (32, 8), (32, 12), (32, 20), (32, 28))  # of the small EDSR: channels and blocks
# Ten minutes, validation, one seed: a batch of 12 is 0.02 dB better than 8 for ours, 0.04 for the small EDSR.
# 450 steps: the spectral loss is 0.03 dB better for ours, 0.02 for the small EDSR.
# A variant's own settings go before these, so Adam stays Adam.
WHOLE = {name: RECIPE["train"][name] for name in ("batch", "crop", "weight_decay", "loss")}
ADAM = {"optimizer": "adamw", "weight_decay": 0.0}  # which is Adam, as the published trainings had it
L1 = {"loss": "l1"}
ORIGINAL = ADAM | {"loss": "mse", "batch": 32}

NETWORKS = {
    "ours": Network(
        "vitpipe", {f"patch {patch}": ours(patch) for patch in (3, 6)}, lr=float(RECIPE["train"]["lr"]), whole=WHOLE
    ),
    "edsr-small": Network(
        "small EDSR",
        {f"{width} channels, {blocks} blocks": small_edsr(width, blocks, {}) for width, blocks in SIZES}
        | {"48 channels, 6 blocks, Adam": small_edsr(48, 6, ADAM)},
        lr=2e-3,
        whole=WHOLE,
    ),
    "edsr": Network("EDSR-baseline", {"our optimiser": Variant(edsr), "Adam": Variant(edsr, ADAM)}, lr=5e-4, train=L1),
    "swinir": Network(
        "SwinIR-light",
        {f"{batch} a step": Variant(swinir_light, ADAM | {"batch": batch}) for batch in (16, 4)},
        lr=1e-3,
        train=L1,
        channels_last=False,
    ),
    "rcan": Network(
        "RCAN", {f"{batch} a step": Variant(rcan, ADAM | {"batch": batch}) for batch in (16, 4)}, lr=5e-4, train=L1
    ),
    "original": Network("original, mended", {"squares": Variant(original(False))}, 2e-4, ORIGINAL, channels_last=False),
    "original-strided": Network("original", {"strided": Variant(original(True))}, 2e-4, ORIGINAL, channels_last=False),
}
"""By the name that the command line takes."""
