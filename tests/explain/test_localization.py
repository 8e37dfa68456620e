"""Images, landmarks and maps move together, heads are chosen by their lifts, and intervals hold what they should."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vitpipe.explain import localization
from vitpipe.explain.encoders import attention_batches
from vitpipe.explain.localization import (
    Faces,
    faces,
    head_lifts,
    head_maps,
    maps_of,
    mean_ratio,
    move,
    move_length,
    scores,
    shift_control,
    survives,
    visible,
)
from vitpipe.metrics.attention import received
from vitpipe.metrics.regions import regions
from vitpipe.models.vit import ViT
from vitpipe.sources import LANDMARKS

FACE = np.array([[18, 18], [30, 18], [24, 24], [20, 28], [28, 28]], dtype=float)


@pytest.fixture
def model(made):
    return made()[1]


def some_faces(count: int = 8) -> Faces:
    images = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return Faces(np.arange(count), images, np.repeat(FACE[None], count, 0), 48, "annotated")


def test_faces_are_the_images_with_landmarks(test, monkeypatch):
    monkeypatch.setattr(localization, "LEAST", 2)
    samples = test.samples
    samples.iloc[3, samples.columns.get_loc("nose_x")] = np.nan
    samples.iloc[7, samples.columns.get_loc("landmarks")] = "mean"
    found = faces(test, np.array([3, 4, 9]))
    assert found.rows.tolist() == [1, 2]
    assert (found.size, found.note) == (24, "annotated")
    np.testing.assert_array_equal(found.images, test.images("lr", np.array([4, 9])))
    row = samples.iloc[9]
    assert found.landmarks[1, 0].tolist() == [row["lefteye_x"], row["lefteye_y"]]
    assert found.landmarks[1, 4].tolist() == [row["rightmouth_x"], row["rightmouth_y"]]
    assert faces(test, np.array([6, 7])).note == "mean"
    assert faces(test, np.array([3, 4])) is None
    del samples[LANDMARKS[0]]
    assert faces(test, np.arange(12)) is None


def test_some_faces_keep_what_belongs_together(test):
    whole = faces(test, np.arange(12))
    few = whole.some(3)
    last = len(whole.rows) - 1
    assert few.rows.tolist() == whole.rows[[0, round(last / 2), last]].tolist()
    np.testing.assert_array_equal(few.images, test.images("lr", few.rows))
    assert whole.some(99).rows.tolist() == whole.rows.tolist()


def test_maps_sum_to_one_and_are_those_of_the_token_that_the_head_reads(made, test):
    images = test.images("lr", np.arange(4))
    for name in ("supersample", "classify"):
        _, model = made(name)
        weights = next(attention_batches(model, images))
        expected = received(weights) if name == "supersample" else weights[..., 0, 1:]
        torch.testing.assert_close(maps_of(model, images), expected / expected.sum(-1, keepdim=True))
    registers: Any = SimpleNamespace(encoder=ViT(size=8, patch=4, channels=1, dim=8, depth=1, heads=2, registers=1))
    assert head_maps(torch.eye(5).expand(1, 1, 1, 5, 5), registers).shape == (1, 1, 1, 4)
    assert head_maps(torch.eye(5).expand(1, 1, 1, 5, 5), registers).sum() == 0


def test_images_move_by_whole_pixels_and_their_edge_is_replicated():
    images = np.arange(54).reshape(2, 3, 3, 3)
    right = move(images, 1, 0)
    np.testing.assert_array_equal(right[:, :, 1:], images[:, :, :2])
    np.testing.assert_array_equal(right[:, :, 0], images[:, :, 0])
    up = move(images, 0, -2)
    np.testing.assert_array_equal(up, np.repeat(images[:, 2:], 3, axis=1))
    np.testing.assert_array_equal(move(images, 0, 0), images)
    sides = (3, 4, 5, 6, 12, 24)  # of patches; faces move by half the distance of the eyes at least
    assert [move_length(FACE[None], side) for side in sides] == [2, 2, 2, 1, 1, 1]


def test_regions_that_hardly_any_image_shows_are_left_out():
    seen = torch.ones(9, 4, 5)
    seen[7:, 3] = 0  # seven images show background
    assert visible(seen, torch.ones(8, 4, 5)) == ["eyes", "nose", "mouth"]
    assert visible(torch.ones(8, 4, 5), seen) == ["eyes", "nose", "mouth"]
    seen[7, 3] = 1
    assert visible(torch.ones(8, 4, 5), seen)[-1] == "background"
    maps = torch.full((9, 1, 1, 5), 0.2)
    assert np.isfinite(head_lifts(maps, seen)).all()  # of the image that shows it


def test_scores_of_a_head_are_means_over_the_faces_that_show_the_region():
    maps = torch.tensor([[0.5, 0.5, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0]])[:, None, None]
    shares = torch.zeros(3, 4, 4)
    shares[:2, 2, 0] = 1  # the mouth is the first token, and the third face has none
    alone = torch.tensor([[[[0.5, 0.25, 0.25, 0]]]])
    found = scores(maps, alone, shares, "mouth", (0, 0), seed=0)
    assert (found["mass"], found["lift"], found["pointing"]) == (0.75, 3, 0.75)
    assert (found["lift_low"], found["lift_high"], found["lift_place"]) == (2, 4, 2)
    content = [found[f"lift_content{end}"] for end in ("", "_low", "_high")]
    assert content == pytest.approx([1.5, 1, 2])


def test_ratio_of_means_not_mean_of_ratios():
    above, below = np.array([[4.0, 2.0], [4.0, 4.0]]), np.array([[1.0, 2.0], [1.0, 1.0]])
    assert mean_ratio(above, below).tolist() == pytest.approx([2, 4])
    assert mean_ratio(np.zeros((2, 2)), np.zeros((2, 2))).tolist() == [1, 1]
    assert mean_ratio(above, np.zeros((2, 2))).tolist() == [100, 100]


@pytest.mark.parametrize(
    ("by", "valid"), [(0, [(1, 0), (-1, 0), (0, 1), (0, -1)]), (9, [(-1, 0), (0, -1)])], ids=["middle", "corner"]
)
def test_moved_map_and_region_by_hand(model, monkeypatch, by, valid):
    """Eyes 12 HR pixels apart, patches of 12: each face moves one patch, where that leaves it inside. A planted
    map, which changes with the first move, says where the function asked."""
    asked: list = []
    still, after = torch.rand(2, 16, generator=torch.Generator().manual_seed(0))

    def seen(model, images):
        asked.append(images)
        return (still if len(asked) == 1 else after).expand(len(images), 2, 2, 16)

    monkeypatch.setattr(localization, "maps_of", seen)
    found = replace(some_faces(), landmarks=some_faces().landmarks + by)
    follows = shift_control(model, found, {"eyes": (0, 0)}, seed=0)["eyes"]
    moved = [move(found.images, 3 * dx, 3 * dy) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    assert [images.tolist() for images in asked] == [found.images.tolist(), *(images.tolist() for images in moved)]
    shares = [regions(found.landmarks + 12 * np.array(way), 48, 4)[0, 0] for way in valid]
    above, below = (sum(float(maps @ area / area.mean()) for area in shares) for maps in (after, still))
    assert follows["content_lift"] == pytest.approx(above / below, rel=1e-5)


def test_ends_leave_out_a_fortieth_of_resampled_faces_each(model, monkeypatch):
    still, after = torch.rand(2, 40, 16, generator=torch.Generator().manual_seed(0))
    looks = iter([still, *[after] * 4])
    monkeypatch.setattr(localization, "maps_of", lambda *_: next(looks)[:, None, None].expand(-1, 2, 2, -1))
    follows = shift_control(model, some_faces(40), {"eyes": (0, 0)}, seed=0)["eyes"]
    shares = [regions(some_faces(40).landmarks + 12 * np.array(way), 48, 4)[:, 0] for way in localization.DIRECTIONS]
    above, below = (
        sum((maps * area).sum(-1) / area.mean(-1) for area in shares).numpy()  # of each face
        for maps in (after, still)
    )
    drawn = np.random.default_rng(1).integers(40, size=(20_000, 40))
    low, high = np.quantile(above[drawn].mean(1) / below[drawn].mean(1), (0.025, 0.975))
    assert high - low > 0.1
    assert (follows["content_lift_low"], follows["content_lift_high"]) == pytest.approx((low, high), rel=0.01)


def test_faces_that_fill_the_image_have_no_control(model):
    large = replace(some_faces(), landmarks=(some_faces().landmarks - 24) * 2.2 + 24)
    assert shift_control(model, large, {"eyes": (0, 0)}, seed=0) == {}


def test_a_head_survives_above_one_and_above_the_untrained_model():
    numbers = {"lift_low": 1.5, "lift_untrained": 1.1, "content_lift_low": 1.2, "content_lift_untrained": 1.0}
    numbers |= {"lift_content_low": 1.3, "lift_content_untrained": 0.9}
    for same in ({}, {"content_lift_untrained": 0.4}):
        assert survives(numbers | same)
    for worse in (
        {"lift_low": 0.9},
        {"content_lift_low": 1.0},
        {"lift_content_low": 1.0},
        {"lift_content_untrained": 1.4},
        {"lift_untrained": 1.6},
        {"content_lift_untrained": 1.3},
    ):
        assert not survives(numbers | worse)
    assert not survives({name: value for name, value in numbers.items() if name != "content_lift_low"})
