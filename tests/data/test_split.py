import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitpipe.config import Data
from vitpipe.data.split import PARTS, split
from vitpipe.errors import InputError

SEEDS = st.integers(0, 2**31 - 1)


@st.composite
def random_names(draw) -> list[str]:
    """Between 200 and 260 different names; drawing each by Hypothesis takes ten times as long."""
    random = draw(st.randoms(use_true_random=True))
    return list(dict.fromkeys("".join(random.choices("abc/0123.é", k=random.randint(3, 12))) for _ in range(260)))


def data(**changes) -> Data:
    return Data(name="celeba", **changes)


def samples(names, **columns) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(list(names), name="id"))


def numbered(count: int) -> list[str]:
    return [f"{number:06d}.jpg" for number in range(count)]


@settings(max_examples=30)
@given(random_names(), SEEDS, st.randoms(use_true_random=False))
def test_disjoint_complete_and_independent_of_order(names, seed, random):
    table = split(samples(names), data(), seed)
    assert sorted(table.index) == sorted(names)  # each once, so in exactly one part
    assert set(table["part"]) == set(PARTS)
    pd.testing.assert_frame_equal(split(samples(random.sample(names, len(names))), data(), seed), table)


@settings(max_examples=30)
@given(random_names(), SEEDS, st.integers(100, 190))
def test_more_images_move_none(names, seed, before):
    small = split(samples(names[:before]), data(test=0.3, val=0.3), seed)
    grown = split(samples(names), data(test=0.3, val=0.3), seed)
    assert (grown.loc[small.index, "part"] == small["part"]).all()


@settings(max_examples=30)
@given(SEEDS, st.integers(200, 400), st.integers(0, 100))
def test_count_keeps_its_images_when_the_set_or_the_count_grows(seed, count, more):
    names = numbered(500)
    few = split(samples(names), data(count=count), seed)
    assert len(few) == count
    assert set(few.index) <= set(split(samples(names), data(count=count + more), seed).index)
    fewer = split(samples(names[:-50]), data(count=count), seed)
    assert set(few.index) - set(names[-50:]) <= set(fewer.index)
    both = few.index.intersection(fewer.index)
    assert (few.loc[both, "part"] == fewer.loc[both, "part"]).all()


def test_count_takes_images_from_everywhere_and_every_part():
    table = split(samples(numbered(10_000)), data(count=2000), 0)
    assert table.index[-1] > "009900.jpg"
    assert table["part"].value_counts(normalize=True)["test"] == pytest.approx(0.1, abs=0.02)


def test_shares_are_those_of_the_settings_and_neighbours_are_independent():
    part = split(samples(numbered(20_000)), data(), 0)["part"]
    share = part.value_counts(normalize=True)
    assert [share[name] for name in PARTS] == pytest.approx([0.81, 0.09, 0.1], abs=0.01)
    test = part == "test"
    assert (test & test.shift(1, fill_value=False)).mean() == pytest.approx(0.01, abs=0.003)
    assert 0.2 < (part != split(samples(numbered(20_000)), data(), 1)["part"]).mean() < 0.5


@settings(max_examples=30)
@given(SEEDS)
def test_no_person_in_two_parts_also_when_the_set_grows(seed):
    people = [number % 150 for number in range(600)]
    table = split(samples(numbered(600), identity=people), data(split="identity", test=0.2, val=0.2), seed)
    assert len(table) == 600
    assert (table.groupby("identity")["part"].nunique() == 1).all()
    small = split(samples(numbered(400), identity=people[:400]), data(split="identity", test=0.2, val=0.2), seed)
    assert (table.loc[small.index, "part"] == small["part"]).all()


def test_official_parts_are_kept():
    official = ["train", "val", "test"] * 4
    table = split(samples(numbered(12), official=official, Male=[1] * 12), data(split="official"), 0)
    assert list(table["part"]) == official
    assert list(table.columns) == ["part", "Male"]


OFFICIAL = ["test" if number % 5 == 0 else "train" for number in range(2000)]


@settings(max_examples=30)
@given(SEEDS)
def test_without_val_a_share_of_train_becomes_it(seed):
    official = pd.Series(OFFICIAL, numbered(2000))
    part = split(samples(numbered(2000), official=OFFICIAL), data(split="official", val=0.25), seed)["part"]
    assert ((part == "test") == (official == "test")).all()
    assert (part == "val").sum() == pytest.approx(400, abs=90)  # of 1,600; five standard deviations


