"""The pieces are those of the image, and the numbers are the encoder's."""

import numpy as np
import pytest
import torch

from vitpipe.figures.patches import MOST, apart, numbered, patches
from vitpipe.figures.style import save
from vitpipe.models.patches import patchify


@pytest.fixture
def image(make) -> np.ndarray:
    return make("patches")["image"]


def enlarged(image: np.ndarray, height: int) -> np.ndarray:
    factor = height // len(image)
    return image.repeat(factor, 0).repeat(factor, 1)


def test_tiles_are_the_tokens_of_the_encoder(image):
    tokens = patchify(torch.from_numpy(image).permute(2, 0, 1)[None], 4)[0]
    pieces = apart(image, 4, 3, 1)
    assert pieces.shape == (12 + 2 * 3, 8 + 1, 3)
    for token in range(6):
        row, column = divmod(token, 2)
        tile = pieces[row * 7 : row * 7 + 4, column * 5 : column * 5 + 4]
        np.testing.assert_array_equal(tile, tokens[token].reshape(3, 4, 4).permute(1, 2, 0))
    assert (pieces[4:7] == 255).all()
    assert (pieces[:, 4] == 255).all()


def test_steps_show_the_image_on_whole_pixels(make, axes_of, image):
    shown = axes_of(patches(make("patches")))
    for axes in shown.values():
        pixels = axes.images[0].get_array()
        box = axes.get_window_extent()
        assert (round(box.width), round(box.height)) == (pixels.shape[1], pixels.shape[0])
    side = shown["image"].images[0].get_array().shape[0]
    gap = round((shown["patches"].images[0].get_array().shape[0] - side) / 2)
    assert gap > 0
    steps = {"image": (0, 0), "horizontal strips": (gap, 0), "vertical strips": (0, gap), "patches": (gap, gap)}
    for name, gaps in steps.items():
        expected = apart(enlarged(image, side), side // 3, *gaps)
        np.testing.assert_array_equal(shown[name].images[0].get_array(), expected)


def test_numbers_stand_in_the_middle_of_their_tokens(make, axes_of, image):
    axes = axes_of(patches(make("patches")))["token index"]
    pixels = axes.images[0].get_array()
    tokens = patchify(torch.from_numpy(image).permute(2, 0, 1)[None], 4)[0]
    side = pixels.shape[0] // 3
    assert [text.get_text() for text in axes.texts] == ["0", "1", "2", "3", "4", "5"]
    for text in axes.texts:
        x, y = text.get_position()
        left, top = round(x + 0.5 - side / 2), round(y + 0.5 - side / 2)
        under = pixels[top : top + side, left : left + side]
        token = tokens[int(text.get_text())].reshape(3, 4, 4).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(under, enlarged(token, side))
    outlines = axes.collections[0].get_paths()
    corners = {tuple(path.vertices.min(axis=0)) for path in outlines}
    assert corners == {(column * side - 0.5, row * side - 0.5) for row in range(3) for column in range(2)}


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        (0, ""),
        (1, "; the class token comes before them and is not counted here"),
        (5, "; 5 more tokens come before them and are not counted here"),
    ],
)
def test_count_and_tokens_before_the_patches_are_said(make, texts, prefix, words):
    lines = texts(patches(make("patches", patch=2, prefix=prefix))).split("\n")
    assert lines[:2] == [
        "What a patch is: a.png",
        f"24 tokens = 6 × 4 patches of 2×2 pixels, row by row; token 0 top left{words}",
    ]


def test_of_many_patches_the_border_is_numbered(make, axes_of, texts):
    assert numbered(3, 4, 5.0) == list(range(12))
    assert numbered(12, 12, 0.5) == list(range(MOST))
    many = numbered(16, 16, 0.9)
    assert many == sorted({*range(16), *range(0, 256, 16), 255})
    assert numbered(32, 32, 1.5) == sorted({*range(0, 32, 2), *range(0, 1024, 64), 1023})
    figure = patches(make("patches", size=(32, 32), patch=2))
    assert [int(text.get_text()) for text in axes_of(figure)["token index"].texts] == many
    assert "not every number is written" in texts(figure)


@pytest.mark.parametrize(("side", "patch"), [(8, 2), (8, 8), (28, 4), (32, 1), (192, 16)])
def test_everything_lies_on_the_sheet_and_apart(make, axes_of, tmp_path, side, patch):
    sample = "holiday/2019/summer/IMG_000123.jpg"
    figure = patches(make("patches", size=(side, side), patch=patch, prefix=1, sample=sample))
    save(figure, tmp_path / "a.png")
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [artist.get_window_extent() for artist in (*figure.texts, *figure.axes)]
    assert all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    numbers = [text.get_window_extent() for text in axes_of(figure)["token index"].texts]
    assert not any(one.overlaps(other) for i, one in enumerate(numbers) for other in numbers[:i])


def test_patch_must_divide_the_image(make):
    with pytest.raises(AssertionError, match="patch 5 must divide the image 12x8"):
        patches(make("patches", patch=5))
