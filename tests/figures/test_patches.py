"""The pieces are those of the image, and the numbers are the encoder's."""

import numpy as np
import pytest
import torch

from vitpipe.figures.patches import MOST, apart, numbered, patches
from vitpipe.figures.style import enlarge, save
from vitpipe.models.patches import patchify


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (12, 8, 3), dtype=np.uint8)


def axes_of(figure) -> dict:
    return {axes.get_label(): axes for axes in figure.axes}


def texts(figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


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


def test_strips_are_moved_one_way_only(image):
    rows, columns = apart(image, 4, 2, 0), apart(image, 4, 0, 2)
    np.testing.assert_array_equal(np.delete(rows, [4, 5, 10, 11], axis=0), image)
    np.testing.assert_array_equal(np.delete(columns, [4, 5], axis=1), image)
    np.testing.assert_array_equal(apart(image, 4, 0, 0), image)


def test_steps_show_the_image_on_whole_pixels(image, tmp_path):
    figure = patches(image, 4, "a.png")
    shown = axes_of(figure)
    save(figure, tmp_path / "a.png")
    for axes in shown.values():
        pixels = axes.images[0].get_array()
        box = axes.get_window_extent()
        assert (round(box.width), round(box.height)) == (pixels.shape[1], pixels.shape[0])
    side = shown["image"].images[0].get_array().shape[0]
    large = enlarge(image, side)
    patch, gap = side // 3, round((shown["patches"].images[0].get_array().shape[0] - side) / 2)
    assert gap > 0
    for name, gaps in (
        ("image", (0, 0)),
        ("horizontal strips", (gap, 0)),
        ("vertical strips", (0, gap)),
        ("patches", (gap, gap)),
    ):
        np.testing.assert_array_equal(shown[name].images[0].get_array(), apart(large, patch, *gaps))


def test_numbers_stand_in_the_middle_of_their_tokens(image):
    axes = axes_of(patches(image, 4, "a.png"))["token index"]
    pixels = axes.images[0].get_array()
    tokens = patchify(torch.from_numpy(image).permute(2, 0, 1)[None], 4)[0]
    side = pixels.shape[0] // 3
    assert [text.get_text() for text in axes.texts] == ["0", "1", "2", "3", "4", "5"]
    for text in axes.texts:
        x, y = text.get_position()
        left, top = round(x + 0.5 - side / 2), round(y + 0.5 - side / 2)
        under = pixels[top : top + side, left : left + side]
        token = tokens[int(text.get_text())].reshape(3, 4, 4).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(under, enlarge(token, side))
    outlines = axes.collections[0].get_paths()
    corners = {tuple(path.vertices.min(axis=0)) for path in outlines}
    assert corners == {(column * side - 0.5, row * side - 0.5) for row in range(3) for column in range(2)}


def test_count_and_class_token_are_said(image):
    bare = texts(patches(image, 2, "a.png"))
    assert "24 tokens = 6 × 4 patches of 2×2 pixels, row by row; token 0 top left" in bare
    assert "class token" not in bare
    assert "What a patch is: a.png" in bare
    assert "the class token comes before them and is not counted here" in texts(
        patches(image, 2, "a.png", class_token=True)
    )


def test_of_many_patches_the_border_is_numbered():
    assert numbered(3, 4, 5.0) == list(range(12))
    assert numbered(12, 12, 0.5) == list(range(MOST))
    many = numbered(16, 16, 0.9)
    assert many == sorted({*range(16), *range(0, 256, 16), 255})
    assert numbered(32, 32, 1.5) == sorted({*range(0, 32, 2), *range(0, 1024, 64), 1023})
    figure = patches(np.zeros((32, 32, 3), np.uint8), 2, "a.png")
    assert [int(text.get_text()) for text in axes_of(figure)["token index"].texts] == many
    assert "not every number is written" in texts(figure)


@pytest.mark.parametrize(("side", "patch"), [(8, 2), (8, 8), (28, 4), (32, 1), (192, 16)])
def test_everything_lies_on_the_sheet_and_apart(side, patch, tmp_path):
    figure = patches(np.zeros((side, side, 3), np.uint8), patch, "holiday/2019/summer/IMG_000123.jpg", True)
    save(figure, tmp_path / "a.png")
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [artist.get_window_extent() for artist in (*figure.texts, *figure.axes)]
    assert all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    numbers = [text.get_window_extent() for text in axes_of(figure)["token index"].texts]
    assert not any(one.overlaps(other) for i, one in enumerate(numbers) for other in numbers[:i])


def test_patch_must_divide_the_image(image):
    with pytest.raises(AssertionError, match="patch 5 must divide the image 12x8"):
        patches(image, 5, "a.png")
