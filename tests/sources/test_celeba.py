import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.sources.files import below, encrypted, write, zipped
from vitpipe.config import Data
from vitpipe.errors import InputError
from vitpipe.sources import LANDMARKS, celeba

NAMES = [f"{number:06d}.jpg" for number in (1, 2, 3, 5)]
ATTRIBUTES = ["Male", "Smiling"]


def picture(name: str) -> bytes:
    """A picture that says who it is by its grey."""
    buffer = io.BytesIO()
    Image.new("L", (178, 218), int(name[:6]) * 20).save(buffer, "JPEG")
    return buffer.getvalue()


def annotation() -> dict[str, str]:
    """Official files for the images 1 to 4: there is an image 5 without row and a row 4 without image."""
    rows = [f"{number:06d}.jpg" for number in (1, 2, 3, 4)]
    points = "\n".join(f"{name} " + " ".join(str(10 * i + p) for p in range(10)) for i, name in enumerate(rows))
    signs = "\n".join(f"{name} {(-1) ** i:2d} {(-1) ** (i // 2):2d}" for i, name in enumerate(rows))
    return {
        "list_attr_celeba.txt": f"4\n{' '.join(ATTRIBUTES)} \n{signs}\n",
        "list_landmarks_align_celeba.txt": f"4\n{' '.join(LANDMARKS)}\n{points}\n",
        "list_eval_partition.txt": "".join(f"{name} {min(i, 2)}\n" for i, name in enumerate(rows)),
        "identity_CelebA.txt": "".join(f"{name} {100 + i // 2}\n" for i, name in enumerate(rows)),
    }


def kaggle() -> dict[str, str]:
    """The same as csv with a header; there are no identities."""
    heads = {
        "list_attr_celeba": ATTRIBUTES,
        "list_landmarks_align_celeba": LANDMARKS,
        "list_eval_partition": ["partition"],
    }
    files = {}
    for name, columns in heads.items():
        rows = [line.split() for line in annotation()[f"{name}.txt"].splitlines() if line[:1] == "0"]
        files[f"{name}.csv"] = "".join(f"{','.join(row)}\n" for row in [["image_id", *columns], *rows])
    return files


def images(folder: str) -> dict[str, bytes]:
    return {f"{folder}{name}": picture(name) for name in reversed(NAMES)}


ARCHIVE = {"img_align_celeba.zip": zipped(images("img_align_celeba/"))}
JUNK = {"__MACOSX/img_align_celeba/000001.jpg": b"", "img_align_celeba/.DS_Store": b""}
OFFICIAL, KAGGLE = annotation(), kaggle()


BELOW = images("celeba/img_align_celeba/") | OFFICIAL
LAYOUTS = {
    "torchvision, zip": ("", below("celeba", ARCHIVE | OFFICIAL)),
    "torchvision, extracted": ("", below("celeba", images("img_align_celeba/") | OFFICIAL)),
    "torchvision, pointed at celeba": ("celeba", below("celeba", ARCHIVE | OFFICIAL)),
    "google drive": ("", below("Img", ARCHIVE) | below("Anno", OFFICIAL)),
    "kaggle": ("", images("img_align_celeba/img_align_celeba/") | KAGGLE),
    "kaggle, outer image folder": ("img_align_celeba", images("img_align_celeba/img_align_celeba/") | KAGGLE),
    "kaggle, inner image folder": (f"{'img_align_celeba/' * 2}", images("img_align_celeba/" * 2) | KAGGLE),
    "plain": ("img_align_celeba", images("img_align_celeba/") | OFFICIAL),
    "loose": ("", images("") | OFFICIAL),
    "kaggle zip": ("archive.zip", {"archive.zip": zipped(images("img_align_celeba/img_align_celeba/") | KAGGLE)}),
    "zip, annotation inside": ("a.zip", {"a.zip": zipped(images("celeba/img_align_celeba/") | JUNK | OFFICIAL)}),
    "zip by bsdtar": ("a.zip", {"a.zip": zipped(below(".", BELOW))}),
    "zip by PowerShell": (
        "a.zip",
        {"a.zip": zipped({name.replace("/", "\\"): content for name, content in BELOW.items()})},
    ),
    "zip, annotation beside": ("img_align_celeba.zip", ARCHIVE | OFFICIAL),
}


