"""What CIFAR-100 has of its own; the rest is tested with CIFAR-10."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.sources.files import below, tarred, write
from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources import cifar100
from vitpipe.sources.torchvision import import_torchvision

NAMES = ["apple", "aquarium_fish", "baby"]
FINE = {"train": [2, 0, 1, 1], "test": [1, 2]}


def pictures(part: str) -> np.ndarray:
    return np.random.default_rng(len(part)).integers(0, 256, (len(FINE[part]), 3 * 32 * 32), dtype=np.uint8)


def batch(part: str) -> bytes:
    entry = {"data": pictures(part), "fine_labels": FINE[part], "coarse_labels": [0] * len(FINE[part])}
    return pickle.dumps(entry)


FILES = {part: batch(part) for part in FINE}
FILES["meta"] = pickle.dumps({"fine_label_names": NAMES, "coarse_label_names": ["thing"]})
ARCHIVE = tarred(below("cifar-100-python", FILES | {"file.txt~": b""}))


@pytest.fixture(autouse=True)
def facts(monkeypatch):
    """torchvision's class, with the sums of the small files."""
    made = import_torchvision().datasets.CIFAR100
    sums = {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(made, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(made, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(made, "meta", made.meta | {"md5": sums["meta"]})
    monkeypatch.setattr(made, "tgz_md5", hashlib.md5(ARCHIVE).hexdigest())
    return made


def check(root: Path | None, raw: Path) -> None:
    """Every picture and fine label stands under its own id, and `raw` holds the three files alone."""
    raw.mkdir()
    cifar100.fetch(Data(name="cifar100", size=32, scale=1, root=root and str(root)), 0, raw)
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == FILES
    table, images = cifar100.samples(raw), cifar100.open_images(raw)
    assert table.index.tolist() == [f"{part}-{i:05d}" for part in ("test", "train") for i in range(len(FINE[part]))]
    for part, labels in FINE.items():
        rows = table[table["official"] == part]
        assert rows["label"].tolist() == [NAMES[label] for label in labels]
        for name, planes in zip(rows.index, pictures(part).reshape(-1, 3, 32, 32), strict=True):
            assert (np.asarray(images.read(name)) == planes.transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    "files",
    [below("cifar-100-python", FILES), FILES, {"cifar-100-python.tar.gz": ARCHIVE}],
    ids=["torchvision", "the folder", "archive"],
)
def test_every_layout_gives_the_same_files(tmp_path, files):
    check(write(tmp_path / "root", files), tmp_path / "raw")


def test_the_official_archive_is_downloaded(tmp_path, web, facts, monkeypatch):
    monkeypatch.setattr(facts, "url", f"{web.url}/cifar-100-python.tar.gz")
    web.files = {"/cifar-100-python.tar.gz": ARCHIVE}
    check(None, tmp_path / "raw")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (below("cifar-10-batches-py", FILES | {"train": b"x"}), "train is damaged or not the official file"),
        ({"cat.jpg": b""}, "lacks train: data.root must hold cifar-100-python or cifar-100-python.tar.gz"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, files, message):
    with pytest.raises(InputError, match=message) as caught:
        check(write(tmp_path / "root", files), tmp_path / "raw")
    assert "\n" not in str(caught.value)


def test_a_damaged_copy_is_told_by_name(tmp_path):
    check(write(tmp_path / "root", FILES), tmp_path / "raw")
    (tmp_path / "raw" / "train").write_bytes(b"x")
    with pytest.raises(InputError, match="is damaged: delete it, then run again to fetch CIFAR100 anew"):
        cifar100.samples(tmp_path / "raw")
