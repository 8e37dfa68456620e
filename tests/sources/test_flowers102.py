import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from tests.sources.files import below, picture, tarred, write, zipped
from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources import flowers102
from vitpipe.sources.torchvision import import_torchvision

PARTS = {"train": [2, 5], "val": [6, 1], "test": [3, 7]}  # the official order is none; picture 4 is in no part
LABELS = [102, 1, 2, 1, 1, 102, 2]
NAMES = {1: "pink primrose", 2: "hard-leaved pocket orchid", 102: "blackberry lily"}


def mat(**arrays: list[int]) -> bytes:
    """A file of Matlab with one row for each array, as the official ones."""
    buffer = io.BytesIO()
    savemat(buffer, {name: np.array([values], np.uint16) for name, values in arrays.items()})
    return buffer.getvalue()


def sample(number: int) -> str:
    return f"image_{number:05d}.jpg"


ANNOTATION = {
    "imagelabels.mat": mat(labels=LABELS),
    "setid.mat": mat(trnid=PARTS["train"], valid=PARTS["val"], tstid=PARTS["test"]),
}
PICTURES = {f"jpg/{sample(number)}": picture(30 * number, kind="JPEG") for number in range(1, 8)}
ARCHIVE = {"102flowers.tgz": tarred(PICTURES)}


@pytest.fixture(autouse=True)
def facts(monkeypatch):
    """torchvision's class, with the sums of the small files."""
    made = import_torchvision().datasets.Flowers102
    files = ANNOTATION | ARCHIVE
    sums = {kind: (name, hashlib.md5(files[name]).hexdigest()) for kind, (name, _) in made._file_dict.items()}
    monkeypatch.setattr(made, "_file_dict", sums)
    return made


def fetch(root: Path | None, raw: Path) -> pd.DataFrame:
    raw.mkdir()
    flowers102.fetch(Data(name="flowers102", size=48, scale=1, root=root and str(root)), 0, raw)
    return flowers102.samples(raw)


def check(raw: Path, table: pd.DataFrame) -> None:
    """Every picture and label stands under its own id, and `raw` holds no other picture."""
    assert {path.name for path in raw.iterdir()} == {"images.zip", *ANNOTATION}
    part_of = {number: part for part, numbers in PARTS.items() for number in numbers}
    assert table.index.tolist() == [sample(number) for number in sorted(part_of)]
    assert table["official"].tolist() == [part_of[number] for number in sorted(part_of)]
    assert table["label"].tolist() == [NAMES[LABELS[number - 1]] for number in sorted(part_of)]
    images = flowers102.open_images(raw)
    assert images.members.keys() == set(table.index)
    for number in part_of:
        assert images.read(sample(number)).getpixel((9, 9)) == (30 * number,) * 3


@pytest.mark.parametrize(
    ("where", "files"),
    [
        ("", below("flowers-102", PICTURES | ANNOTATION)),
        ("flowers-102", below("flowers-102", PICTURES | ANNOTATION)),
        ("", below("flowers-102", PICTURES | ANNOTATION | ARCHIVE)),
        ("", ARCHIVE | ANNOTATION),
        ("flowers.zip", {"flowers.zip": zipped(PICTURES | ANNOTATION)}),
    ],
    ids=["torchvision", "the folder", "both", "archive", "zip"],
)
def test_every_layout_gives_the_same_files(tmp_path, where, files):
    check(tmp_path / "raw", fetch(write(tmp_path / "root", files) / where, tmp_path / "raw"))


def test_missing_pictures_are_counted_once(tmp_path, capsys):
    some = {name: PICTURES[name] for name in list(PICTURES)[:3]}
    table = fetch(write(tmp_path / "root", some | ANNOTATION), tmp_path / "raw")
    assert table.index.tolist() == [sample(1), sample(2), sample(3)]
    assert capsys.readouterr().out.count("3 of 6 listed pictures are not in") == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"lacks imagelabels.mat: data.root must hold flowers-102, or jpg/ or 102flowers.tgz beside imagelabels"),
        (PICTURES | {"imagelabels.mat": ANNOTATION["imagelabels.mat"]}, "lacks setid.mat"),
        (PICTURES | ANNOTATION | {"setid.mat": mat(trnid=[1])}, "setid.mat is damaged or not the official file"),
        (ANNOTATION, f"none of the 6 pictures of data.name flowers102, such as {sample(1)}, and no 102flowers.tgz"),
        (ANNOTATION | {"102flowers.tgz": b"<html>"}, r"102flowers\.tgz cannot be read"),
    ],
)
def test_bad_data_sets_are_refused_in_one_line(tmp_path, files, message):
    with pytest.raises(InputError, match=message) as caught:
        fetch(write(tmp_path / "root", files), tmp_path / "raw")
    assert "\n" not in str(caught.value)


def test_a_torchvision_that_does_not_name_the_classes_is_told(tmp_path, facts, monkeypatch):
    monkeypatch.delattr(facts, "classes")
    with pytest.raises(InputError, match=r"needs the names of classes that torchvision 0\.22 brings"):
        fetch(None, tmp_path / "raw")


def test_the_official_files_are_downloaded_once(tmp_path, web, facts, monkeypatch):
    monkeypatch.setattr(facts, "_download_url_prefix", f"{web.url}/")
    web.files = {f"/{name}": content for name, content in (ANNOTATION | ARCHIVE).items()}
    web.faults = ["503"]
    check(tmp_path / "raw", fetch(None, tmp_path / "raw"))
    check(tmp_path / "again", fetch(None, tmp_path / "again"))
    assert len(web.asked) == 3 + 1
    (tmp_path / ".resume" / "downloads").rename(tmp_path / "kept")
    web.faults = ["garbage"]
    with pytest.raises(InputError, match=r"102flowers\.tgz came with MD5"):
        fetch(None, tmp_path / "other")
