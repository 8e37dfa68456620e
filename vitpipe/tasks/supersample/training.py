"""What training a super-sampler needs: the model, its inputs, its loss.

Shapes: b images, c channels, s side in pixels.
"""

from functools import cache

import numpy as np
import torch
from einops import rearrange
from scipy.fft import dct
from torch import Tensor, nn

from vitpipe.config import SupersampleSettings
from vitpipe.data.augment import shift
from vitpipe.data.batches import Batch
from vitpipe.data.pixels import normalize
from vitpipe.models.supersampler import SuperSampler, upsample
from vitpipe.training.task import TrainingTask

EPSILON = 0.03  # of the Charbonnier loss, four of 255 levels: squared error below, absolute error above
SPECTRUM_WEIGHT = 2.0  # of the spectrum's loss, beside that of the pixels
LARGEST_BLOCK = 64  # pixels on a side of the blocks that the spectrum is computed of


class Training(TrainingTask):
    """Super-resolution: from an LR image to the HR image that it was made from."""

    settings: SupersampleSettings
    best = "val_psnr"

    def build(self) -> SuperSampler:
        data = self.settings.data
        return SuperSampler(
            self.settings.model, size=data.input_size, scale=data.scale, encoder=self.encoder, **self.regular()
        )

    def targets(self, batch: Batch) -> Tensor:
        """HR images (b, 3, k*s, k*s) on [-1, 1]."""
        return normalize(batch.hr)

    def augmented(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """LR and HR images, uint8 NCHW, shifted as `train.crop` says."""
        crop = self.settings.train.crop
        if not crop:
            return batch.local.lr, batch.local.hr
        scale = self.settings.data.scale
        most = crop * scale
        moves = most - torch.randint(2 * most + 1, (len(batch), 2))  # for the whole batch, whatever part is local
        return shift(batch.local.hr, moves[batch.part], scale)

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean reconstruction loss on [-1, 1], and the mean PSNR in dB; of uint8 images."""
        hr = normalize(targets.contiguous())
        output = model(normalize(inputs)).float()
        with torch.no_grad():
            means = {"psnr": psnr(output, hr).mean()}
        return reconstruction_loss(output, hr, self.settings.train.loss).mean(), means

    def validation_scores(self, output: Tensor, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        bicubic = upsample(images, self.settings.data.scale, "bicubic")
        return {
            "loss": reconstruction_loss(output, targets, self.settings.train.loss),
            "psnr": psnr(output, targets),
            "bicubic_psnr": psnr(bicubic, targets),
        }


def reconstruction_loss(output: Tensor, target: Tensor, kind: str) -> Tensor:
    """Loss of each image (b,), of images (b, c, s, s) on [-1, 1].

    mse and l1 are the mean squared and absolute error. charbonnier is the mean of sqrt(error^2 + 0.03^2), from Lai et
    al. 2017 (arXiv:1704.03915), who have 0.001 in place of 0.03. spectral adds twice the same of the error's cosine
    transform in blocks, where Cho et al. 2021 (arXiv:2108.05054) add the absolute error of Fourier transforms.
    """
    error = output - target
    if kind == "l1":
        return error.abs().mean((1, 2, 3))
    if kind == "mse":
        return error.square().mean((1, 2, 3))
    if kind == "charbonnier":
        return charbonnier(error)
    return charbonnier(error) + SPECTRUM_WEIGHT * charbonnier(spectrum(error))


def charbonnier(error: Tensor) -> Tensor:
    """Mean of sqrt(error^2 + 0.03^2) over all but the first axis: (b,)."""
    return (error.square() + EPSILON**2).sqrt().flatten(1).mean(1)


def spectrum(images: Tensor) -> Tensor:
    """Orthonormal 2-D cosine transform (DCT-II) of square images (b, c, s, s), block by block: (b, c, s/n, n, s/n, n).

    n is the largest divisor of s up to 64. Computed in float32, even under autocast.
    """
    side = images.shape[-1]
    block = max(n for n in range(1, LARGEST_BLOCK + 1) if side % n == 0)
    waves = cosines(block, images.device)
    with torch.autocast(images.device.type, enabled=False):
        columns = waves @ rearrange(images.float(), "b c (i n) w -> b c i n w", n=block)
        return rearrange(columns, "b c i n (j m) -> b c i n j m", m=block) @ waves.mT


@cache
def cosines(count: int, device: torch.device) -> Tensor:
    """(n, n): row i holds the i-th basis vector of the orthonormal DCT-II."""
    with torch.inference_mode(False):
        return torch.from_numpy(dct(np.eye(count), axis=0, norm="ortho")).float().to(device)


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB of each image (b,), both on [-1, 1], clipped but not rounded; the reported one is in `metrics`."""
    error = output.clamp(-1, 1).sub_(target).flatten(1)
    mse = torch.linalg.vector_norm(error, dim=1).square() / error.shape[1]
    return 10 * torch.log10(4 / mse.clamp_min(1e-10))
