"""Decodes every image once and packs HR targets and LR inputs as uint8 arrays, in one pass; no image stays in memory.

Layout of a packed part, written here and read by `vitpipe.data.dataset`:

    hr-000.npy, hr-001.npy ...   (n, size, size, 3) uint8
    lr-000.npy, lr-001.npy ...   (n, size/scale, size/scale, 3) uint8, the same n; none where scale is 1
    samples.csv                  sample id, identity, landmarks in HR pixels, labels; row i belongs to image i
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from PIL import Image

from vitpipe.config import Data
from vitpipe.data.labels import label_counts
from vitpipe.data.split import PARTS
from vitpipe.errors import InputError
from vitpipe.files import write_json
from vitpipe.progress import progress
from vitpipe.sources import COLUMNS, LANDMARKS, Images
from vitpipe.sources.images import UnreadableImage, report_rejects, resize

SHARD = 8192
"""Images in one file: 0.9 GB of HR at 192x192, so that neither a file nor a copy of it gets unwieldy."""


def pack(table: pd.DataFrame, images: Images, data: Data, folder: Path) -> dict[str, int]:
    """Packs every part of `table` into `folder`/{train,val,test}.

    Images that can't be decoded are listed in `folder`/rejects.csv. `folder`/manifest.json holds the number of
    images, the images of each class and a digest of each part, so that no reader has to go through all of it.

    Args:
        table: the result of `vitpipe.data.split.split`.
        folder: an empty folder to fill.

    Returns:
        The number of packed images by part, and of unreadable ones under "rejected".

    Raises:
        InputError: more than 1 % of the images are unreadable, or a part would be empty.
        OSError: the disk is full.
    """

    def read(sample: str) -> tuple[dict[str, np.ndarray], tuple[int, int]] | UnreadableImage:
        try:
            image = images.read(sample)
        except UnreadableImage as error:
            return error
        return targets_of(image, data), image.size

    rejects: dict[str, str] = {}  # reason by sample id
    manifest: dict[str, dict[str, Any]] = {}
    with progress(len(table), "downsample", "image") as bar:
        for part in PARTS:
            rows = table[table["part"] == part].drop(columns="part")
            writer, sizes = PartWriter(folder / part), {}
            for sample, result in threaded(read, rows.index):
                bar.update()
                if isinstance(result, UnreadableImage):
                    rejects[sample] = str(result)
                else:
                    arrays, sizes[sample] = result
                    writer.add(arrays)
            if not sizes:
                raise InputError(f"no readable picture is left in part {part}: data/raw holds too few")
            annotation = rows.loc[list(sizes)]
            move_landmarks(annotation, np.array([*sizes.values()]), data)
            manifest[part] = writer.close(annotation)
    report_rejects(rejects, len(table), "data/raw", folder)
    write_json(folder / "manifest.json", manifest)
    return {part: entry["images"] for part, entry in manifest.items()} | {"rejected": len(rejects)}


def targets_of(image: Image.Image, data: Data) -> dict[str, np.ndarray]:
    """`hr` (size, size, 3) and `lr` (size/scale, size/scale, 3) of an image, uint8; no `lr` where the scale is 1.

    Both by Pillow's antialiased bicubic interpolation with a = -0.5; LR is made from the HR image rounded to uint8.
    """
    hr = resize(image, data.size, data.fit)
    if data.scale == 1:
        return {"hr": np.asarray(hr)}
    lr = hr.resize((data.input_size, data.input_size), Image.Resampling.BICUBIC)
    return {"hr": np.asarray(hr), "lr": np.asarray(lr)}


def move_landmarks(annotation: pd.DataFrame, sizes: np.ndarray, data: Data) -> None:
    """Converts landmarks in place from pixels of the original images to HR pixels.

    Args:
        sizes: of the original images, (n, 2), width first.
    """
    if LANDMARKS[0] not in annotation:
        return
    side = sizes if data.fit == "stretch" else np.repeat(sizes.min(axis=1, keepdims=True), 2, axis=1)
    offset = (sizes - side) // 2  # whole pixels, as in `resize`
    points = annotation[[*LANDMARKS]].to_numpy(dtype=np.float64).reshape(len(sizes), -1, 2)
    moved = (points - offset[:, None]) * (data.size / side)[:, None]
    annotation[[*LANDMARKS]] = moved.reshape(len(sizes), -1).round(2)


def threaded(work: Callable[[str], Any], samples: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Each sample with the result of `work`, in order; on all cores, with a bounded number of results waiting.

    Threads are enough, because decoding and resizing release Python's lock, and their results need no copying.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[str, Future[Any]]] = deque()
        for sample in samples:
            waiting.append((sample, pool.submit(work, sample)))
            if len(waiting) > 16 * threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


class PartWriter:
    """Appends images to the shards of one part. Appending keeps memory constant; a memory map would not."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.images = folder, 0
        self.digest = hashlib.blake2b(digest_size=16)
        self.shards: dict[str, tuple[IO[bytes], tuple[int, ...]]] = {}  # open file and shape of an image
        folder.mkdir(parents=True)

    def add(self, arrays: dict[str, np.ndarray]) -> None:
        if self.images % SHARD == 0:
            self.close_shards()
            for name, image in arrays.items():
                file = (self.folder / f"{name}-{self.images // SHARD:03d}.npy").open("wb")
                self.shards[name] = file, image.shape
                write_header(file, (0, *image.shape))
        for name, image in arrays.items():
            self.shards[name][0].write(image.data)
            self.digest.update(image.data)
        self.images += 1

    def close_shards(self) -> None:
        for file, shape in self.shards.values():
            file.seek(0)
            write_header(file, ((self.images - 1) % SHARD + 1, *shape))
            file.close()

    def close(self, annotation: pd.DataFrame) -> dict[str, Any]:
        """Finishes the files; returns number of images, digest of images and annotation, images of each class."""
        self.close_shards()
        path = self.folder / "samples.csv"
        annotation.to_csv(path, index_label="id")
        self.digest.update(path.read_bytes())
        labels = annotation.drop(columns=[*COLUMNS], errors="ignore")
        return {"images": self.images, "blake2b": self.digest.hexdigest(), "labels": label_counts(labels)}


def write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    # numpy pads the header, so the first axis can grow without moving the data
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
