import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitpipe.config import Data
from vitpipe.data.split import PARTS, split
from vitpipe.errors import InputError

SEEDS = st.integers(0, 2**31 - 1)
SAMPLES = st.lists(st.text("abc/0123.é", min_size=1, max_size=12), min_size=200, max_size=260, unique=True)


def data(**changes) -> Data:
    return Data(name="celeba", **changes)


def samples(names, **columns) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(list(names), name="id"))


def numbered(count: int) -> list[str]:
    return [f"{number:06d}.jpg" for number in range(count)]


@given(SAMPLES, SEEDS, st.randoms(use_true_random=False))
def test_disjoint_complete_and_independent_of_order(names, seed, random):
    table = split(samples(names), data(), seed)
    assert sorted(table.index) == sorted(names)  # each once, so in exactly one part
    assert set(table["part"]) == set(PARTS)
    shuffled = random.sample(names, len(names))
    pd.testing.assert_frame_equal(split(samples(shuffled), data(), seed), table)


@given(SAMPLES, SEEDS, st.integers(100, 190))
def test_growth_moves_no_image(names, seed, before):
    small = split(samples(names[:before]), data(test=0.3, val=0.3), seed)
    grown = split(samples(names), data(test=0.3, val=0.3), seed)
    assert (grown.loc[small.index, "part"] == small["part"]).all()


@given(SEEDS, st.integers(200, 400), st.integers(0, 100))
def test_count_keeps_images_when_the_set_grows_or_the_count_does(seed, count, more):
    names = numbered(500)
    few = split(samples(names), data(count=count), seed)
    assert len(few) == count
    assert set(few.index) <= set(split(samples(names), data(count=count + more), seed).index)
    fewer = split(samples(names[:-50]), data(count=count), seed)
    left = set(few.index) - set(names[-50:])
    assert left <= set(fewer.index)  # what was chosen and is still there is chosen again
    both = few.index.intersection(fewer.index)
    assert (few.loc[both, "part"] == fewer.loc[both, "part"]).all()


def test_count_is_no_prefix_and_independent_of_the_part():
    table = split(samples(numbered(10_000)), data(count=2000), 0)
    assert table.index[-1] > "009900.jpg"
    assert table["part"].value_counts(normalize=True)["test"] == pytest.approx(0.1, abs=0.02)


def test_shares_are_those_of_the_settings():
    share = split(samples(numbered(20_000)), data(), 0)["part"].value_counts(normalize=True)
    assert share["test"] == pytest.approx(0.1, abs=0.01)
    assert share["val"] == pytest.approx(0.09, abs=0.01)
    assert share["train"] == pytest.approx(0.81, abs=0.01)


def test_another_seed_gives_another_split():
    parts = [split(samples(numbered(1000)), data(), seed)["part"] for seed in (0, 1)]
    assert 0.2 < (parts[0] != parts[1]).mean() < 0.5


def test_neighbours_are_independent():
    test = split(samples(numbered(20_000)), data(), 0)["part"] == "test"
    assert (test & test.shift(1, fill_value=False)).mean() == pytest.approx(0.01, abs=0.003)


@given(SEEDS)
def test_no_person_in_two_parts(seed):
    names = numbered(600)
    people = [number % 150 for number in range(600)]
    table = split(samples(names, identity=people), data(split="identity", test=0.2, val=0.2), seed)
    assert len(table) == 600
    assert (table.groupby("identity")["part"].nunique() == 1).all()


def test_identity_is_stable_under_growth():
    people = [number // 4 for number in range(800)]
    grown = split(samples(numbered(800), identity=people), data(split="identity"), 3)
    small = split(samples(numbered(400), identity=people[:400]), data(split="identity"), 3)
    assert (grown.loc[small.index, "part"] == small["part"]).all()


def test_official_parts_are_kept_as_they_are():
    official = ["train", "val", "test"] * 4
    table = split(samples(numbered(12), official=official, Male=[1] * 12), data(split="official"), 0)
    assert list(table["part"]) == official
    assert list(table.columns) == ["part", "Male"]


OFFICIAL = ["test" if number % 5 == 0 else "train" for number in range(2000)]


@given(SEEDS)
def test_official_parts_without_val_give_a_share_of_train(seed):
    official = pd.Series(OFFICIAL, numbered(2000))
    part = split(samples(numbered(2000), official=OFFICIAL), data(split="official", val=0.25), seed)["part"]
    assert ((part == "test") == (official == "test")).all()
    assert (part == "val").sum() == pytest.approx(400, abs=90)  # of 1,600; five standard deviations


def test_that_share_is_stable_under_growth_and_order():
    whole = split(samples(numbered(2000), official=OFFICIAL), data(split="official"), 0)["part"]
    small = split(samples(numbered(500), official=OFFICIAL[:500]), data(split="official"), 0)["part"]
    assert (whole[small.index] == small).all()
    turned = samples(reversed(numbered(2000)), official=OFFICIAL[::-1])
    pd.testing.assert_series_equal(split(turned, data(split="official"), 0)["part"], whole)
    assert (split(turned, data(split="official"), 1)["part"] != whole).sum() > 100


def test_identities_of_own_pictures_are_missing():
    with pytest.raises(InputError, match=r"12 of 12 in data\.name folder have none: use data\.split random"):
        split(samples(numbered(12)), Data(name="folder", split="identity"), 0)


@pytest.mark.parametrize("kind", ["official", "identity"])
def test_missing_annotation_is_counted(kind):
    with pytest.raises(InputError, match=f"data.split {kind} needs the {kind}( part)? of every image, but 12 of 12"):
        split(samples(numbered(12)), data(split=kind), 0)
    partly = samples(numbered(4), **{kind: ["train", None, "val", "test"]})
    with pytest.raises(InputError, match=r"but 1 of 4 in data\.name celeba have none: use data\.split random"):
        split(partly, data(split=kind), 0)


def test_empty_part_stops_with_the_counts():
    with pytest.raises(InputError, match=r"leaves a part empty \(train 3, val 0, test 0 of 3 images\)"):
        split(samples("abc"), data(), 0)
    with pytest.raises(InputError, match=r"official leaves a part empty \(train 2, val 0, test 1 of 3 images\)"):
        split(samples("abc", official=["train", "train", "test"]), data(split="official"), 0)
    with pytest.raises(InputError, match="leaves a part empty"):
        split(samples(numbered(100), identity=[7] * 100), data(split="identity"), 0)


def test_no_images_at_all():
    with pytest.raises(InputError, match="leaves a part empty"):
        split(samples([]), data(), 0)
