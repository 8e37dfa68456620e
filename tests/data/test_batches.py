import io

import numpy as np
import pandas as pd
import pytest
import torch

from vitpipe.data import batches
from vitpipe.data.batches import Batch, batches_per_epoch, in_order, shuffled, evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.data.pixels import to_uint8, normalize
from vitpipe.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture
def train(packed) -> PackedDataset:
    return PackedDataset(packed / "train")


@pytest.fixture
def labelled(tmp_path, settings, shapes, table) -> PackedDataset:
    """The pictures of `train`, where `odd` is 1 or -1."""
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
    assert train.scale == 2
    np.testing.assert_array_equal(batch.hr[0].permute(1, 2, 0), train.images("hr", np.array([5]))[0])
    np.testing.assert_array_equal(batch.lr[1].permute(1, 2, 0), train.images("lr", np.array([2]))[0])


def test_labels_are_those_of_the_rows(labelled):
    assert labelled.classes == ("not odd", "odd")
    for batch in [*in_order(labelled, 16, CPU), *epoch(labelled)]:
        assert batch.labels.dtype == torch.int64
        assert batch.labels.tolist() == [int(labelled.samples.index[row][:3]) % 2 for row in batch.rows]


def test_mirrored_are_those_rows_that_are_named(train):
    rows = np.array([3, 9, 1])
    plain = Batch(train, rows, CPU)
    mirrored = Batch(train, rows, CPU, np.array([True, False, True]))
    for name in ("lr", "hr"):
        one, other = getattr(plain, name), getattr(mirrored, name)
        assert torch.equal(other, torch.stack([one[0].flip(-1), one[1], one[2].flip(-1)]))
        assert not torch.equal(other[0], one[0])


def test_only_what_is_asked_for_is_read(train, monkeypatch):
    taken = []
    take = PackedDataset.take
    monkeypatch.setattr(PackedDataset, "take", lambda self, name, rows: taken.append(name) or take(self, name, rows))
    batch = Batch(train, np.array([0]), CPU)
    assert taken == []
    assert batch.lr is batch.lr
    assert taken == ["lr"]


@pytest.mark.parametrize(("count", "rows"), [(1, [0]), (3, [0, 20, 39]), (40, range(40)), (99, range(40))])
def test_spread_reaches_from_the_first_to_the_last(train, count, rows):
    assert evenly_spaced(train, count).tolist() == list(rows)


def test_in_order_gives_every_image_once(train):
    batches = list(in_order(train, 16, CPU))
    assert [len(batch.lr) for batch in batches] == [16, 16, 8]
    np.testing.assert_array_equal(np.concatenate([batch.rows for batch in batches]), np.arange(40))


def test_an_epoch_holds_every_image_at_most_once(train):
    rows = np.concatenate([batch.rows for batch in epoch(train, batch=7)])
    assert len(rows) == len(set(rows)) == 35
    assert batches_per_epoch(train, 7) == 5
    assert sorted(np.concatenate([batch.rows for batch in epoch(train, batch=8)])) == list(range(40))


def test_fewer_images_than_a_batch_are_one_batch(train):
    assert [len(batch.rows) for batch in epoch(train, batch=64)] == [40]
    assert batches_per_epoch(train, 64) == 1


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
def test_going_on_gives_the_same_batches(train, start):
    assert same(epoch(train)[start:], epoch(train, start=start))


def test_flips_mirror_input_and_target_together(train):
    plain, flipped = epoch(train, flip=False), epoch(train)
    patterns = set()  # which places of a batch are mirrored
    for a, b in zip(plain, flipped, strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)
        swapped = [not torch.equal(a.hr[i], b.hr[i]) for i in range(8)]
        patterns.add(tuple(swapped))
        for i, swap in enumerate(swapped):
            assert torch.equal(a.hr[i].flip(-1) if swap else a.hr[i], b.hr[i])
            assert torch.equal(a.lr[i].flip(-1) if swap else a.lr[i], b.lr[i])
    assert len(patterns) > 3
    assert 10 < sum(map(sum, patterns)) < 30


def test_flips_change_from_epoch_to_epoch(train):
    def flipped(number):
        pairs = zip(epoch(train, number=number), epoch(train, number=number, flip=False), strict=True)
        return {int(r) for a, b in pairs for i, r in enumerate(a.rows) if not torch.equal(a.hr[i], b.hr[i])}

    assert flipped(0) != flipped(1)


def test_uint8_survives_the_way_to_unit_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(normalize(levels)), levels)
    assert normalize(levels).aminmax() == (-1, 1)


def test_to_uint8_clips_and_rounds_to_the_nearest_level():
    values = torch.tensor([-7.0, 7.0, 100.4 / 127.5 - 1, 100.6 / 127.5 - 1])
    assert to_uint8(values).tolist() == [0, 255, 100, 101]
    assert to_uint8(values.bfloat16())[:2].tolist() == [0, 255]


def test_files_are_opened_read_only(packed):
    """Those of DVC's cache may not be written to."""
    for path in (packed / "train").iterdir():
        path.chmod(0o444)
    shard = PackedDataset(packed / "train").shards["hr"][0]
    assert shard.file.mode == "rb"
    with pytest.raises(io.UnsupportedOperation):
        shard.file.write(b"x")


def test_what_is_cut_off_is_told(packed, train):
    path = packed / "train" / "hr-000.npy"
    shard = train.shards["hr"][0]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert train.images("hr", np.array([38])).any()
    with pytest.raises(OSError, match=r"hr-000\.npy is cut off"):
        train.images("hr", np.array([39]))
    assert shard.shape == (40, 24, 24, 3)


def test_the_number_of_images_and_their_labels_need_no_other_annotation(labelled, monkeypatch):
    read, columns = pd.read_csv, []
    monkeypatch.setattr(
        pd, "read_csv", lambda *a, **options: columns.append(options.get("usecols")) or read(*a, **options)
    )
    assert (len(labelled), len(labelled.labels)) == (40, 40)
    assert columns == [["id", "odd"]]


def test_missing_part_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match=r"test holds no packed images: run the downsample stage \("):
        PackedDataset(tmp_path / "test")


def test_a_damaged_manifest_says_what_to_run(packed):
    (packed / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json is empty or damaged: make it again \(dvc repro"):
        _ = PackedDataset(packed / "train").digest


@pytest.mark.parametrize("free", [10, 10**9])
def test_batches_from_copies_are_those_of_the_files(packed, monkeypatch, free):
    """On the CPU, which stands for a CUDA device with so many bytes free."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(batches, "COPIED", 7)
    files, copied = PackedDataset(packed / "train"), PackedDataset(packed / "train")
    copied.copy_to(CPU)
    assert set(copied.copies) == ({"lr", "hr"} if free > 10 else set())
    found = [[*shuffled(part, 4, CPU, seed=0, epoch=0, flip=True), *in_order(part, 5, CPU)] for part in (files, copied)]
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.lr, other.lr)
        assert torch.equal(one.hr, other.hr)
        assert one.hr.stride() == other.hr.stride()
