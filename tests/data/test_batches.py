"""Packed parts and the batches made of them."""

import numpy as np
import pandas as pd
import pytest
import torch

from vitpipe.data import batches, dataset
from vitpipe.data.batches import Batch, batches_per_epoch, evenly_spaced, rank_slice, scoring_batches, shuffled
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.data.pixels import normalize, to_images, to_input, to_uint8
from vitpipe.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture
def train(packed) -> PackedDataset:
    return PackedDataset(packed / "train")


@pytest.fixture
def labelled(tmp_path, settings, shapes, table) -> PackedDataset:
    """The images of `train`, where `odd` is 1 or -1."""
    pack(table.assign(odd=table["odd"] * 2 - 1), shapes, settings().data, tmp_path / "labelled")
    return PackedDataset(tmp_path / "labelled" / "train", "odd")


def epoch(train, *, batch=8, seed=0, number=0, flip=True, start=0):
    return list(shuffled(train, batch, CPU, seed=seed, epoch=number, flip=flip, start=start))


def same(one, other) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.rows, b.rows) and torch.equal(a.lr, b.lr) and torch.equal(a.hr, b.hr)
        for a, b in zip(one, other, strict=True)
    )


def test_batches_are_the_packed_images(train):
    batch = Batch(train, np.array([5, 2]), CPU)
    assert len(batch) == 2
    assert (batch.lr.shape, batch.hr.shape) == ((2, 3, 12, 12), (2, 3, 24, 24))
    assert batch.hr.dtype == torch.uint8
    assert (train.size, train.scale) == (24, 2)
    np.testing.assert_array_equal(batch.hr[0].permute(1, 2, 0), train.images("hr", np.array([5]))[0])
    np.testing.assert_array_equal(batch.lr[1].permute(1, 2, 0), train.images("lr", np.array([2]))[0])


def test_labels_are_those_of_the_rows(labelled):
    assert labelled.classes == ("not odd", "odd")
    for batch in epoch(labelled):
        assert batch.labels.dtype == torch.int64
        assert batch.labels.tolist() == [int(labelled.samples.index[row][:3]) % 2 for row in batch.rows]


def test_rows_are_mirrored_as_named_and_local_images_with_them(train):
    rows, mirror = np.array([3, 9, 1]), np.array([True, False, True])
    plain, mirrored = Batch(train, rows, CPU), Batch(train, rows, CPU, mirror, slice(1, 3))
    for name in ("lr", "hr"):
        one, other = getattr(plain, name), getattr(mirrored, name)
        assert torch.equal(other, torch.stack([one[0].flip(-1), one[1], one[2].flip(-1)]))
        assert not torch.equal(other[0], one[0])
        assert torch.equal(getattr(mirrored.local, name), other[1:])


def test_images_are_read_once_when_they_are_used(train, monkeypatch):
    read = []
    images = PackedDataset.images
    monkeypatch.setattr(PackedDataset, "images", lambda self, name, rows: read.append(name) or images(self, name, rows))
    batch = Batch(train, np.array([0]), CPU)
    assert read == []
    assert batch.lr is batch.lr
    assert read == ["lr"]


@pytest.mark.parametrize(("count", "rows"), [(1, [0]), (3, [0, 20, 39]), (40, range(40)), (99, range(40))])
def test_evenly_spaced_reaches_from_the_first_to_the_last(train, count, rows):
    assert evenly_spaced(train, count).tolist() == list(rows)


@pytest.mark.parametrize(
    ("images", "pixels", "sizes"), [(256, 2**20, [40]), (16, 2**20, [16, 16, 8]), (256, 7 * 24**2, [7] * 5 + [5])]
)
def test_scoring_batches_hold_every_row_once(train, monkeypatch, images, pixels, sizes):
    monkeypatch.setattr(batches, "SCORED_IMAGES", images)
    monkeypatch.setattr(batches, "SCORED_PIXELS", pixels)
    found = list(scoring_batches(train))
    assert [len(rows) for rows in found] == sizes
    assert np.concatenate(found).tolist() == list(range(40))
    assert np.concatenate(list(scoring_batches(train, np.array([9, 3, 7])))).tolist() == [9, 3, 7]
    monkeypatch.setattr(batches, "SCORED_PIXELS", 1)
    assert [len(rows) for rows in scoring_batches(train)] == [1] * 40


@pytest.mark.parametrize(("count", "processes"), [(8, 1), (8, 2), (9, 4), (3, 3)])
def test_processes_share_all_images(count, processes):
    parts = [np.arange(count)[rank_slice(count, rank, processes)] for rank in range(processes)]
    assert np.concatenate(parts).tolist() == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(InputError, match=f"a part has only {count} images: use {count} or fewer"):
        rank_slice(count, 0, count + 1)


