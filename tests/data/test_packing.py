"""Packing: each row of the arrays is the image that its id names, and a failure leaves nothing."""

import io
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vitpipe.data import packing
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.data.split import PARTS, read_table
from vitpipe.errors import InputError
from vitpipe.sources import LANDMARKS
from vitpipe.sources.images import UnreadableImage

BICUBIC = Image.Resampling.BICUBIC
COUNTS = {"train": 40, "val": 8, "test": 12, "rejected": 0}


def everything(folder: Path, part: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    part_of = PackedDataset(folder / part)
    rows = np.arange(len(part_of))
    return part_of.samples, part_of.images("hr", rows), part_of.images("lr", rows)


def test_arrays_hold_the_pictures_that_the_ids_name(packed, shapes, table):
    for part in PARTS:
        samples, hr, lr = everything(packed, part)
        assert list(samples.index) == list(table.index[table["part"] == part])
        assert (hr.dtype, hr.shape[1:], lr.dtype, lr.shape[1:]) == (np.uint8, (24, 24, 3), np.uint8, (12, 12, 3))
        np.testing.assert_array_equal(np.load(packed / part / "hr-000.npy"), hr)
        assert list(samples.columns) == ["identity", *LANDMARKS, "landmarks", "odd"]
        assert (samples["odd"] == table.loc[samples.index, "odd"]).all()
        for row, sample in enumerate(samples.index):
            target = shapes.read(sample).resize((24, 24), BICUBIC)
            np.testing.assert_array_equal(hr[row], target)
            np.testing.assert_array_equal(lr[row], target.resize((12, 12), BICUBIC))


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("size", [(60, 90), (91, 60), (48, 48)])
def test_landmarks_stay_on_what_they_mark(tmp_path, settings, table, size, fit):
    """A black picture with one white square: the landmark in its centre must be in the centre of the packed square."""
    x, y = size[0] // 2 + 6, size[1] // 2 - 8

    class Dot:
        def read(self, sample):
            image = Image.new("RGB", size)
            image.paste((255, 255, 255), (x - 4, y - 4, x + 4, y + 4))
            return image

    table[list(LANDMARKS)] = np.array([x, y] * 5, dtype=float)
    pack(table, Dot(), settings(**{"data.fit": fit}).data, tmp_path / "packed")
    samples, hr, _ = everything(tmp_path / "packed", "val")
    light = hr[0, :, :, 0] / hr[0, :, :, 0].sum()
    centre = [(light.sum(axis) * (np.arange(24) + 0.5)).sum() for axis in (0, 1)]
    assert samples.iloc[0][["nose_x", "nose_y"]].tolist() == pytest.approx(centre, abs=0.1)


def test_missing_landmarks_stay_missing(tmp_path, settings, shapes, table):
    table.loc["059.png", list(LANDMARKS)] = np.nan
    pack(table, shapes, settings().data, tmp_path / "packed")
    samples = PackedDataset(tmp_path / "packed" / "test").samples
    assert samples.loc["059.png", list(LANDMARKS)].isna().all()
    assert samples.drop("059.png").notna().all(axis=None)


def test_shards_read_as_one(tmp_path, settings, shapes, table, packed, monkeypatch):
    monkeypatch.setattr(packing, "SHARD", 8)
    pack(table, shapes, settings().data, tmp_path / "sharded")
    assert len(list((tmp_path / "sharded" / "train").glob("hr-*.npy"))) == 5
    assert len(list((tmp_path / "sharded" / "test").glob("lr-*.npy"))) == 2
    for part in PARTS:
        for whole, sharded in zip(everything(packed, part), everything(tmp_path / "sharded", part), strict=True):
            np.testing.assert_array_equal(whole, sharded)
    rows = np.array([39, 0, 8, 7, 8])
    whole, sharded = (PackedDataset(folder / "train").images("hr", rows) for folder in (packed, tmp_path / "sharded"))
    np.testing.assert_array_equal(whole, sharded)


def test_the_file_of_the_split_stage_gives_the_same_bytes_as_its_table(tmp_path, settings, shapes, table):
    """With gaps in landmarks and labels, and names that need quotes."""
    table.index = [f'a "{name}", é' for name in table.index]
    table["part"] = [PARTS[i % 3] for i in range(60)]
    table.iloc[::7, 2:12] = np.nan
    table["identity"] = pd.array([None if i == 5 else i // 2 for i in range(60)], dtype="Int64")
    table["label"] = table["odd"].map({0: "NA", 1: "007"}).where(table.index != table.index[45])
    table.to_csv(tmp_path / "split.csv", index_label="id")
    for name, given in {"table": table, "file": read_table(tmp_path / "split.csv")}.items():
        pack(given, shapes, settings().data, tmp_path / name)
    files = [path.relative_to(tmp_path / "table") for path in (tmp_path / "table").rglob("*.*")]
    assert len(files) == 10
    for file in files:
        assert (tmp_path / "table" / file).read_bytes() == (tmp_path / "file" / file).read_bytes(), file


def test_manifest_counts_the_images_of_each_class(tmp_path, settings, shapes, table):
    labels = table["odd"].map({0: "NA", 1: "007"}).where(table.index != "045.png")
    pack(table.assign(label=labels, Male=table["odd"] * 2 - 1), shapes, settings().data, tmp_path / "packed")
    labels = {part: entry["labels"] for part, entry in PackedDataset(tmp_path / "packed" / "val").manifest.items()}
    assert labels["train"]["label"] == {"007": 20, "NA": 20}
    assert labels["val"]["label"] == {"": 1, "007": 3, "NA": 4}
    assert labels["test"]["Male"] == {"Male": 6, "not Male": 6}
    assert set(labels["train"]) == {"odd", "label", "Male"}  # no landmarks, persons or parts


def test_manifest_names_the_content(tmp_path, packed, settings, shapes, table):
    manifest = PackedDataset(packed / "val").manifest
    assert {part: manifest[part]["images"] for part in PARTS} == {"train": 40, "val": 8, "test": 12}
    assert PackedDataset(packed / "val").digest == manifest["val"]["blake2b"]
    assert pack(table, shapes, settings().data, tmp_path / "again") == COUNTS
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (packed / "manifest.json").read_bytes()
    table.loc["045.png", "odd"] = 7  # an image of val
    pack(table, shapes, settings().data, tmp_path / "other")
    other = PackedDataset(tmp_path / "other" / "val").manifest
    assert [part for part in PARTS if other[part] != manifest[part]] == ["val"]


def test_at_scale_one_the_target_is_the_input(tmp_path, settings, shapes, table):
    made = settings("classify", **{"data.scale": 1}).data
    assert pack(table, shapes, made, tmp_path / "packed") == COUNTS
    assert [path.name for path in (tmp_path / "packed" / "val").glob("*.npy")] == ["hr-000.npy"]
    for part in PARTS:
        _, hr, lr = everything(tmp_path / "packed", part)
        assert hr.shape[1:] == (24, 24, 3)
        np.testing.assert_array_equal(hr, lr)


class Damaged:
    """Images of which some cannot be read."""

    def __init__(self, shapes, bad):
        self.shapes, self.bad = shapes, bad

    def read(self, sample):
        if sample in self.bad:
            raise UnreadableImage("is damaged: cut off")
        return self.shapes.read(sample)


def test_unreadable_picture_is_left_out_by_name(tmp_path, settings, shapes, table, capsys):
    more = pd.DataFrame({"part": "train"}, [f"more-{i}.png" for i in range(120)])
    many = pd.concat([more, table[["part"]]])
    bad = many.index[5]
    counts = pack(many, Damaged(shapes, {bad}), settings().data, tmp_path / "packed")
    assert counts == {"train": 159, "val": 8, "test": 12, "rejected": 1}
    rejects = (tmp_path / "packed" / "rejects.csv").read_text(encoding="utf-8")
    assert rejects == f"id,reason\n{bad},is damaged: cut off\n"
    assert "1 of 180 pictures in data/raw cannot be used and are left out" in capsys.readouterr().out
    samples, hr, _ = everything(tmp_path / "packed", "train")
    assert bad not in samples.index
    for row in (4, 5, 158):  # before and after the gap
        np.testing.assert_array_equal(hr[row], shapes.read(samples.index[row]).resize((24, 24), BICUBIC))


def test_part_without_a_readable_picture_stops(tmp_path, settings, shapes, table):
    with pytest.raises(InputError, match="no readable picture is left in part val"):
        pack(table, Damaged(shapes, set(table.index[40:48])), settings().data, tmp_path / "packed")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    """27 KB an image: 2,700 more of them held in memory would be 75 MB."""
    code = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from PIL import Image
from vitpipe.config import Data
from vitpipe.data.packing import pack

class Noise:
    def read(self, sample):
        return Image.fromarray(np.random.default_rng(int(sample)).integers(0, 256, (96, 96, 3), np.uint8))

count = int(sys.argv[1])
table = pd.DataFrame({"part": ["train"] * (count - 2) + ["val", "test"]}, [str(i) for i in range(count)])
pack(table, Noise(), Data(name="folder", size=96), Path(sys.argv[1]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""

    def peak(count: int) -> float:
        """Peak resident memory in MB."""
        command = [sys.executable, "-c", code, str(count)]
        return int(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout) / 1024

    assert peak(3000) < peak(300) + 20


@pytest.fixture
def workspace(tmp_path, shapes, table) -> Path:
    """data/raw and data/split.csv as fetch and split leave them."""
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    with zipfile.ZipFile(raw / "images.zip", "w") as archive:
        for sample in table.index:
            buffer = io.BytesIO()
            shapes.read(sample).save(buffer, "PNG")
            archive.writestr(sample, buffer.getvalue())
    table[["part", "odd"]].to_csv(tmp_path / "data" / "split.csv")
    return tmp_path


def test_stage_packs_and_names_a_missing_split(workspace, stage, shapes):
    done = stage("downsample")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "downsample: train 40, val 8, test 12, rejected 0\n"
    samples, hr, _ = everything(workspace / "data" / "packed", "test")
    np.testing.assert_array_equal(hr[3], shapes.read(samples.index[3]).resize((24, 24), BICUBIC))
    (workspace / "data" / "split.csv").unlink()
    done = stage("downsample")
    assert (done.returncode, done.stderr) == (1, "downsample: No such file or directory: data/split.csv\n")


def full_disk() -> None:
    limit = 40_000  # bytes in one file: HR images of train need 69,120
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_full_disk_leaves_nothing_and_keeps_an_earlier_result(workspace, stage):
    done = stage("downsample", full_disk)
    assert done.returncode == 1
    told = [text for text in done.stderr.replace("\r", "\n").splitlines() if text and "image/s" not in text]
    assert told == ["downsample: File too large"]
    assert sorted(path.name for path in (workspace / "data").iterdir()) == ["raw", "split.csv"]
    assert stage("downsample").returncode == 0
    before = (workspace / "data" / "packed" / "manifest.json").read_bytes()
    assert stage("downsample", full_disk).returncode == 1
    assert (workspace / "data" / "packed" / "manifest.json").read_bytes() == before
    assert not (workspace / "data" / "packed.tmp").exists()
