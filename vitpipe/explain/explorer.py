"""What the explorer of the report page shows: pictures, predictions and every attention weight of some test images.

Legend of the shapes: f images, l layers, h heads, n tokens (patches and, where there is one, the class token as
token 0), s side of the input, S side of the original, k classes.
"""

import zlib

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.config import Settings
from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.explain import explanations
from vitpipe.explain.capture import encoder_of, evaluating
from vitpipe.explain.heatmaps import attention_of

IMAGES = 16  # at most
BUDGET = 3_200_000  # bytes that the codes of all images may take once deflated; in a page they take a third more
STEP = 1.05  # between the weights of neighbouring codes
LEAST = STEP**-254  # weight of code 1, 4.2e-6; code 255 is 1, the largest weight there is
ERROR = STEP**0.5 - 1  # largest relative error of a decoded weight that is LEAST or more, 2.5 %

Arrays = dict[str, np.ndarray]


def explorer(model: nn.Module, packed: PackedDataset, settings: Settings, device: torch.device) -> Arrays:
    """The content of reports/heatmaps/explorer.npz.

    Images are evenly spread through the part: as many of 16 as fit `BUDGET`. Where not even one fits with all
    heads, the weights are means over the heads, of as many images as fit, and of one image whatever its size.

    Args:
        model: a trained `SuperSampler` or `Classifier`; it is left in the mode it was in.
        packed: the test part.

    Returns:
        ids (f,); codes (f, l, h, n, n) uint8, query before key, which stand for the weights `values`[codes], see
        `encode`; values (256,) float32; error (), the largest relative error of a weight of 4.2e-6 or more; heads (),
        how many there are, while h is 1 if `averaged` (), a bool; grid (), patches on each side; token (), a bool.
        Of super-sampling lr (f, s, s, 3), bicubic, model and hr (f, S, S, 3), all uint8, psnr_bicubic and
        psnr_model (f,) in dB. Of classification images (f, s, s, 3) uint8 as the model sees them, classes (k,),
        actual and predicted (f,) by name and probabilities (f, k) float32.
    """
    rows = evenly_spaced(packed, IMAGES)
    encoder = encoder_of(model)
    with evaluating(model):
        chosen, codes = fitting(model, packed, rows, device)
        outcome = explanations(settings.task.name).explored(model, packed, chosen, device)
    heads = encoder.blocks[0].attention.heads
    return outcome | {
        "ids": packed.samples.index[chosen].to_numpy(dtype=str),
        "codes": codes,
        "values": values(),
        "error": np.array(ERROR),
        "heads": np.array(heads),
        "averaged": np.array(codes.shape[2] < heads),
        "grid": np.array(encoder.grid),
        "token": np.array(encoder.token is not None),
    }


def values() -> np.ndarray:
    """The weight that each code stands for, (256,) float32: 0, then 1.05^(code - 255)."""
    return np.concatenate([[0.0], STEP ** np.arange(-254.0, 1.0)]).astype(np.float32)


def encode(weights: Tensor) -> Tensor:
    """Attention weights in [0, 1] as uint8 codes of the same shape: the nearest of `values` by their logarithm.

    A larger weight never has a smaller code. Weights of LEAST (4.2e-6) or more keep a relative error of at most
    `ERROR` (2.5 %); below it the error is at most LEAST / 2, and what is less than LEAST / 2 becomes 0.
    """
    codes = weights.clamp_min(LEAST).log_().div_(float(np.log(STEP))).round_().add_(255).clamp_(1, 255)  # in place
    return codes.masked_fill_(weights < LEAST / 2, 0).to(torch.uint8)


def fitting(model: nn.Module, packed: PackedDataset, rows: np.ndarray, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose codes fit `BUDGET`, evenly spread over `rows`, and the codes (f, l, h or 1, n, n)."""
    averaged = False
    first = encoded(model, packed, rows[:1], device, averaged)
    if deflated(first) > BUDGET:
        averaged = True
        first = encoded(model, packed, rows[:1], device, averaged)
    # three quarters of the mean size: a cautious count of those that are worth encoding
    most = min(len(rows), 1 + int(BUDGET / (0.75 * deflated(first))))
    kept = rows[evenly(len(rows), most)]
    codes = encoded(model, packed, kept, device, averaged) if len(kept) > 1 else first
    sizes = np.array([deflated(image) for image in codes])
    count = len(kept)
    while count > 1 and sizes[evenly(len(kept), count)].sum() > BUDGET:
        count -= 1
    places = evenly(len(kept), count)
    return kept[places], codes[places]


def evenly(length: int, count: int) -> np.ndarray:
    """`count` of the places 0 to length - 1, evenly spread, 0 among them; halves go up, so that gaps stay alike."""
    return np.floor(np.linspace(0, length - 1, count) + 0.5).astype(int)


def deflated(codes: np.ndarray) -> int:
    """Bytes of codes once compressed."""
    return len(zlib.compress(codes.tobytes(), 6))


def encoded(model: nn.Module, packed: PackedDataset, rows: np.ndarray, device: torch.device, averaged: bool) -> np.ndarray:
    """Codes (f, l, h, n, n) of the given images, or of the mean over their heads (f, l, 1, n, n)."""
    parts = []
    for weights in attention_of(model, packed, rows, device):
        parts.append(encode(weights.mean(2, keepdim=True) if averaged else weights).cpu().numpy())
    return np.concatenate(parts)
