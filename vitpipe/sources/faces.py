"""Rendered portraits in CelebA's own layout: a sample that needs no download and no licence.

`raw` holds the same files as for CelebA, so the functions that read CelebA also read these faces: the archive of
178x218 JPEGs, attributes, landmarks, identities and official parts. Every identity has 4 to 12 pictures, all in one
part. Each 80 successive pictures show ten identities, of which eight are in train, one in val and one in test.
Picture i depends on the seed and i alone, not on the number of pictures.

The attributes in `DRAWN` describe the pictures: 1 where the attribute is visible, -1 where it is not. The others of
CelebA's 40 attributes are always -1 and mean nothing.
"""

import os
import signal
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.progress import progress
from vitpipe.sources import LANDMARKS
from vitpipe.sources.celeba import ARCHIVE, ATTRIBUTES, IDENTITY, LANDMARK_FILE, PARTITION, open_images, samples
from vitpipe.sources.rendering.person import official_part
from vitpipe.sources.rendering.picture import Picture, render

__all__ = ["COUNT", "DRAWN", "NAMES", "fetch", "open_images", "samples"]

COUNT = 3000
"""Number of pictures where `data.count` is null."""

NAMES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry
Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
Wearing_Necktie Young
""".split()  # noqa: SIM905
"""CelebA's 40 attributes in its order."""

UNDRAWN = ("Attractive", "Blurry", "Chubby", "Double_Chin", "High_Cheekbones", "Oval_Face", "Pale_Skin", "Pointy_Nose")
DRAWN = tuple(name for name in NAMES if name not in UNDRAWN)
"""The attributes that the pictures show."""


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Renders `data.count` faces (null: `COUNT`) on all cores and writes CelebA's five files into `raw`.

    The files do not depend on the number of cores, byte for byte.

    Raises:
        InputError: `data.root` is set, but the faces are not read from a folder; or a rendering process was killed.
    """
    if data.root is not None:
        raise InputError(f"data.root is {data.root!r}, but must be null with data.name faces, which are rendered")
    count = data.count or COUNT
    tables: dict[str, list[str]] = {name: [] for name in (ATTRIBUTES, LANDMARK_FILE, IDENTITY, PARTITION)}
    with (
        ZipFile(raw / ARCHIVE, "w") as archive,
        closing(rendered(seed, count)) as pictures,
        progress(count, "rendering", "faces") as bar,
    ):
        for number, picture in enumerate(pictures, start=1):
            bar.update()
            name = f"{number:06d}.jpg"
            info = ZipInfo(f"img_align_celeba/{name}")
            info.external_attr = 0o644 << 16
            archive.writestr(info, picture.jpeg)
            signs = [1 if picture.attributes.get(attribute) else -1 for attribute in NAMES]
            tables[ATTRIBUTES].append(" ".join([name, *(f"{sign:2d}" for sign in signs)]))
            tables[LANDMARK_FILE].append(" ".join([name, *(f"{position:3d}" for position in picture.landmarks)]))
            tables[IDENTITY].append(f"{name} {picture.identity + 1}")
            tables[PARTITION].append(f"{name} {official_part(picture.identity)}")
    heads = {ATTRIBUTES: [str(count), " ".join(NAMES) + " "], LANDMARK_FILE: [str(count), " ".join(LANDMARKS)]}
    for file, rows in tables.items():
        (raw / file).write_text("\n".join([*heads.get(file, []), *rows, ""]), encoding="utf-8")


def rendered(seed: int, count: int) -> Generator[Picture, None, None]:
    """The pictures in order, rendered by one process for each available core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # spawned, because forking a process with threads can hang; Ctrl-C is left to this process
    with ProcessPoolExecutor(
        cores, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        try:
            yield from pool.map(partial(render, seed), range(count), chunksize=8)
        except BrokenProcessPool:
            raise InputError(
                "a process that renders faces was killed, probably for lack of memory: free some"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
