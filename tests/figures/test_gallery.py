"""Every panel shows the image that its label and its place say."""

import numpy as np
import pytest

from vitpipe.figures.gallery import BANDS, draw, gallery, hero
from vitpipe.figures.painting import band


@pytest.fixture
def arrays(make) -> dict[str, np.ndarray]:
    """Three images of one band."""
    return {name: values[:3] for name, values in band(make("gallery"), "gallery").items()}


def panels(figure) -> dict[str, np.ndarray]:
    return {axes.get_label(): axes.images[0].get_array() for axes in figure.axes if axes.images}


def test_panels_belong_to_their_ids(arrays):
    figure = gallery(arrays, "t")
    shown = panels(figure)
    names = {"input 6×6": "lr", "bicubic": "bicubic", "model": "model", "target 24×24": "hr"}
    for i, sample in enumerate(arrays["ids"]):
        for name, key in names.items():
            np.testing.assert_array_equal(shown[f"{name}: {sample}"], arrays[key][i])
        for name in ("bicubic", "model"):
            error = abs(arrays[name][i].astype(int) - arrays["hr"][i]).mean(-1)
            np.testing.assert_allclose(shown[f"error of {name}: {sample}"], error, rtol=1e-6)
    assert len(shown) == 18
    place = {axes.get_label(): axes.get_position() for axes in figure.axes}
    row = [place[f"{name}: gallery 1"] for name in (*names, "error of model")]
    assert len({box.y0 for box in row}) == 1
    assert [box.x0 for box in row] == sorted(box.x0 for box in row)
    assert place["model: gallery 0"].y0 > place["model: gallery 1"].y0 > place["model: gallery 2"].y0


def test_error_maps_share_one_printed_scale(arrays, axes_of, texts):
    figure = gallery(arrays, "t")
    maps = [axes.images[0] for axes in figure.axes if axes.get_label().startswith("error")]
    errors = [abs(arrays[name].astype(int) - arrays["hr"]).mean(-1) for name in ("bicubic", "model")]
    assert len(maps) == 6
    [(low, high)] = {image.get_clim() for image in maps}
    assert (low, high) == (0, pytest.approx(np.percentile(errors, 99.5)))
    assert axes_of(figure)["colour bar"].get_xlim() == (low, high)
    above = 100 * np.mean(np.array(errors) > high)  # 17 of 3456 pixels
    assert f"; {above:.2g} % lie above {high:.0f}" in texts(figure)
    equal = gallery(arrays | {"bicubic": arrays["hr"], "model": arrays["hr"]}, "t")
    assert "; 0 % lie above 1" in texts(equal)


def test_psnr_and_gain_are_printed_and_ids_keep_to_their_image(arrays, texts):
    changes = {"psnr_bicubic": [27.5, 30, 25], "psnr_model": [30.25, 29.5, 25], "ids": np.array(["0" * 60, "a", "b"])}
    figure = gallery(arrays | changes, "Best")
    assert {"Best", "27.50 dB", "30.25 dB", "+2.75", "−0.50", "+0.00", "a", "b"} <= set(texts(figure).split("\n"))
    [box] = [text.get_window_extent() for text in figure.texts if "000" in text.get_text()]
    assert box.x1 <= figure.axes[0].get_window_extent().x1


def test_hero(arrays, texts):
    figure = hero(arrays | {"psnr_bicubic": [27, 28, 29], "psnr_model": [30, 31, 31]})
    shown = panels(figure)
    for i in range(3):
        for name, key in {"input": "lr", "bicubic": "bicubic", "model": "model", "target": "hr"}.items():
            np.testing.assert_array_equal(shown[f"{name}: {i}"], arrays[key][i])
    assert "Mean PSNR of these 3 images: bicubic 28.0 dB, model 30.7 dB" in texts(figure)


def test_every_band_is_drawn_from_its_own_images(make, texts):
    given = make("gallery")
    drawn = {name: figure for name, figure, *_ in draw(given)}
    for name, (title, _) in BANDS.items():
        assert {title, *given[f"{name}_ids"]} <= set(texts(drawn[name]).split("\n"))
        np.testing.assert_array_equal(panels(drawn[name])[f"model: {name} 0"], given[f"{name}_model"][0])
    np.testing.assert_array_equal(panels(drawn["hero"])["model: 3"], given["gallery_model"][3])
    assert len(panels(drawn["hero"])) == 16
