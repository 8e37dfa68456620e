"""From label columns to classes: their order, and one line for every fault."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.labels import class_names, classes, indices, label_counts
from vitpipe.errors import InputError


def counts(train: dict, val: dict | None = None, test: dict | None = None, column: str = "label") -> dict:
    """What the manifest holds of three parts; val and test as train unless given."""
    parts = {"train": train, "val": train if val is None else val, "test": train if test is None else test}
    return {part: {column: of} for part, of in parts.items()}


def message(*args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        classes(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_of_classes_and_their_counts():
    table = pd.DataFrame({"Male": [1, -1, 0, -1], "label": ["cat", None, "dog", "cat"]}, list("abcd"))
    table["size"] = ["big", "small", "big", None]
    assert class_names(table, "Male").tolist() == ["Male", "not Male", "", "not Male"]
    assert label_counts(table) == {
        "Male": {"": 1, "Male": 1, "not Male": 2},
        "label": {"": 1, "cat": 2, "dog": 1},
        "size": {"": 1, "big": 2, "small": 1},
    }


@pytest.mark.parametrize("column", ["label", "species"])
@pytest.mark.parametrize("names", [("10", "9", "cat", "dog"), ("10", "not spam"), ("label", "not label")])
def test_classes_of_images_are_sorted_by_name(names, column):
    assert classes(counts(dict.fromkeys(reversed(names), 2), column=column), column) == names


@pytest.mark.parametrize("name", ["Male", "no_Beard", "5_o_Clock_Shadow"])
def test_not_having_an_attribute_is_class_zero(name):
    assert classes(counts({name: 5, f"not {name}": 5}, column=name), name) == (f"not {name}", name)


def test_indices_follow_the_order_of_classes():
    table = pd.DataFrame({"label": ["b", "a", "c", "b"], "Male": [1, -1, -1, 1]}, list("wxyz"))
    found = indices(table, "label", ("a", "b", "c"))
    assert found.dtype == np.int64
    assert found.tolist() == [1, 0, 2, 1]
    assert indices(table, "Male", ("not Male", "Male")).tolist() == [1, 0, 0, 1]


def test_a_class_may_be_absent_from_val_and_test():
    assert classes(counts({"a": 5, "b": 5}, val={"a": 1}, test={"b": 1}), "label") == ("a", "b")


FEW = {name: {"x": 1} for name in ("Male", "Smiling", "Young")}
MANY = {f"A{number}": {"x": 1} for number in range(10)}
UNKNOWN = "task.target is '{}', but must be one of {}".format
NONE = "task.target is 'label', but the images have no labels at all: put those of each class into a folder of its own"


@pytest.mark.parametrize(
    ("of", "target", "expected"),
    [
        ({"train": FEW}, "Mael", UNKNOWN("Mael", "Male, Smiling, Young (did you mean Male?)")),
        ({"train": FEW}, "beard", UNKNOWN("beard", "Male, Smiling, Young")),
        ({"train": MANY}, "label", UNKNOWN("label", "A0, A1, A2, A3, A4, A5, A6, A7 and 2 more")),
        ({"train": {}}, "label", NONE),
        (
            counts({"a": 5, "b": 5, "": 2}, val={"a": 1, "b": 1}, test={"a": 2, "b": 2, "": 1}),
            "label",
            "3 of 19 images have no label (task.target): label or remove them",
        ),
        (
            counts({"not Male": 9}, column="Male"),
            "Male",
            "all images are of one class, not Male (task.target Male): two or more are needed",
        ),
    ],
)
def test_labels_that_cannot_be_learned_are_told(of, target, expected):
    assert message(of, target) == expected


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_class_with_a_single_picture(part):
    many = {"a": 5, "b": 5}
    of = counts(**{"train": many, "val": many, "test": many} | {part: many | {"lone": 1}})
    assert message(of, "label") == "class 'lone' of label has a single picture: give it more, or remove it"


@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize(("strange", "more"), [({"new": 2}, ""), ({"new": 2, "newer": 3, "newest": 4}, " and 2 more")])
def test_a_class_that_is_not_in_train(part, strange, more):
    of = counts({"a": 5, "b": 5}, **{part: {"a": 1} | strange})
    assert message(of, "label") == (
        f"class 'new'{more} of label occurs in part {part}, but not in train: give more images of it, or split "
        "otherwise (data.split, seed)"
    )


@pytest.mark.parametrize("names", [("007", "08", "1", "1.0", "7"), ("NA", "NaN", "None", "True", "null")])
def test_class_folders_keep_their_names_through_the_stages(tmp_path, stage, names):
    """Names that look like numbers or missing values to a reader of csv files."""
    (tmp_path / "data" / "raw").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "data" / "raw" / "images.zip", "w") as archive:
        for i in range(100):
            buffer = io.BytesIO()
            Image.new("RGB", (24, 24), (i, 0, 0)).save(buffer, "PNG")
            archive.writestr(f"{names[i % 5]}/{i}.png", buffer.getvalue())
    for name in ("split", "downsample"):
        done = stage(name, task="classify", **{"task.target": "label"})
        assert done.returncode == 0, done.stderr
    for part in ("train", "val", "test"):
        packed = PackedDataset(tmp_path / "data" / "packed" / part, "label")
        assert packed.classes == names
        for row, sample in enumerate(packed.samples.index):
            assert packed.classes[packed.labels[row]] == sample.split("/")[0]
            assert packed.images("hr", np.array([row]))[0, 0, 0, 0] == int(sample.split("/")[1].removesuffix(".png"))
    manifest = json.loads((tmp_path / "data" / "packed" / "manifest.json").read_text(encoding="utf-8"))
    assert {name: sum(of["labels"]["label"].get(name, 0) for of in manifest.values()) for name in names} == (
        dict.fromkeys(names, 20)
    )