def fetch(root: Path, raw: Path) -> pd.DataFrame:
    raw.mkdir()
    celeba.fetch(Data(name="celeba", root=str(root)), 0, raw)
    return celeba.samples(raw)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_samples(layout, tmp_path, capsys):
    where, files = LAYOUTS[layout]
    table = fetch(write(tmp_path / "root", files) / where, tmp_path / "raw")
    assert table.index.tolist() == NAMES
    assert table["official"].tolist()[:3] == ["train", "val", "test"]
    assert table["official"].isna().tolist() == [False, False, False, True]
    assert table[ATTRIBUTES].to_numpy().tolist() == [[1, 1], [-1, 1], [1, -1], [0, 0]]
    assert table[ATTRIBUTES].dtypes.unique().tolist() == [np.int8]
    assert table["nose_y"].tolist()[:3] == [5, 15, 25]
    assert table["landmarks"].tolist() == ["annotated"] * 3 + ["mean"]
    assert table["nose_y"].iloc[3] == 135.3
    if "kaggle" not in layout:  # Kaggle's has no identities
        assert table["identity"].tolist()[:3] == [100, 100, 101]
        assert table["identity"].isna().iloc[3]
    pictures = celeba.open_images(tmp_path / "raw")
    for name in NAMES:
        assert abs(pictures.read(name).getpixel((5, 5))[0] - int(name[:6]) * 20) <= 1
    ending = "csv" if "kaggle" in layout else "txt"  # the user's file, not the one it becomes
    assert f"list_attr_celeba.{ending}: 1 rows without image, 1 images without row" in capsys.readouterr().out
    assert {path.suffix for path in (tmp_path / "raw").iterdir()} == {".zip", ".txt"}


def test_official_archive_is_copied_as_it_is(tmp_path):
    root = write(tmp_path / "root", ARCHIVE | OFFICIAL)
    fetch(root, tmp_path / "raw")
    for path in root.iterdir():
        assert (tmp_path / "raw" / path.name).read_bytes() == path.read_bytes()


