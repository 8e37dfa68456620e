"""Rendered portraits in CelebA's own layout: a sample that needs no download and no licence.

`raw` holds the files that CelebA comes in, so all that reads CelebA reads these faces: the archive of
178x218 JPEGs, attributes, landmarks, identities and official parts. Every identity has 4 to 12
pictures, all in one part; ten identities share each 80 successive pictures, of which eight are in
train, one in val and one in test. Picture i of a seed is the same however many are rendered.

The attributes in `DRAWN` are true of the pictures: 1 where it is to be seen, -1 where it is not.
All other of CelebA's 40 attributes are -1 throughout and say nothing.
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
from vitpipe.files import atomic_file
from vitpipe.progress import progress
from vitpipe.sources import LANDMARKS
from vitpipe.sources.celeba import ARCHIVE, ATTRIBUTES, IDENTITY, LANDMARK_FILE, PARTITION, open_images, samples
from vitpipe.sources.rendering.person import official_part
from vitpipe.sources.rendering.picture import Picture, render

__all__ = ["COUNT", "DRAWN", "NAMES", "fetch", "open_images", "samples"]

COUNT = 3000
"""Pictures that `data.count: null` asks for."""

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
"""The attributes that the pictures show and the labels tell."""


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Renders `data.count` faces (null: `COUNT`) on all cores and writes CelebA's five files into `raw`.

    The files are the same, byte for byte, whatever the number of cores.

    Raises:
        InputError: `data.root` is set, though there is nothing to take from anywhere, or a process that
            renders was killed.
    """
    if data.root is not None:
        raise InputError(f"data.root is {data.root!r}, but must be null with data.name faces, which are rendered")
    count = data.count or COUNT
    tables: dict[str, list[str]] = {name: [] for name in (ATTRIBUTES, LANDMARK_FILE, IDENTITY, PARTITION)}
    with (
        atomic_file(raw / ARCHIVE) as path,
        ZipFile(path, "w") as archive,
        closing(rendered(seed, count)) as pictures,
        progress(count, "rendering", "faces") as bar,
    ):
        for number, picture in enumerate(pictures, start=1):
            bar.update()
            name = f"{number:06d}.jpg"
            archive.writestr(member(f"img_align_celeba/{name}"), picture.jpeg)
            signs = [1 if picture.attributes.get(attribute) else -1 for attribute in NAMES]
            tables[ATTRIBUTES].append(" ".join([name, *(f"{sign:2d}" for sign in signs)]))
            tables[LANDMARK_FILE].append(" ".join([name, *(f"{position:3d}" for position in picture.landmarks)]))
            tables[IDENTITY].append(f"{name} {picture.identity + 1}")
            tables[PARTITION].append(f"{name} {official_part(picture.identity)}")
    heads = {ATTRIBUTES: [str(count), " ".join(NAMES) + " "], LANDMARK_FILE: [str(count), " ".join(LANDMARKS)]}
    for file, rows in tables.items():
        with atomic_file(raw / file) as path:
            path.write_text("\n".join([*heads.get(file, []), *rows]) + "\n", encoding="utf-8", newline="\n")


def rendered(seed: int, count: int) -> Generator[Picture, None, None]:
    """The pictures in order, from as many processes as there are cores to use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # fresh interpreters, as forking a process that runs threads can hang; they leave Ctrl-C to this one
    with ProcessPoolExecutor(
        cores, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        try:
            yield from pool.map(partial(render, seed), range(count), chunksize=8)
        except BrokenProcessPool:
            raise InputError("a process that rendered faces was killed, mostly for want of memory: free some") from None
        finally:
            pool.shutdown(cancel_futures=True)


def member(name: str) -> ZipInfo:
    """A zip entry, stored as it is, with nothing in it of the day or the machine."""
    info = ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o644 << 16
    return info
