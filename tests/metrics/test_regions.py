"""Regions of faces whose place is known, and maps that lie in them by construction."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitpipe.metrics.regions import EYE, FACE, MOUTH, NOSE, REGIONS, lift, lift_over, mass, pointing, regions

FACE_AT = np.array([[[80, 80], [120, 80], [100, 102], [84, 120], [116, 120]]], dtype=float)  # eyes 40 apart, mouth 40
EYES, NOSE_AT, MOUTH_AT, BACKGROUND = range(4)


def at(shares: torch.Tensor, region: int, x: float, y: float, cell: float = 4) -> float:
    grid = int(shares.shape[-1] ** 0.5)
    return float(shares[0, region, int(y // cell) * grid + int(x // cell)])


def test_places_of_a_face():
    shares = regions(FACE_AT, 200, 50)
    assert shares.shape == (1, 4, 2500)
    assert list(REGIONS) == ["eyes", "nose", "mouth", "background"]
    for region, x, y in ((EYES, 80, 80), (EYES, 120, 80), (NOSE_AT, 100, 98), (MOUTH_AT, 100, 120), (BACKGROUND, 3, 3)):
        inside = [at(shares, other, x, y) for other in range(4)]
        assert inside == [float(other == region) for other in range(4)], REGIONS[region]
    for x, y in ((100, 60), (100, 140), (70, 105)):  # forehead, chin, cheek
        assert [at(shares, region, x, y) for region in range(4)] == [0, 0, 0, 0]


def test_areas_are_those_of_the_ellipses():
    """Semi-axes in units of 40 pixels along both axes; face and nose are cut by what counts before."""
    area = regions(FACE_AT, 200, 50).sum(-1)[0] * 16
    ellipse = [math.pi * 40**2 * a * b for a, b in (EYE, NOSE, MOUTH, FACE)]
    assert float(area[EYES]) == pytest.approx(2 * ellipse[0], rel=0.01)
    assert float(area[MOUTH_AT]) == pytest.approx(ellipse[2], rel=0.01)
    assert 0.9 * ellipse[1] < float(area[NOSE_AT]) <= ellipse[1] * 1.01
    assert float(area[BACKGROUND]) == pytest.approx(200**2 - ellipse[3], rel=0.01)


@given(st.integers(0, 2**31), st.sampled_from([(24, 4), (24, 8), (64, 4), (30, 5)]))
def test_shares_are_shares_and_regions_are_disjoint(seed, sides):
    size, grid = sides
    landmarks = np.random.default_rng(seed).uniform(-5, size + 5, (3, 5, 2))
    shares = regions(landmarks, size, grid)
    found = shares[shares.isfinite().all(-1).all(-1)]
    assert (found >= 0).all()
    assert (found.sum(1) <= 1 + 1e-6).all()


@pytest.mark.parametrize("by", [(8, 0), (-12, 4), (0, 16)])
def test_regions_move_with_the_landmarks(by):
    before, after = regions(FACE_AT, 200, 50), regions(FACE_AT + np.array(by), 200, 50)
    for region in range(3):
        rolled = before[0, region].reshape(50, 50).roll((by[1] // 4, by[0] // 4), (0, 1))
        torch.testing.assert_close(after[0, region].reshape(50, 50), rolled)


def test_regions_follow_a_larger_a_tilted_and_a_stretched_face():
    base = regions(FACE_AT, 200, 50)[0]
    large = regions(FACE_AT * 2, 400, 50)[0]
    torch.testing.assert_close(large, base, atol=0.2, rtol=0)
    turn = (FACE_AT - 100)[..., ::-1] * np.array([-1, 1]) + 100  # a quarter turn: (x, y) to (-y, x)
    turned = regions(turn, 200, 50)[0].reshape(4, 50, 50)
    torch.testing.assert_close(torch.rot90(base.reshape(4, 50, 50), -1, (1, 2)), turned, atol=0.1, rtol=0)
    flat = regions(FACE_AT * np.array([1, 0.5]), 200, 50)[0].sum(-1)
    torch.testing.assert_close(flat[:3], base.sum(-1)[:3] / 2, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    "broken",
    [
        np.full((5, 2), np.nan),
        np.full((5, 2), 7.0),
        np.stack([np.arange(5), np.arange(5)], 1),
        FACE_AT[0] * [1, np.nan],
    ],
)
def test_no_frame_is_nan_and_leaves_the_other_images(broken):
    shares = regions(np.concatenate([broken[None], FACE_AT]), 200, 10)
    assert shares[0].isnan().all()
    torch.testing.assert_close(shares[1:], regions(FACE_AT, 200, 10))


def test_images_are_cut_into_batches_that_change_nothing(monkeypatch):
    faces = FACE_AT + np.arange(5)[:, None, None]
    whole = regions(faces, 200, 10)
    monkeypatch.setattr("vitpipe.metrics.regions.AT_ONCE", 2 * 120 * 120)
    assert torch.equal(regions(faces, 200, 10), whole)


SHARES = torch.tensor([[[1.0, 0.5, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]])


def one_map(*values: float) -> torch.Tensor:
    return torch.tensor(values)[None, None, None]


def test_measures_of_maps_by_hand():
    found = one_map(0.5, 0.2, 0.3, 0.0)
    assert mass(found, SHARES).flatten().tolist() == pytest.approx([0.6, 0.1, 0, 0.3])
    lifts = lift(found, SHARES).flatten()
    assert lifts[[0, 1, 3]].tolist() == pytest.approx([0.6 / 0.375, 0.1 / 0.125, 0.3 / 0.5])
    assert lifts[2].isnan()
    over = lift_over(found.repeat(2, 1, 1, 1), one_map(0.0, 0.5, 0.5, 0.0), SHARES.repeat(2, 1, 1))
    assert over[1].flatten()[[0, 1, 3]].tolist() == pytest.approx([0.6 / 0.25, 0.1 / 0.25, 0.3 / 0.5])
    assert over[1].flatten()[2].isnan()
    background = [
        float(lift_over(map, one_map(1, 0, 0, 0), SHARES).flatten()[3]) for map in (found, one_map(0, 1, 0, 0))
    ]
    assert background == [100, 1]  # nothing is expected there
    assert pointing(found, SHARES).flatten().tolist() == [1, 0, 0, 0]
    assert pointing(one_map(0.1, 0.9, 0, 0), SHARES).flatten().tolist() == [0.5, 0.5, 0, 0]


def test_uniform_map_is_one_everywhere_and_points_by_chance():
    uniform = torch.full((1, 1, 1, 4), 0.25)
    torch.testing.assert_close(lift(uniform, SHARES).flatten()[[0, 1, 3]], torch.ones(3))
    torch.testing.assert_close(pointing(uniform, SHARES), mass(uniform, SHARES))
    almost = uniform * (1 + 2e-7 * torch.arange(4))  # one digit of float32 apart
    torch.testing.assert_close(pointing(almost, SHARES), mass(uniform, SHARES))


def test_map_of_zeros_points_nowhere():
    nothing = torch.zeros(1, 1, 1, 4)
    assert mass(nothing, SHARES).sum() == pointing(nothing, SHARES).sum() == 0


def test_images_layers_and_heads_are_kept_apart():
    maps = torch.eye(4).reshape(2, 1, 2, 4)
    shares = torch.cat([SHARES, SHARES.flip(1)])
    found = mass(maps, shares)
    assert found.shape == (2, 1, 2, 4)
    assert found[0, 0, 1].tolist() == [0.5, 0.5, 0, 0]
    assert found[1, 0, 0].tolist() == [1, 0, 0, 0]
