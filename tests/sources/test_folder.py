import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, features

from tests.sources.files import encrypted, picture, write, write_zip
from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources import folder

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def fetch(root: Path, raw: Path, size: int = 48) -> pd.DataFrame:
    raw.mkdir()
    folder.fetch(Data(name="folder", root=str(root), size=size), 0, raw)
    return folder.samples(raw)


def values(table: pd.DataFrame, column: str) -> list[str | None] | None:
    """A column's values, None for missing ones; None where there is no such column."""
    return table[column].astype(object).where(table[column].notna(), None).tolist() if column in table else None


@pytest.fixture(params=[write, write_zip], ids=["folder", "zip"])
def make(request, tmp_path):
    return lambda files: request.param(tmp_path / ("root" if request.param is write else "root.zip"), files)


def test_pictures_come_in_by_path_and_the_rest_is_ignored(make, tmp_path, capsys):
    root = make(
        {
            "b.PNG": picture(2),
            "a.jpeg": picture(1, kind="JPEG"),
            "deep/er/c.webp": picture(3, kind="WEBP"),
            "Screenshot 3.15.00\u202fPM.png": picture(0, size=(48, 200)),  # a name as macOS gives
            "notes.txt": b"",
            "Thumbs.db": b"",
            "more.zip": b"",
            ".hidden.png": b"",
            "__MACOSX/a.jpeg": b"",
            ".git/a.png": b"",
        }
    )
    table = fetch(root, tmp_path / "raw")
    assert table.index.tolist() == ["Screenshot 3.15.00\u202fPM.png", "a.jpeg", "b.PNG", "deep/er/c.webp"]
    assert table.columns.tolist() == []
    images = folder.open_images(tmp_path / "raw")
    assert [images.read(name).getpixel((0, 0))[0] for name in table.index] == [0, 1, 2, 3]
    out = capsys.readouterr().out
    assert "4 pictures" in out
    assert "3 other files ignored, with ending .db, .txt, .zip" in out
    assert not (tmp_path / "raw" / "rejects.csv").exists()


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cat/1.png", "cat/2.png", "dog/1.png"], ["cat", "cat", "dog"]),
        (["pets/cat/1.png", "pets/dog/deep/1.png"], ["cat", "dog"]),  # a folder around everything is no label
        (["cat/1.png", "dog/1.png", "stray.png"], ["cat", "dog", None]),
        (["pets/cat/1.png", "pets/dog/1.png", "pets/stray.png", "stray.png"], ["cat", "dog", None, None]),
        (["bus/1.png", "train/1.png"], ["bus", "train"]),  # no part, as not all are named like parts
        (["all/1.png", "all/2.png"], None),
        (["1.png"], None),
    ],
)
def test_sub_folders_are_labels(make, tmp_path, names, labels):
    table = fetch(make({name: picture() for name in names}), tmp_path / "raw")
    assert table.index.tolist() == sorted(names)
    assert values(table, "label") == labels
    assert "official" not in table


@pytest.mark.parametrize(
    ("names", "official", "labels"),
    [
        (["test/cat/1.png", "train/cat/1.png", "train/dog/1.png"], ["test", "train", "train"], ["cat", "cat", "dog"]),
        (["a/b/Test/cat/1.png", "a/b/TRAIN/dog/x/1.png"], ["train", "test"], ["dog", "cat"]),
        (
            ["test/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png", "validation/b/1.png"],
            ["test", "train", "val", "val", "val"],
            ["a", "b", "a", "a", "b"],
        ),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png"], ["train", "train", "val"], ["a", "b", "a"]),
        (["test/1.png", "train/a/1.png", "train/b/1.png"], ["test", "train", "train"], [None, "a", "b"]),
        (["stray.png", "test/a/1.png", "train/b/1.png"], [None, "test", "train"], [None, "a", "b"]),
        (["test/1.png", "train/1.png"], ["test", "train"], None),
        (["Testing/a/1.png", "Training/b/1.png"], ["test", "train"], ["a", "b"]),
        (["eval/a/1.png", "train/b/1.png"], ["val", "train"], ["a", "b"]),
        (["DEV/a/1.png", "Evaluation/b/1.png", "train/b/1.png"], ["val", "val", "train"], ["a", "b", "b"]),
        (["test_set/a/1.png", "training_set/b/1.png"], ["test", "train"], ["a", "b"]),
        (["seg_test/seg_test/a/1.png", "seg_train/seg_train/b/1.png"], ["test", "train"], ["a", "b"]),
        (["test/images/a/1.png", "train/images/b/1.png"], ["test", "train"], ["a", "b"]),
        (["test2017/1.png", "train2017/1.png"], ["test", "train"], None),
        (["test/all/1.png", "train/all/1.png"], ["test", "train"], None),
    ],
)
def test_folders_named_like_parts_are_the_official_parts(make, tmp_path, names, official, labels):
    table = fetch(make({name: picture() for name in names}), tmp_path / "raw")
    assert table.index.tolist() == sorted(names)
    assert values(table, "official") == official
    assert values(table, "label") == labels


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["test/a/1.png", "train/b/1.png", "extra/a/1.png"], "test and train hold parts .* there is extra: move it"),
        (["Test/1.png", "Training/1.png", "c/1.png", "d/1.png"], "Test and Training .* there are c, d: move"),
        (["train/a/1.png", "train/b/1.png", "holdout/a/1.png"], "train hold.* there is holdout: move it"),
        (["eval/1.png", "test/1.png"], "eval and test hold parts of the data, but none is named train"),
    ],
)
def test_mixtures_of_parts_and_others_are_refused(make, tmp_path, names, told):
    with pytest.raises(InputError, match=told):
        fetch(make({name: picture() for name in names}), tmp_path / "raw")
    assert not list((tmp_path / "raw").iterdir())


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["cat/1.heic", "cat/2.HEIC", "dog/1.png"], "the folder cat without pictures, only files that end in .heic"),
        (["cat/1.heic", "cow/1.raw", "dog/1.png", "pig/1.png"], "the folder cat and 1 more without pictures"),
        (["cat/0001", "dog/1.png", "pig/1.png"], "cat without pictures, only files that end in none"),
        (["test/cat/1.png", "test/dog/1.png", "train/cat/1.jxl", "train/dog/1.png"], "the folder train/cat without"),
        (["test/1.png", "train/1.png", "val/1.heic"], "the folder val without"),
    ],
)
def test_class_that_loses_all_its_files_is_an_error(make, tmp_path, names, told):
    with pytest.raises(InputError, match=told):
        fetch(make({name: picture() for name in names}), tmp_path / "raw")


