"""A part of the data reads what a pretrained encoder made of its images, and knows who is in them."""

import numpy as np
import pandas as pd
import pytest

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.errors import InputError


@pytest.fixture
def vectors(packed) -> np.ndarray:
    """What the stage features leaves for the validation part, (8, 5)."""
    made = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    (packed.parent / "features").mkdir()
    np.save(packed.parent / "features/val.npy", made)
    return made


def test_features_of_rows_in_any_order(packed, vectors):
    found = PackedDataset(packed / "val").images("features", np.array([7, 0, 7, 3]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors[[7, 0, 7, 3]])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"features/val\.npy is missing: the stage features makes it \(dvc repro features\)"),
        (np.zeros((9, 5), np.float32), r"val\.npy holds 9 images, but .*packed/val 8: run dvc repro features"),
        (b"", r"val\.npy is empty or damaged: make it again"),
        (b"\x93NUMPY\x01", r"val\.npy is empty or damaged: make it again"),
    ],
)
def test_features_that_do_not_fit_are_refused(packed, vectors, content, told):
    path = packed.parent / "features/val.npy"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(InputError, match=told):
        PackedDataset(packed / "val").images("features", np.array([0]))


def test_file_that_is_cut_off_is_told(packed, vectors):
    path = packed.parent / "features/val.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"val\.npy is empty or damaged"):
        PackedDataset(packed / "val").images("features", np.array([7]))


@pytest.mark.parametrize(
    ("identity", "persons"),
    [
        ([12, 3, 12, 3, 3, 7, 7, 12], [0, 1, 0, 1, 1, 2, 2, 0]),
        (["b", "a", "b", "a", "a", "c", "c", "b"], [0, 1, 0, 1, 1, 2, 2, 0]),
        ([12, 3, 12, 3, 3, 7, 7, None], None),  # not of every image
        (None, None),
    ],
)
def test_persons_are_numbered_where_all_are_known(tmp_path, table, shapes, settings, identity, persons):
    rows = table[table["part"] == "val"]
    rows = rows.drop(columns="identity") if identity is None else rows.assign(identity=identity)
    others = table[table["part"] != "val"].groupby("part").head(1)
    pack(pd.concat([rows, others]), shapes, settings().data, tmp_path / "new")
    found = PackedDataset(tmp_path / "new/val").persons
    assert (found if found is None else found.tolist()) == persons