@pytest.mark.parametrize(("batch", "sizes"), [(7, [7] * 5), (8, [8] * 5), (64, [40])])
def test_an_epoch_holds_every_image_at_most_once_in_batches_of_one_size(train, batch, sizes):
    found = epoch(train, batch=batch)
    assert [len(batch) for batch in found] == sizes
    assert batches_per_epoch(train, batch) == len(sizes)
    assert len(set(np.concatenate([batch.rows for batch in found]))) == sum(sizes)


def test_order_depends_on_seed_and_epoch_alone(train):
    torch.manual_seed(1)
    first = epoch(train)
    torch.manual_seed(2)
    np.random.seed(3)  # noqa: NPY002 - a global state that must not matter
    assert same(first, epoch(train))
    assert not same(first, epoch(train, seed=1))
    assert not same(first, epoch(train, number=1))
    assert not same(epoch(train, seed=1), epoch(train, number=1))


@pytest.mark.parametrize("start", range(6))
def test_an_epoch_continues_with_the_same_batches(train, start):
    assert same(epoch(train)[start:], epoch(train, start=start))


def test_flips_differ_between_images_and_epochs(train):
    assert not any(batch.mirror.any() for batch in epoch(train, flip=False))
    found = [epoch(train, number=number) for number in range(2)]
    mirrored = [{int(row) for batch in batches for row in batch.rows[batch.mirror]} for batches in found]
    assert mirrored[0] != mirrored[1]
    assert all(10 < len(rows) < 30 for rows in mirrored)


def test_every_level_survives_the_way_to_the_model_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(normalize(levels)), levels)
    assert normalize(levels).aminmax() == (-1, 1)
    images = levels.numpy().reshape(1, 8, 8, 4)[..., :3]
    assert to_input(images, CPU).shape == (1, 3, 8, 8)
    np.testing.assert_array_equal(to_images(to_input(images, CPU)), images)


def test_to_uint8_clips_and_rounds_to_the_nearest_level():
    values = torch.tensor([-7.0, 7.0, 100.4 / 127.5 - 1, 100.6 / 127.5 - 1])
    assert to_uint8(values).tolist() == [0, 255, 100, 101]
    assert to_uint8(values.bfloat16())[:2].tolist() == [0, 255]


def test_files_are_opened_read_only(packed):
    """Those of DVC's cache may not be written to."""
    assert PackedDataset(packed / "train").shards["hr"][0].file.mode == "rb"


def test_a_truncated_file_is_named(packed, train):
    path = packed / "train" / "hr-000.npy"
    shard = train.shards["hr"][0]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert train.images("hr", np.array([38])).any()
    with pytest.raises(OSError, match=r"hr-000\.npy is cut off"):
        train.images("hr", np.array([39]))
    assert shard.shape == (40, 24, 24, 3)


def test_length_and_labels_read_no_other_annotation(labelled, monkeypatch):
    read, columns = pd.read_csv, []
    monkeypatch.setattr(
        pd, "read_csv", lambda *a, **options: columns.append(options.get("usecols")) or read(*a, **options)
    )
    assert (len(labelled), len(labelled.labels)) == (40, 40)
    assert columns == [["id", "odd"]]


def test_a_missing_part_or_damaged_manifest_says_what_to_run(tmp_path, packed):
    with pytest.raises(InputError, match=r"nowhere holds no packed images: run the downsample stage \("):
        PackedDataset(tmp_path / "nowhere")
    (packed / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"manifest\.json is empty or damaged: make it again \(dvc repro"):
        _ = PackedDataset(packed / "train").digest


@pytest.mark.parametrize("free", [10, 10**9])
def test_batches_from_copies_are_those_of_the_files(packed, monkeypatch, free):
    """On the CPU, in place of a CUDA device with that many bytes free."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(dataset, "COPIED", 7)
    files, copied = PackedDataset(packed / "train"), PackedDataset(packed / "train")
    copied.copy_to(CPU)
    assert set(copied.copies) == ({"lr", "hr"} if free > 10 else set())
    plain = [Batch(part, np.array([8, 3]), CPU) for part in (files, copied)]
    found = [list(shuffled(part, 4, CPU, seed=0, epoch=0, flip=True)) for part in (files, copied)]
    for one, other in zip(*found, strict=True):
        assert one.hr.stride() == other.hr.stride()
    assert same(*found)
    assert same(plain[:1], plain[1:])