@pytest.mark.parametrize("other", ["notes/a.txt", "labels/a.xml", "more/a.zip", "docs/LICENSE", "cat/b.heic", "c.mp4"])
def test_other_files_beside_classes_are_a_note(make, tmp_path, capsys, other):
    table = fetch(make({name: picture() for name in ("cat/1.png", "dog/1.png", other)}), tmp_path / "raw")
    assert values(table, "label") == ["cat", "dog"]
    assert "1 other files ignored" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ending", "kind"), [("pgm", "PPM"), ("pbm", "PPM"), ("jfif", "JPEG"), ("jpe", "JPEG"), ("AVIF", "AVIF")]
)
def test_endings_that_people_have(make, tmp_path, ending, kind):
    if not features.check("avif") and kind == "AVIF":
        pytest.skip("this Pillow reads no AVIF")
    root = make({f"a.{ending}": picture(200, kind=kind), "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg": picture()})
    assert fetch(root, tmp_path / "raw").index.tolist() == [f"a.{ending}"]
    image = folder.open_images(tmp_path / "raw").read(f"a.{ending}")
    assert abs(image.getpixel((5, 5))[0] - 200) < 5


def test_pictures_that_come_out_black_are_counted(make, tmp_path, capsys):
    buffer = io.BytesIO()
    Image.fromarray(np.full((48, 48), 4095, np.uint16)).save(buffer, "PNG")
    fetch(make({"a.png": buffer.getvalue(), "b.png": picture()}), tmp_path / "raw")
    assert "warning: 1 of 2 pictures come out black: it holds no value above 4095" in capsys.readouterr().out


@pytest.mark.parametrize("root", [".", "..", "/"])
def test_root_that_holds_the_repository_is_refused(tmp_path, monkeypatch, root):
    monkeypatch.chdir(write(tmp_path / "here", {"docs/a.png": picture()}))
    with pytest.raises(InputError, match=f"data.root is '{root}', which holds this repository"):
        folder.fetch(Data(name="folder", root=root, size=48), 0, tmp_path)


def test_few_bad_pictures_are_left_out_by_name(make, tmp_path, capsys):
    files = {f"{i:03d}.png": picture() for i in range(200)}
    files |= {"007.png": b"no picture", 'NA, "x".png': picture(size=(47, 90))}
    table = fetch(make(files), tmp_path / "raw")
    assert len(table) == 199
    assert "007.png" not in table.index
    rejects = pd.read_csv(tmp_path / "raw" / "rejects.csv", index_col="id")["reason"]
    assert rejects.to_dict() == {
        "007.png": "is no picture in a known format",
        'NA, "x".png': "is 47x90, smaller than the 48x48 target (data.size)",
    }
    assert "2 of 201 pictures" in capsys.readouterr().out


