"""Peak memory of split, downsample and the training input against the number of images.

The images are CelebA's or the built-in ones, repeated under new names until they are enough, with annotation in
CelebA's layout: what a process keeps of an image is the same whether it was seen before.
"""

import shutil
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from benchmarks.apart import apart
from benchmarks.machine import cores
from benchmarks.peaks import PROCESSES
from vitpipe.config import Data
from vitpipe.sources.archive import open_zip
from vitpipe.sources import LANDMARKS, celeba
from vitpipe.sources.faces import NAMES
from vitpipe.files import atomic_file
from vitpipe.progress import progress

FULL, SMALL = Data(name="celeba"), Data(name="celeba", size=48)  # SMALL: a size at which 200,000 images take a minute


def growth(folder: Path, counts: Sequence[int]) -> dict[str, Any]:
    """Peak MB of each process at each count.

    Args:
        folder: with `raw`, the images to repeat; what is made is removed again.
        counts: numbers of images, ascending.

    Returns:
        `rows`: size, scale, images, and of each of `PROCESSES` the peak in MB. All counts at `SMALL`, and
        the two smallest at full size, where an image has 16 times as many bytes.
    """
    sizes = [(count, SMALL) for count in counts] + [(count, FULL) for count in counts[:2]]
    rows = []
    with progress(len(sizes), "memory", "count") as bar:
        for count, data in sizes:
            place = folder / "many"
            repeat(folder / "raw", count, place / "raw")
            row = {"size": data.size, "scale": data.scale, "images": count}
            for name, work in PROCESSES.items():
                row[name] = round(apart(work, place, data, cores=cores()), 1)
            shutil.rmtree(place)
            rows.append(row)
            bar.update()
    return {"rows": rows}


def repeat(raw: Path, count: int, target: Path) -> None:
    """A `raw` folder of so many pictures in CelebA's layout, with attributes, landmarks, identities and parts."""
    target.mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, count + 1)]
    with open_zip(raw / celeba.ARCHIVE) as archive, ZipFile(target / celeba.ARCHIVE, "w") as made:
        pictures = [archive.read(member) for member in islice(celeba.members(archive).values(), 1000)]
        for name, picture in zip(names, cycle(pictures), strict=False):
            made.writestr(f"img_align_celeba/{name}", picture)
    landmarks = " ".join(f"{round(value):3d}" for value in celeba.MEAN_LANDMARKS)
    attributes = " ".join("-1" for _ in NAMES)
    heads = {celeba.ATTRIBUTES: [str(count), " ".join(NAMES)], celeba.LANDMARK_FILE: [str(count), " ".join(LANDMARKS)]}
    said = {
        celeba.ATTRIBUTES: lambda number: attributes,
        celeba.LANDMARK_FILE: lambda number: landmarks,
        celeba.IDENTITY: lambda number: number // 20 + 1,
        celeba.PARTITION: lambda number: (0, 0, 0, 0, 0, 0, 0, 0, 1, 2)[number % 10],
    }
    for file, say in said.items():
        rows = [f"{name} {say(number)}" for number, name in enumerate(names)]
        with atomic_file(target / file) as path:
            path.write_text("\n".join([*heads.get(file, []), *rows]) + "\n")
