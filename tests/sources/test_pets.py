import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.sources.files import below, encrypted, picture, tarred, write, write_zip, zipped
from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources import pets
from vitpipe.sources.torchvision import import_torchvision

ROWS = {
    "annotations/trainval.txt": ["Abyssinian_100 1 1 1", "american_bulldog_9 2 2 1", "yorkshire_terrier_1 37 2 25"],
    "annotations/test.txt": ["Abyssinian_5 1 1 1", "american_bulldog_10 2 2 1"],
}
LISTS = {name: "".join(f"{row}\n" for row in rows) for name, rows in ROWS.items()}
SHADES = {"Abyssinian_100": 10, "Abyssinian_5": 60, "american_bulldog_10": 110, "american_bulldog_9": 160}
SHADES["yorkshire_terrier_1"] = 210


def png_with_alpha(shade: int) -> bytes:
    """Named .jpg, as some of the official files: opaque on the left, transparent on the right."""
    buffer = io.BytesIO()
    layer = np.full((150, 200, 4), shade, np.uint8)
    layer[:, :100, 3], layer[:, 100:, 3] = 255, 0
    Image.fromarray(layer).save(buffer, "PNG")
    return buffer.getvalue()


def noise() -> bytes:
    """A large file, so that the archive is long enough to break off in."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = {f"images/{name}.jpg": picture(shade, (200, 150), "JPEG") for name, shade in SHADES.items()}
PICTURES["images/Abyssinian_5.jpg"] = png_with_alpha(60)
UNLISTED = {"images/Abyssinian_101.mat": b"", "images/Bengal_1.jpg": noise(), "images/._Abyssinian_5.jpg": b"junk"}
MORE = {"annotations/trimaps/Abyssinian_5.png": b"", "annotations/list.txt": b"# image class species breed\n"}
IMAGES = PICTURES | UNLISTED
ANNOTATIONS = {name: text.encode() for name, text in LISTS.items()} | MORE
OFFICIAL = IMAGES | ANNOTATIONS
ARCHIVES = {"images.tar.gz": tarred(dict(reversed(IMAGES.items()))), "annotations.tar.gz": tarred(ANNOTATIONS)}


def fetch(root: Path | None, raw: Path, size: int = 64) -> pd.DataFrame:
    raw.mkdir()
    pets.fetch(Data(name="pets", size=size, scale=1, root=root and str(root)), 0, raw)
    return pets.samples(raw)


def check(raw: Path, table: pd.DataFrame) -> None:
    """Every picture and label stands under its own id, and `raw` holds no other picture."""
    assert {path.name for path in raw.iterdir()} == {"images.zip", "trainval.txt", "test.txt"}
    assert table.index.tolist() == [f"{name}.jpg" for name in SHADES]
    assert table["official"].tolist() == ["train", "test", "test", "train", "train"]
    assert table["label"].tolist() == [*["Abyssinian"] * 2, *["American Bulldog"] * 2, "Yorkshire Terrier"]
    assert table["species"].tolist() == ["cat", "cat", "dog", "dog", "dog"]
    images = pets.open_images(raw)
    assert images.members.keys() == set(table.index)
    for sample, shade in zip(table.index, SHADES.values(), strict=True):
        image = images.read(sample)
        assert (image.mode, image.size) == ("RGB", (200, 150))
        assert image.getpixel((20, 20)) == (shade, shade, shade)
    assert images.read("Abyssinian_5.jpg").getpixel((180, 20)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("where", "files"),
    [
        ("", below("oxford-iiit-pet", OFFICIAL) | {"other/test.txt": b"", "other/Abyssinian_5.jpg": b""}),
        ("oxford-iiit-pet", below("oxford-iiit-pet", OFFICIAL)),
        ("", OFFICIAL),
        ("", below("images", IMAGES) | below("annotations", ANNOTATIONS)),
        ("", ARCHIVES),
        ("", below("oxford-iiit-pet", ARCHIVES)),
        ("", below("oxford-iiit-pet", OFFICIAL | ARCHIVES)),
        ("", IMAGES | {"annotations.tar.gz": ARCHIVES["annotations.tar.gz"]}),
        ("pets.zip", {"pets.zip": zipped(OFFICIAL)}),
    ],
    ids=["torchvision", "the folder", "two folders", "nested", "archives", "archives inside", "both", "mixed", "zip"],
)
def test_every_layout_gives_the_same_files(tmp_path, where, files, capsys):
    check(tmp_path / "raw", fetch(write(tmp_path / "root", files) / where, tmp_path / "raw"))
    assert "pictures" not in capsys.readouterr().out  # none is missing or small
    fetch(write(tmp_path / "plain", OFFICIAL), tmp_path / "again")
    for path in (tmp_path / "raw").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.parametrize("archived", [False, True])
def test_missing_and_small_pictures_are_counted_once(tmp_path, capsys, archived):
    some = {name: PICTURES[name] for name in list(PICTURES)[1:4]} | {"images/Abyssinian_5.jpg": picture(0, (64, 48))}
    files = {"images.tar.gz": tarred(some)} if archived else some
    root = write(tmp_path / "root", files | LISTS)
    table = fetch(root, tmp_path / "raw")
    assert table.index.tolist() == ["Abyssinian_5.jpg", "american_bulldog_10.jpg", "american_bulldog_9.jpg"]
    out = capsys.readouterr().out
    assert f"2 of 5 listed pictures are not in {root}: the others are taken\n" in out
    assert "1 of 3 pictures are smaller than data.size 64 and will be enlarged\n" in out


TRAINVAL, TEST = LISTS


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"lacks trainval.txt: data.root must hold oxford-iiit-pet, or images/ and annotations/, or images.tar.gz"),
        (IMAGES | {TRAINVAL: LISTS[TRAINVAL]}, "lacks test.txt"),
        (IMAGES | {"annotations.tar.gz": tarred({})}, r"annotations\.tar\.gz lacks trainval.txt"),
        (IMAGES | {"annotations.tar.gz": b"<html>"}, r"annotations\.tar\.gz cannot be read \(.*download or copy it"),
        (OFFICIAL | {"old/test.txt": b""}, "test.txt twice, as annotations/test.txt and old/test.txt: keep one"),
        (OFFICIAL | {TEST: b""}, "test.txt names no picture"),
        (OFFICIAL | {TEST: LISTS[TRAINVAL]}, "test.txt lists Abyssinian_100 in line 1, but it is listed before"),
        (OFFICIAL | {TEST: b"Abyssinian_5 1 1\n"}, "test.txt is no list .* line 1 is 'Abyssinian_5 1 1', not like 'Ab"),
        (OFFICIAL | {TEST: "Abyssinian_5 1 3 1\n"}, "line 1 is 'Abyssinian_5 1 3 1'"),
        (OFFICIAL | {TEST: "../../a_5 1 1 1\n"}, "line 1 is '../../a_5 1 1 1'"),
        (OFFICIAL | {TEST: b"\xff\xfe\x00"}, "test.txt is no list"),
        (LISTS, "none of the 5 pictures of data.name pets, such as Abyssinian_100.jpg, and no images.tar.gz with them"),
        (LISTS | UNLISTED, "none of the 5 pictures"),
        (LISTS | {"images.tar.gz": tarred(UNLISTED)}, "none of the 5 pictures"),
        (LISTS | {"images.tar.gz": ARCHIVES["images.tar.gz"][:9000]}, r"images\.tar\.gz cannot be read"),
        (OFFICIAL | {"old/Abyssinian_5.jpg": b""}, "Abyssinian_5.jpg twice, as"),
        (OFFICIAL | {"images/Abyssinian_5.jpg": b"<html>"}, "1 of 5 pictures .* is no picture in a known format"),
    ],
)
def test_bad_data_sets_are_refused_in_one_line(tmp_path, files, message):
    with pytest.raises(InputError, match=message) as caught:
        fetch(write(tmp_path / "root", files), tmp_path / "raw")
    assert "\n" not in str(caught.value)


def test_encrypted_list_is_said(tmp_path):
    path = write_zip(tmp_path / "pets.zip", OFFICIAL)
    path.write_bytes(encrypted(path.read_bytes(), "annotations/test.txt"))
    with pytest.raises(InputError, match=r"pets.zip/annotations/test.txt cannot be read \(.*encrypted"):
        fetch(path, tmp_path / "raw")


@pytest.fixture
def served(web, monkeypatch):
    """The server holds the two archives, and torchvision's class their addresses and sums."""
    made = import_torchvision().datasets.OxfordIIITPet
    sums = {name: hashlib.md5(content).hexdigest() for name, content in ARCHIVES.items()}
    assert [url.rpartition("/")[2] for url, _ in made._RESOURCES] == list(sums)
    monkeypatch.setattr(made, "_RESOURCES", [(f"{web.url}/{name}", md5) for name, md5 in sums.items()])
    web.files = {f"/{name}": content for name, content in ARCHIVES.items()}
    return web