def test_that_share_depends_on_the_seed_but_not_on_other_images_or_the_order():
    whole = split(samples(numbered(2000), official=OFFICIAL), data(split="official"), 0)["part"]
    small = split(samples(numbered(500), official=OFFICIAL[:500]), data(split="official"), 0)["part"]
    assert (whole[small.index] == small).all()
    turned = samples(reversed(numbered(2000)), official=OFFICIAL[::-1])
    pd.testing.assert_series_equal(split(turned, data(split="official"), 0)["part"], whole)
    assert (split(turned, data(split="official"), 1)["part"] != whole).sum() > 100


@pytest.mark.parametrize("kind", ["official", "identity"])
def test_missing_annotation_is_counted(kind):
    with pytest.raises(InputError, match=f"data.split {kind} needs the {kind}( part)? of every image, but 12 of 12"):
        split(samples(numbered(12)), data(split=kind), 0)
    partly = samples(numbered(4), **{kind: ["train", None, "val", "test"]})
    with pytest.raises(InputError, match=r"but 1 of 4 in data\.name celeba have none: use data\.split random"):
        split(partly, data(split=kind), 0)


@pytest.mark.parametrize(
    ("names", "columns", "kind", "counts"),
    [
        ("abc", {}, "random", "train 3, val 0, test 0 of 3"),
        ("abc", {"official": ["train", "train", "test"]}, "official", "train 2, val 0, test 1 of 3"),
        (numbered(100), {"identity": [7] * 100}, "identity", "train 0, val 0, test 100 of 100"),
        ("", {}, "random", "train 0, val 0, test 0 of 0"),
    ],
)
def test_an_empty_part_stops_with_the_counts(names, columns, kind, counts):
    with pytest.raises(InputError, match=rf"{kind} leaves a part empty \({counts} images\)"):
        split(samples(names, **columns), data(split=kind), 0)


def few(seed: int, shots: int | None, target: str = "label", count: int = 400) -> pd.DataFrame:
    """Images of the classes a (a half), b (a quarter), c, d and e."""
    names = numbered(count)
    label = ["a" if n % 2 else "b" if n % 4 else "cde"[n // 4 % 3] for n in range(count)]
    columns = {"label": label, "Male": [1 if n % 20 else -1 for n in range(count)]}
    return split(samples(names, **columns), data(shots=shots), seed, target)


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 60), st.integers(0, 20))
def test_shots_leave_a_few_training_images_of_each_class(seed, shots, more):
    whole, table, wider = few(seed, None), few(seed, shots), few(seed, shots + more)
    before = whole[whole["part"] == "train"]["label"].value_counts()
    after = table[table["part"] == "train"]["label"].value_counts()
    assert after.to_dict() == before.clip(upper=shots).to_dict()
    pd.testing.assert_frame_equal(table[table["part"] != "train"], whole[whole["part"] != "train"])
    assert set(table.index) <= set(wider.index) <= set(whole.index)
    assert table.index.is_monotonic_increasing


def test_shots_depend_on_the_seed_and_not_on_the_order_of_images():
    train = few(0, 5).query("part == 'train'")
    assert set(train.index) != set(few(1, 5).query("part == 'train'").index)
    rows = train.index[train["label"] == "a"]
    assert rows[-1] > "000200.jpg"  # not the first ones
    smaller = few(0, 5, count=300).query("part == 'train'")
    assert {name for name in train.index if name < "000300.jpg"} <= set(smaller.index)


def test_shots_count_the_classes_of_the_target():
    train = few(0, 3, target="Male").query("part == 'train'")
    assert train["Male"].value_counts().to_dict() == {1: 3, -1: 3}


@pytest.mark.parametrize(
    ("columns", "target", "message"),
    [
        ({"label": ["x", None] * 50}, "label", r"data.shots is 2, but \d+ of \d+ training images have no label"),
        ({"Male": [1, 0] * 50}, "Male", r"training images have no Male \(task.target\): label or remove them, or use"),
        ({"Male": [1, -1] * 50}, "Mael", r"task.target is 'Mael', but must be one of Male \(did you mean Male\?\)"),
        ({"identity": [1, 2] * 50, "official": ["train"] * 100}, "label", "the images have no labels at all"),
    ],
)
def test_shots_need_a_label_of_every_training_image(columns, target, message):
    with pytest.raises(InputError, match=message) as caught:
        split(samples(numbered(100), **columns), data(shots=2), 0, target)
    assert "\n" not in str(caught.value)
