"""Gradients are drawn over the image that they belong to, and the number that scales each is printed under it."""

import numpy as np
import pytest

from vitpipe.figures.pixels import pixels


def test_maps_lie_over_the_image_of_their_id_and_their_scale_stands_under_them(make, axes_of):
    arrays = make("pixels")
    figure = pixels(arrays)
    axes, places = axes_of(figure), {text.get_text(): text.get_position() for text in figure.texts}
    for i, sample in enumerate(arrays["ids"]):
        np.testing.assert_array_equal(axes[f"image: {sample}"].images[0].get_array(), arrays["images"][i])
        box = axes[f"image: {sample}"].get_position()
        assert box.y0 < places[sample][1] < box.y1
        for method in ("gradient", "smooth"):
            full = np.percentile(arrays[method][i], 99)
            plain = axes[f"{method}: {sample}"].images[0]
            np.testing.assert_allclose(plain.get_array(), arrays[method][i] / full)
            grey, paint = axes[f"{method} over the image: {sample}"].images
            np.testing.assert_allclose(grey.get_array(), arrays["images"][i] @ [0.299, 0.587, 0.114])
            np.testing.assert_allclose(paint.get_array(), arrays[method][i] / full)
            assert paint.get_extent() == grey.get_extent()
            assert plain.get_clim() == paint.get_clim() == (0, 1)
            box = axes[f"{method}: {sample}"].get_position()
            x, y = places[f"full colour at {full:.2e}".replace("e-", "e−")]
            assert x == pytest.approx(box.x0)
            assert box.y0 - 0.02 < y < box.y0


def test_a_gradient_of_zero_draws_black(make, axes_of):
    arrays = make("pixels", images=1)
    figure = pixels(arrays | {"gradient": 0 * arrays["gradient"]})
    assert (axes_of(figure)["gradient: b.png"].images[0].get_array() == 0).all()
