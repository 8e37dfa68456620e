import hashlib
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.sources.files import below, tarred, write
from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources import cifar10
from vitpipe.sources.torchvision import import_torchvision

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
COUNT = 12  # pictures in each; the archive is large enough to break off in


def pictures(batch: str) -> np.ndarray:
    """As in the file: rows of all red, all green and all blue pixels."""
    return np.random.default_rng(BATCHES.index(batch)).integers(0, 256, (COUNT, 3 * 32 * 32), dtype=np.uint8)


def labels(batch: str) -> list[int]:
    return [(BATCHES.index(batch) + 3 * i) % 10 for i in range(COUNT)]


FILES = {name: pickle.dumps({"data": pictures(name), "labels": labels(name)}) for name in BATCHES}
FILES["batches.meta"] = pickle.dumps({"label_names": NAMES})


OFFICIAL = below("cifar-10-batches-py", FILES | {"readme.html": b"<html>"})
ARCHIVE = tarred(OFFICIAL)


@pytest.fixture(autouse=True)
def facts(monkeypatch):
    """torchvision's class, with the sums of the small files."""
    made = import_torchvision().datasets.CIFAR10
    sums = {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(made, "train_list", [[name, sums[name]] for name in BATCHES[:5]])
    monkeypatch.setattr(made, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(made, "meta", made.meta | {"md5": sums["batches.meta"]})
    monkeypatch.setattr(made, "tgz_md5", hashlib.md5(ARCHIVE).hexdigest())
    return made


def fetch(root: Path | None, raw: Path) -> pd.DataFrame:
    raw.mkdir()
    cifar10.fetch(Data(name="cifar10", size=32, scale=1, root=root and str(root)), 0, raw)
    return cifar10.samples(raw)


def check(raw: Path, table: pd.DataFrame) -> None:
    """Every picture and label stands under its own id, and `raw` holds the seven files alone."""
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == FILES
    assert table.index.tolist() == [f"test-{i:05d}" for i in range(COUNT)] + [
        f"train-{i:05d}" for i in range(5 * COUNT)
    ]
    images = cifar10.open_images(raw)
    for part, batches in {"train": BATCHES[:5], "test": BATCHES[5:]}.items():
        rows = table[table["official"] == part]
        assert rows["label"].tolist() == [NAMES[label] for name in batches for label in labels(name)]
        planes = np.concatenate([pictures(name) for name in batches]).reshape(-1, 3, 32, 32)
        for sample, colours in zip(rows.index, planes, strict=True):
            image = images.read(sample)
            assert image.mode == "RGB"
            for channel, plane in zip(image.split(), colours, strict=True):
                assert (np.asarray(channel) == plane).all()


@pytest.mark.parametrize(
    ("where", "files"),
    [
        ("", OFFICIAL),
        ("cifar-10-batches-py", OFFICIAL),
        ("", {"cifar-10-python.tar.gz": ARCHIVE}),
        ("mine.tgz", {"mine.tgz": tarred(FILES)}),
    ],
    ids=["folder with it", "the folder", "folder with the archive", "the archive"],
)
def test_every_layout_gives_the_same_files(tmp_path, where, files):
    check(tmp_path / "raw", fetch(write(tmp_path / "root", files) / where, tmp_path / "raw"))


def test_only_the_official_pickles_are_read(tmp_path):
    """Whether another one is there from the start or replaces one later."""

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    trap = pickle.dumps(Trap())
    for name in FILES:
        root = write(tmp_path / f"root of {name}", below("cifar-10-batches-py", FILES | {name: trap}))
        with pytest.raises(InputError, match=f"{name} is damaged or not the official file: its MD5 is") as caught:
            fetch(root, tmp_path / f"raw of {name}")
        assert "\n" not in str(caught.value)
    raw = tmp_path / "raw"
    fetch(write(tmp_path / "root", FILES), raw)
    for name in FILES:
        (raw / name).write_bytes(trap)
        with pytest.raises(InputError, match="is damaged: delete it"):
            cifar10.samples(raw)
        (raw / name).write_bytes(FILES[name])
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"cat.jpg": b""}, "lacks data_batch_1: data.root must hold cifar-10-batches-py or .*data.name folder"),
        ({name: FILES[name] for name in BATCHES}, "lacks batches.meta"),
        (FILES | {"test_batch": FILES["test_batch"][:-1]}, "test_batch is damaged"),
        ({"cifar-10-python.tar.gz": ARCHIVE[: len(ARCHIVE) // 2]}, r"tar\.gz cannot be read \(.*: download or copy it"),
        ({"cifar-10-python.tar.gz": b"<html>"}, r"tar\.gz cannot be read"),
        ({"cifar-10-python.tar.gz": tarred({"a": b""})}, r"tar\.gz lacks data_batch_1"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, files, message):
    with pytest.raises(InputError, match=message) as caught:
        fetch(write(tmp_path / "root", files), tmp_path / "raw")
    assert "\n" not in str(caught.value)


def test_a_download_continues_after_a_break(tmp_path, web, facts, monkeypatch):
    monkeypatch.setattr(facts, "url", f"{web.url}/cifar-10-python.tar.gz")
    web.files = {"/cifar-10-python.tar.gz": ARCHIVE}
    web.faults = ["drop"]
    check(tmp_path / "raw", fetch(None, tmp_path / "raw"))
    assert [start for _, start in web.asked] == [0, 65_536]  # complete chunks of 64 KiB are kept
    fetch(None, tmp_path / "again")
    assert len(web.asked) == 2  # nothing is downloaded twice