def test_small_pictures_are_enlarged_where_nothing_is_super_sampled(make, tmp_path, capsys):
    root = make({"a.png": picture(size=(40, 40)), "b.png": picture()})
    (tmp_path / "raw").mkdir()
    folder.fetch(Data(name="folder", root=str(root), size=48, scale=1), 0, tmp_path / "raw")
    assert len(folder.samples(tmp_path / "raw")) == 2
    assert "1 of 2 pictures are smaller than data.size 48 and will be enlarged" in capsys.readouterr().out


def test_many_bad_pictures_stop_the_run(make, tmp_path):
    root = make({f"{i:02d}.png": picture() for i in range(19)} | {"small.png": picture(size=(40, 40))})
    with pytest.raises(InputError, match=r"1 of 20 .*small.png is 40x40.*remove or replace them, or lower data.size"):
        fetch(root, tmp_path / "raw")


@pytest.mark.parametrize("files", [{}, {"a.heic": b"", "b.txt": b""}, {".a.png": b""}])
def test_no_pictures(make, tmp_path, files):
    root = make(files)
    with pytest.raises(InputError, match=r"no pictures in .*\.jpg") as caught:
        fetch(root, tmp_path / "raw")
    assert (".heic" in str(caught.value)) == ("a.heic" in files)


def test_repeated_zip_member(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.png": picture(), "b.png": picture()})
    path.write_bytes(path.read_bytes().replace(b"b.png", b"a.png"))
    with pytest.raises(InputError, match=r"'a\.png' twice"):
        fetch(path, tmp_path / "raw")


def test_file_name_that_is_no_text(tmp_path):
    root = write(tmp_path / "root", {"a.png": picture()})
    try:
        os.rename(root / "a.png", os.fsencode(root) + b"/\xff.png")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(InputError, match="no text in its name: rename it") as caught:
        fetch(root, tmp_path / "raw")
    str(caught.value).encode()
    write(root, {f"{i:03d}.png": picture() for i in range(100)})
    assert len(fetch(root, tmp_path / "again")) == 100
    assert r"\udcff.png" in (tmp_path / "again" / "rejects.csv").read_text(encoding="utf-8")


def test_control_characters_in_a_name_reject_the_picture(make, tmp_path, capsys):
    files = {f"{i:03d}.png": picture() for i in range(100)}
    assert len(fetch(make(files | {"a\n\x1b[31m.png": picture()}), tmp_path / "raw")) == 100
    assert r"'a\n\x1b[31m.png' has control characters" in capsys.readouterr().out


def test_zip_members_that_cannot_be_opened_are_rejected(tmp_path):
    """As Windows (Deflate64) and passwords make them, and with a damaged header."""
    names = ("deflate64.png", "encrypted.png", "header.png")
    path = write_zip(tmp_path / "a.zip", {f"{i:03d}.png": picture() for i in range(300)} | dict.fromkeys(names, b"x"))
    with zipfile.ZipFile(path) as archive:
        start = {name: archive.getinfo(name).header_offset for name in names}
    content = bytearray(encrypted(path.read_bytes(), "encrypted.png"))
    content[content.rindex(b"deflate64.png") - 46 + 10] = 9  # in the directory at the end
    content[start["header.png"]] = 0
    path.write_bytes(content)
    assert len(fetch(path, tmp_path / "raw")) == 300
    reasons = pd.read_csv(tmp_path / "raw" / "rejects.csv", index_col="id")["reason"]
    assert "compression" in reasons["deflate64.png"]
    assert "encrypted" in reasons["encrypted.png"]
    assert "magic number" in reasons["header.png"]


@pytest.mark.real
def test_real_photos(real_data, tmp_path):
    photos = real_data / "oxford-iiit-pet" / "images"
    with pytest.raises(InputError, match=r"19 of 1089 .* Abyssinian_192\.jpg is 300x176"):
        fetch(photos, tmp_path / "raw", size=192)
    table = fetch(photos, tmp_path / "raw128", size=128)
    assert len(table) == 1088
    assert 'Abyssinian_63.jpg,"is 150x116' in (tmp_path / "raw128" / "rejects.csv").read_text(encoding="utf-8")
    images = folder.open_images(tmp_path / "raw128")
    assert min(min(images.read(name).size) for name in table.index) >= 128


@pytest.mark.real
def test_real_pictures_in_parts_and_classes(real_data, tmp_path):
    """60,000 of them, without the check of every header that `fetch` does."""
    (tmp_path / "images.zip").symlink_to(real_data / "cifar10-jpeg.zip")
    table = folder.samples(tmp_path)
    assert len(table) == 60_000
    counts = table.groupby(["official", "label"]).size()
    assert counts["train"].to_dict() == dict.fromkeys(CIFAR, 5_000)
    assert counts["test"].to_dict() == dict.fromkeys(CIFAR, 1_000)
    assert table.loc["cifar10/test/truck/0000.jpg"].tolist() == ["test", "truck"]
    assert folder.open_images(tmp_path).read("cifar10/test/truck/0000.jpg").size == (32, 32)
