import gzip
import hashlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.sources.files import below, write, write_zip
from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources import mnist
from vitpipe.sources.torchvision import import_torchvision

COUNTS = {"train": 30, "test": 12}
SIZE = (5, 4)  # rows and columns differ, so that they cannot be confused


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def pictures(part: str) -> np.ndarray:
    return np.random.default_rng(len(part)).integers(0, 256, (COUNTS[part], *SIZE), dtype=np.uint8)


def labels(part: str) -> np.ndarray:
    return (np.arange(COUNTS[part], dtype=np.uint8) * 3 + len(part)) % 10


FILES = {mnist.IMAGES[part]: idx(pictures(part)) for part in COUNTS}
FILES |= {mnist.LABELS[part]: idx(labels(part)) for part in COUNTS}
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in FILES.items()}
KAGGLE = {name.replace("-idx", ".idx"): content for name, content in FILES.items()}


@pytest.fixture(autouse=True)
def facts(request, monkeypatch):
    """torchvision's class; the sums are those of the small files, except in tests on real data."""
    if request.node.get_closest_marker("real"):
        return import_torchvision().datasets.MNIST
    monkeypatch.setattr(mnist, "SUMS", {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()})
    made = import_torchvision().datasets.MNIST
    sums = [(name, hashlib.md5(PACKED[name]).hexdigest()) for name, _ in made.resources]
    monkeypatch.setattr(made, "resources", sums)
    return made


def fetch(root: Path | None, raw: Path) -> pd.DataFrame:
    raw.mkdir()
    mnist.fetch(Data(name="mnist", size=28, scale=1, root=root and str(root)), 0, raw)
    return mnist.samples(raw)


def check(raw: Path, table: pd.DataFrame) -> None:
    """Every picture and label stands under its own id, and `raw` holds the plain files alone."""
    assert table.index.tolist() == [f"{part}-{i:05d}" for part in ("test", "train") for i in range(COUNTS[part])]
    images = mnist.open_images(raw)
    for part in COUNTS:
        rows = table[table["official"] == part]
        assert rows["label"].tolist() == [str(label) for label in labels(part)]
        for i, sample in enumerate(rows.index):
            image = images.read(sample)
            assert image.mode == "RGB"
            assert (np.asarray(image) == pictures(part)[i][..., None]).all()
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == FILES


@pytest.mark.parametrize(
    "files",
    [
        below("MNIST/raw", FILES),
        below("MNIST/raw", FILES | PACKED) | below("FashionMNIST/raw", dict.fromkeys(FILES, b"other")),
        below("raw", PACKED),
        below("./raw", FILES),
        {f"raw\\{name}": content for name, content in FILES.items()},
        FILES,
        PACKED,
        KAGGLE,
        dict(list(FILES.items())[:2]) | dict(list(PACKED.items())[2:]),
        FILES | dict.fromkeys(PACKED, b"broken off"),
    ],
    ids=[
        "torchvision",
        "torchvision, both",
        "raw, gz",
        "dot",
        "backslash",
        "loose",
        "loose, gz",
        "kaggle",
        "mixed",
        "one is whole",
    ],
)
@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_every_layout_gives_the_same_files(tmp_path, files, zipped):
    root = write_zip(tmp_path / "mnist.zip", files) if zipped else write(tmp_path / "root", files)
    check(tmp_path / "raw", fetch(root, tmp_path / "raw"))


WHOLE = FILES[mnist.IMAGES["train"]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "lacks train-images-idx3-ubyte: data.root must hold MNIST's four idx files"),
        ({name: FILES[name] for name in list(FILES)[1:]}, "lacks train-images-idx3-ubyte: "),
        (FILES | {mnist.IMAGES["train"]: WHOLE[:-1]}, "idx3-ubyte is damaged or not the official file: its MD5 is"),
        (PACKED | {f"{mnist.LABELS['test']}.gz": b"<html>"}, r"ubyte\.gz cannot be read \(Not a gzipped file"),
        (PACKED | {f"{mnist.LABELS['test']}.gz": PACKED[f"{mnist.LABELS['test']}.gz"][:-9]}, "cannot be read"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, files, message):
    root = write(tmp_path / "root", files)
    with pytest.raises(InputError, match=message) as caught:
        fetch(root, tmp_path / "raw")
    assert "\n" not in str(caught.value)


def test_a_download_continues_after_a_break(tmp_path, web, facts, monkeypatch):
    monkeypatch.setattr(facts, "mirrors", [f"{web.url}/mnist/"])
    web.files = {f"/mnist/{name}": content for name, content in PACKED.items()}
    web.faults = ["drop"]
    check(tmp_path / "raw", fetch(None, tmp_path / "raw"))
    assert len(web.asked) == 4 + 1
    fetch(None, tmp_path / "again")
    assert len(web.asked) == 4 + 1  # nothing is downloaded twice


@pytest.mark.real
@pytest.mark.parametrize("folder", ["", "MNIST", "MNIST/raw"])
def test_real_mnist(real_data, tmp_path, folder):
    table = fetch(real_data / folder, tmp_path / "raw")
    assert table.groupby("official").size().to_dict() == {"test": 10_000, "train": 60_000}
    assert table.loc["train-00000":"train-00002", "label"].tolist() == ["5", "0", "4"]
    assert table.loc["test-00000":"test-00002", "label"].tolist() == ["7", "2", "1"]
    assert table[table["official"] == "train"].groupby("label").size().loc[["0", "1"]].tolist() == [5923, 6742]


@pytest.mark.real
def test_real_pictures_are_those_of_torchvision(real_data, tmp_path, facts):
    shutil.copytree(real_data / "MNIST", tmp_path / "MNIST")
    table = fetch(tmp_path, tmp_path / "raw")
    images = mnist.open_images(tmp_path / "raw")
    for part in ("train", "test"):
        official = facts(tmp_path, train=part == "train", download=False)
        assert table.loc[table["official"] == part, "label"].astype(int).tolist() == official.targets.tolist()
        for number in (0, 1, 9_999):
            assert np.asarray(images.read(f"{part}-{number:05d}"))[..., 0].tolist() == official.data[number].tolist()