def test_a_download_continues_after_a_break(tmp_path, served):
    served.faults = ["drop"]
    check(tmp_path / "raw", fetch(None, tmp_path / "raw"))
    assert served.asked == [("/images.tar.gz", 0), ("/images.tar.gz", 65_536), ("/annotations.tar.gz", 0)]
    check(tmp_path / "again", fetch(None, tmp_path / "again"))
    assert len(served.asked) == 3  # nothing is downloaded twice


def test_a_download_with_another_sum_is_refused(tmp_path, served):
    served.faults = ["garbage"]
    with pytest.raises(InputError, match=r"images\.tar\.gz came with MD5 \w+ instead of \w+: run again, or") as caught:
        fetch(None, tmp_path / "raw")
    assert "\n" not in str(caught.value)


@pytest.mark.real
@pytest.mark.parametrize("folder", ["", "oxford-iiit-pet"])
def test_real_pets(real_data, tmp_path, folder, capsys):
    table = fetch(real_data / folder, tmp_path / "raw", size=192)
    assert "19 of 1089 pictures are smaller than data.size 192 and will be enlarged" in capsys.readouterr().out
    assert table["official"].value_counts().to_dict() == {"train": 733, "test": 356}
    assert table["species"].value_counts().to_dict() == {"cat": 576, "dog": 513}
    assert table.groupby("official")["label"].nunique().to_dict() == {"test": 25, "train": 37}
    rows = [line.split() for name in pets.LISTS for line in (tmp_path / "raw" / name).read_text().splitlines()]
    names = sorted(set(table["label"]))  # the pipeline's order of classes is the official one
    assert {f"{row[0]}.jpg": names[int(row[1]) - 1] for row in rows} == table["label"].to_dict()
    images = pets.open_images(tmp_path / "raw")
    with Image.open(real_data / "oxford-iiit-pet" / "images" / "Abyssinian_5.jpg") as image:
        assert (image.format, image.mode) == ("PNG", "RGBA")
        assert images.read("Abyssinian_5.jpg").tobytes() == image.convert("RGB").tobytes()
    assert {images.read(name).mode for name in table.index[::50]} == {"RGB"}


@pytest.mark.real
def test_real_labels_are_those_of_torchvision(real_data, tmp_path):
    table = fetch(real_data, tmp_path / "raw")
    official = import_torchvision().datasets.OxfordIIITPet(real_data, "trainval", ["category", "binary-category"])
    rows = table.loc[[path.name for path in official._images]]
    assert (rows["official"] == "train").all()
    assert rows["label"].tolist() == [official.classes[label] for label in official._labels]
    assert rows["species"].tolist() == [official.bin_classes[label].lower() for label in official._bin_labels]
