"""CIFAR-10: 50,000 + 10,000 photographs of 32x32 pixels in ten classes.

Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009. `raw` holds the seven files of the
official archive, the same whichever way they came. They are pickles, which can run any code when they are
read: only files with torchvision's MD5 sums get into `raw`, and torchvision checks them again before it reads.
"""

import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources.archive import LARGEST_MEMBER, UNREADABLE, resolve_root, why_unreadable
from vitpipe.sources.arrays import ArrayImages, official_table, require_side


def fetch(data: Data, seed: int, raw: Path) -> None:
    """Fills `raw` from `data.root`, or downloads the official archive where that is null.

    `data.root` is `cifar-10-python.tar.gz` or the folder `cifar-10-batches-py`, or a folder with either.

    Raises:
        InputError: files are missing, damaged or not the official ones, or cannot be downloaded.
    """
    require_side(data, 32)
    if data.root is None:
        download_official(raw)
    else:
        take(resolve_root(data.root), raw)


def samples(raw: Path) -> pd.DataFrame:
    """One row per picture, indexed by ids such as `train-00000`, sorted.

    Columns: `official`: train or test; `label`: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
    """
    parts = read(raw)
    return official_table({part: [files.classes[label] for label in files.targets] for part, files in parts.items()})


def open_images(raw: Path) -> ArrayImages:
    """The pictures by id, 184 MB in memory."""
    return ArrayImages({part: files.data for part, files in read(raw).items()})


def torchvision_cifar10() -> Any:
    """torchvision's class, which lists the archive's address and the files, both with their MD5 sums."""
    from vitpipe.sources.torchvision import import_torchvision

    import_torchvision()
    from torchvision.datasets import CIFAR10

    return CIFAR10


def read(raw: Path) -> dict[str, Any]:
    """torchvision's data sets by part: `data` uint8 (n, 32, 32, 3), `targets`, `classes`."""

    class Loose(torchvision_cifar10()):  # type: ignore[misc]
        base_folder = ""  # no folder around the files in `raw`

    try:
        return {part: Loose(raw, train=part == "train", download=False) for part in ("train", "test")}
    except RuntimeError:  # it found another MD5 sum
        raise InputError(f"{raw} is damaged: delete it, then run again to fetch CIFAR-10 anew") from None


def download_official(raw: Path) -> None:
    """Downloads the archive and unpacks it."""
    from vitpipe.sources.download import download

    facts = torchvision_cifar10()
    archive = raw / facts.filename
    download(facts.url, archive, facts.tgz_md5)
    take(archive, raw)
    archive.unlink()


def take(root: Path, raw: Path) -> None:
    """Copies the seven files from `root`, an archive or folder, and checks them."""
    from vitpipe.sources.download import md5_of

    facts = torchvision_cifar10()
    sums = dict([*facts.train_list, *facts.test_list, (facts.meta["filename"], facts.meta["md5"])])
    folders = (root / facts.base_folder, root)
    folder = next((folder for folder in folders if any((folder / name).is_file() for name in sums)), None)
    archive = root if root.is_file() else root / facts.filename
    if folder is None and not archive.is_file():
        raise InputError(
            f"{root} holds neither {facts.base_folder} nor {facts.filename}: let data.root point at one of them "
            "(pictures in class folders are for data.name folder)"
        )
    place = folder or archive
    try:
        if folder is None:
            unpack(archive, set(sums), raw)
        else:
            for name in sums:
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, raw / name)
    except (tarfile.TarError, *UNREADABLE) as error:
        raise InputError(f"{place} {why_unreadable(error)}: download {facts.filename} again") from None
    for name, md5 in sums.items():
        if not (raw / name).exists():
            raise InputError(f"{place} lacks {name}: download {facts.filename} again")
        if (found := md5_of(raw / name)) != md5:
            raise InputError(f"{name} in {place} is not CIFAR-10's, or damaged: its MD5 is {found} instead of {md5}")


def unpack(archive: Path, names: set[str], raw: Path) -> None:
    """Writes the archive's files with these names into `raw`, wherever in the archive they lie, and nothing else."""
    with tarfile.open(archive) as content:
        for member in content:
            name = PurePosixPath(member.name).name
            if name in names and member.isfile() and member.size <= LARGEST_MEMBER:
                source = content.extractfile(member)
                assert source is not None, "regular files have content"
                with source, (raw / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