def test_images_alone_are_enough(tmp_path):
    table = fetch(write(tmp_path / "root", ARCHIVE), tmp_path / "raw")
    assert table.index.tolist() == NAMES
    assert table.columns.tolist() == [*LANDMARKS, "landmarks"]
    assert (table["landmarks"] == "mean").all()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"readme.txt": ""}, "no CelebA images, which are named like 000001.jpg or lie in img_align_celeba"),
        ({"img_align_celeba.zip": zipped({"a.txt": "b"})}, "holds no CelebA images"),
        ({"img_align_celeba.zip": b"<!DOCTYPE html>"}, "HTML page"),
        ({"img_align_celeba.zip": ARCHIVE["img_align_celeba.zip"][:-30]}, "damaged zip"),
        ({"img_align_celeba.zip": zipped(images("a/") | images("b/"))}, "000005.jpg twice"),
        (images("a/") | images("b/"), "twice"),
        ({"img_align_celeba.zip": zipped(images("../"))}, "refused"),
        (ARCHIVE | {"identity_CelebA.txt": "999999.jpg 1\n"}, "none for any of the 4 images"),
        (ARCHIVE | {"identity_CelebA.txt": "000001.jpg 1\n000001.jpg 2\n"}, "000001.jpg twice"),
        (ARCHIVE | {"identity_CelebA.txt": "000001.jpg\n"}, "identity_CelebA.txt is no annotation"),
        (ARCHIVE | {"identity_CelebA.txt": "000001.jpg 1 2\n"}, "rows are too long"),
        (ARCHIVE | {"identity_CelebA.txt": "<!DOCTYPE html>\n<html>quota</html>\n"}, "is no annotation file"),
        (ARCHIVE | {"identity_CelebA.txt": ""}, "has 0 rows, but none"),
        (ARCHIVE | {"list_eval_partition.txt": "000001.jpg 3\n"}, "0, 1 or 2"),
        (ARCHIVE | {"list_attr_celeba.txt": "2\nMale\n000001.jpg 1\n"}, "announces 2 rows, but 1"),
        (ARCHIVE | {"list_attr_celeba.txt": "1\nMale\n000001.jpg 7\n"}, "1 or -1"),
        (ARCHIVE | {"list_attr_celeba.txt": "1\nMale Old\n000001.jpg 1\n"}, "is no annotation"),
        (ARCHIVE | {"list_landmarks_align_celeba.txt": "1\nnose_x\n000001.jpg 1\n"}, "columns must be"),
        (ARCHIVE | {"list_attr_celeba.csv": ""}, "is no csv"),
        (
            ARCHIVE | {"list_attr_celeba.csv": "image_id,Male\n000001.jpg,7\n"},
            r"^list_attr_celeba\.csv is no annotation",
        ),
        (
            ARCHIVE | {"list_eval_partition.csv": "image_id,partition\n9.jpg,1\n"},
            r"^list_eval_partition\.csv has 1 rows",
        ),
    ],
)
def test_bad_data_sets_are_refused_in_one_line(files, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        fetch(write(tmp_path / "root", files), tmp_path / "raw")
    assert "\n" not in str(caught.value)


def test_encrypted_annotation_is_said(tmp_path):
    content = encrypted(zipped(images("img_align_celeba/") | OFFICIAL), "identity_CelebA.txt")
    root = write(tmp_path / "root", {"a.zip": content})
    with pytest.raises(InputError, match=r"identity_CelebA.txt in .*a.zip cannot be read \(.*encrypted"):
        fetch(root / "a.zip", tmp_path / "raw")


def test_dangling_image_is_left_out_by_name(tmp_path):
    root = write(tmp_path / "root", {f"{number:06d}.jpg": picture("000001.jpg") for number in range(1, 101)})
    (root / "000101.jpg").symlink_to("nowhere.jpg")
    assert len(fetch(root, tmp_path / "raw")) == 100
    assert "000101.jpg,cannot be read" in (tmp_path / "raw" / "rejects.csv").read_text(encoding="utf-8")
    (root / "000102.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(InputError, match="2 of 102 pictures"):
        fetch(root, tmp_path / "again")


def test_download_takes_the_official_files_with_their_sums(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(celeba, "download", lambda url, target, md5: taken.append((url, target.name, md5)))
    celeba.download_official(tmp_path)
    assert {name for _, name, _ in taken} == {*ARCHIVE, *OFFICIAL}
    address = "https://drive.usercontent.google.com/download?id=0B7EVK8r0v71pZjFTYXZWM3FlRnM&export=download&confirm=t"
    assert taken[0] == (address, "img_align_celeba.zip", "00d2c5bc6d35e252742224ab0c1e8fcb")


@pytest.mark.real
def test_real_celeba(real_data, tmp_path, capsys):
    table = fetch(real_data / "celeba", tmp_path / "raw")
    assert table.shape == (4591, 2 + 40 + 10 + 1)
    assert (table["landmarks"] == "mean").all()
    assert (table["official"] == "train").all()
    assert table.index.is_monotonic_increasing
    assert table.loc["000001.jpg", "Male"] == -1
    assert table.loc["000001.jpg", "identity"] == 2880
    assert table.columns[2] == "5_o_Clock_Shadow"
    assert table.columns[41] == "Young"
    assert "list_attr_celeba.txt: 198008 rows without image, 0 images without row" in capsys.readouterr().out
    everyone = celeba.read_annotation(tmp_path / "raw" / "list_attr_celeba.txt")
    assert len(everyone) == 202_599
    assert (everyone["Male"] == 1).sum() == 84_434
    parts = celeba.read_annotation(tmp_path / "raw" / "list_eval_partition.txt")["official"]
    assert (parts.loc["162770.jpg"], parts.loc["162771.jpg"]) == ("train", "val")
    assert (parts.loc["182637.jpg"], parts.loc["182638.jpg"]) == ("val", "test")
    pictures = celeba.open_images(tmp_path / "raw")
    assert {pictures.read(name).size for name in table.index[::100]} == {(178, 218)}


@pytest.mark.real
def test_real_landmarks(real_data, tmp_path):
    """They lie on the faces: eyes above nose above mouth, left of right."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "img_align_celeba.zip").symlink_to(real_data / "celeba" / "img_align_celeba.zip")
    shutil.copy(
        real_data / "celeba" / "list_landmarks_align_celeba.partial.txt", root / "list_landmarks_align_celeba.txt"
    )
    table = fetch(root, tmp_path / "raw")
    known = table[table["landmarks"] == "annotated"]
    assert 0 < len(known) <= 43
    means = known[list(LANDMARKS)].mean()
    assert np.allclose(means, celeba.MEAN_LANDMARKS, atol=2)
    assert (known["lefteye_x"] < known["righteye_x"]).all()
    assert (known["lefteye_y"] < known["leftmouth_y"]).all()
    assert known.loc["000001.jpg", "lefteye_x"] == 69
