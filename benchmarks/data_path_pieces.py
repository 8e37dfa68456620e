"""What an image costs on its way from the zip to packed arrays, and to a batch of the DataLoader, piece by piece."""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitpipe.config import Data
from vitpipe.sources.images import decode, resize
from vitpipe.sources import source
from vitpipe.sources.torchvision import import_torchvision

SAMPLES, TIMES, BATCH = 256, 7, 32
BICUBIC = Image.Resampling.BICUBIC


def pieces(raw: Path, data: Data) -> dict[str, float]:
    """Microseconds an image of each piece, the least of some times, in one thread."""
    import_torchvision()
    from torchvision.transforms import ToTensor

    torch.set_num_threads(1)
    origin = source(data.name)
    samples = list(origin.samples(raw).index[:SAMPLES])
    images = origin.open_images(raw)
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[Any], Any], inputs: Iterable[Any]) -> list[Any]:
        inputs, least = list(inputs), float("inf")
        for _ in range(TIMES):
            start = time.perf_counter()
            made = [work(each) for each in inputs]
            least = min(least, time.perf_counter() - start)
        found[name] = round(1e6 * least / len(samples), 1)
        return made

    pictures = timed("decode", decode, timed("read from the zip", images.content, samples))
    hr = timed("resize to HR", partial(resize, size=data.size, fit=data.fit), pictures)
    lr = timed("resize to LR", lambda image: image.resize((data.input_size, data.input_size), BICUBIC), hr)
    pixels = timed("pixels as arrays", lambda pair: [np.asarray(image) for image in pair], zip(hr, lr, strict=True))
    timed("digest", lambda pair: [hashlib.blake2b(array.data).digest() for array in pair], pixels)
    with tempfile.TemporaryFile(dir=raw.parent) as file:
        timed("write", lambda pair: [file.write(array.data) for array in pair], pixels)
    to_tensor = ToTensor()
    tensors = timed("ToTensor", lambda pair: [to_tensor(image) for image in pair], zip(hr, lr, strict=True))
    batches = [tensors[start : start + BATCH] for start in range(0, len(tensors), BATCH)]
    timed("collate", lambda batch: [torch.stack(images) for images in zip(*batch, strict=True)], batches)
    return found
