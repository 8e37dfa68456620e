"""Gradients are drawn over the image that they belong to, and the number that scales each is printed under it."""

import numpy as np
import pytest

from vitpipe.figures.pixels import draw, pixels

IDS = ["b.png", "a.png", "c.png"]


def made(f: int = 3, size: int = 16) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    scale = 10.0 ** -np.arange(f)[:, None, None]
    return {
        "ids": np.array([*IDS, "d", "e", "f"][:f]),
        "images": random.integers(0, 256, (f, size, size, 3), dtype=np.uint8),
        "actual": np.array(["cat", "dog", "cat"] * 2)[:f],
        "predicted": np.array(["cat", "cat", "dog"] * 2)[:f],
        "gradient": random.exponential(size=(f, size, size)) * scale,
        "smooth": random.exponential(size=(f, size, size)) * scale / 5,
    }


def axes_of(figure) -> dict:
    return {axes.get_label(): axes for axes in figure.axes}


def test_maps_lie_over_the_image_of_their_id():
    arrays = made()
    axes = axes_of(pixels(arrays))
    for i, sample in enumerate(IDS):
        np.testing.assert_array_equal(axes[f"image: {sample}"].images[0].get_array(), arrays["images"][i])
        for method in ("gradient", "smooth"):
            expected = arrays[method][i] / np.percentile(arrays[method][i], 99)
            plain = axes[f"{method}: {sample}"].images[0]
            np.testing.assert_allclose(plain.get_array(), expected)
            grey, paint = axes[f"{method} over the image: {sample}"].images
            np.testing.assert_allclose(grey.get_array(), arrays["images"][i] @ [0.299, 0.587, 0.114])
            np.testing.assert_allclose(paint.get_array(), expected)
            assert paint.get_extent() == grey.get_extent()
            assert plain.get_clim() == paint.get_clim() == (0, 1)


def test_the_scale_of_every_map_stands_under_it():
    arrays = made()
    figure = pixels(arrays)
    places = {text.get_text(): text.get_position() for text in figure.texts}
    for i, sample in enumerate(IDS):
        for method in ("gradient", "smooth"):
            box = axes_of(figure)[f"{method}: {sample}"].get_position()
            x, y = places[f"full colour at {np.percentile(arrays[method][i], 99):.2e}".replace("e-", "e−")]
            assert x == pytest.approx(box.x0)
            assert box.y0 - 0.02 < y < box.y0
        box = axes_of(figure)[f"image: {sample}"].get_position()
        assert box.y0 < places[sample][1] < box.y1


def test_a_gradient_of_zero_draws_black():
    arrays = made(1)
    arrays["gradient"] *= 0
    shown = axes_of(pixels(arrays))["gradient: b.png"].images[0].get_array()
    assert (shown == 0).all()


@pytest.mark.parametrize(("f", "size"), [(1, 8), (2, 192)])
def test_draw_is_the_same_every_time(f, size, tmp_path):
    arrays = made(f, size)
    captions = draw(arrays, tmp_path / "a")
    assert draw(arrays, tmp_path / "b") == captions
    assert "99th percentile" in captions["pixels.png"]["caption"]
    assert (tmp_path / "a" / "pixels.png").read_bytes() == (tmp_path / "b" / "pixels.png").read_bytes()
