"""Boxes of patches, and the points of a face."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitpipe.metrics.grid import query_points, token_at, token_box

SIDES = st.integers(1, 9)


@given(patch=SIDES, columns=SIDES, rows=SIDES)
def test_boxes_cover_every_pixel_once_in_row_major_order(patch, columns, rows):
    owner = np.full((rows * patch, columns * patch), -1)
    for token in range(rows * columns):
        left, top, right, bottom = token_box(token, patch, columns)
        assert (owner[top:bottom, left:right] == -1).all()
        owner[top:bottom, left:right] = token
    assert (owner >= 0).all()
    assert list(owner[::patch, ::patch].ravel()) == list(range(rows * columns))


@given(patch=SIDES, columns=SIDES, rows=SIDES, data=st.data())
def test_token_at_is_the_inverse_of_its_box(patch, columns, rows, data):
    x = data.draw(st.floats(0, columns * patch, exclude_max=True))
    y = data.draw(st.floats(0, rows * patch, exclude_max=True))
    left, top, right, bottom = token_box(token_at(x, y, patch, columns, rows), patch, columns)
    assert left <= x < right
    assert top <= y < bottom


@pytest.mark.parametrize(
    ("point", "token"), [((-5, -5), 0), ((99, -5), 3), ((-0.1, 99), 8), ((99, 99), 11), ((12, 0), 3), ((5.9, 9), 9)]
)
def test_points_outside_count_as_on_the_border(point, token):
    assert token_at(*point, patch=3, columns=4, rows=3) == token


def test_points_of_a_face_or_of_any_image():
    sample = pd.Series({"lefteye_x": 5.0, "lefteye_y": 6.0, "leftmouth_x": 4.0, "leftmouth_y": 18.0})
    sample = pd.concat([sample, pd.Series({"rightmouth_x": 8.0, "rightmouth_y": 20.0, "landmarks": "annotated"})])
    face = {"eye": (5, 6), "mouth": (6, 19), "background": (1, 1)}
    assert query_points(sample, 24) == face
    noted = {name: name if name == "background" else f"{name} (mean landmark)" for name in face}
    mean = sample.copy()
    mean["landmarks"] = "mean"
    assert query_points(mean, 24) == {noted[name]: point for name, point in face.items()}
    plain = {"centre": (12, 12), "corner": (1, 1)}
    hole = sample.copy()
    hole["leftmouth_x"] = np.nan
    for missing in (None, sample.drop("lefteye_x"), hole):
        assert query_points(missing, 24) == plain
