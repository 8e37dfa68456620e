"""Every panel shows the image its label and its place say."""

import numpy as np
import pytest

from vitpipe.figures.gallery import gallery, hero, shortened
from vitpipe.figures.style import enlarge

IDS = ["b.jpg", "a.jpg", "c.jpg"]


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    return {"lr": small} | {
        name: random.integers(0, 256, (3, 24, 24, 3), dtype=np.uint8) for name in ("bicubic", "model", "hr")
    }


def panels(figure) -> dict[str, np.ndarray]:
    return {axes.get_label(): axes.images[0].get_array() for axes in figure.axes if axes.images}


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_gallery_panels_belong_to_their_ids(images):
    shown = panels(gallery(**images, ids=IDS, psnr_bicubic=[1, 2, 3], psnr_model=[4, 5, 6], title="t"))
    for i, sample in enumerate(IDS):
        assert (shown[f"input 6×6: {sample}"] == enlarge(images["lr"][i], 24)).all()
        assert (shown[f"bicubic: {sample}"] == images["bicubic"][i]).all()
        assert (shown[f"model: {sample}"] == images["model"][i]).all()
        assert (shown[f"target 24×24: {sample}"] == images["hr"][i]).all()
        for name in ("bicubic", "model"):
            error = abs(images[name][i].astype(int) - images["hr"][i]).mean(-1)
            np.testing.assert_allclose(shown[f"error of {name}: {sample}"], error, rtol=1e-6)
    assert len(shown) == 18


def test_gallery_rows_and_columns(images):
    figure = gallery(**images, ids=IDS, psnr_bicubic=[1, 2, 3], psnr_model=[4, 5, 6], title="t")
    place = {axes.get_label(): axes.get_position() for axes in figure.axes}
    row = [place[f"{name}: a.jpg"] for name in ("input 6×6", "bicubic", "model", "target 24×24", "error of model")]
    assert len({box.y0 for box in row}) == 1
    assert [box.x0 for box in row] == sorted(box.x0 for box in row)
    assert place["model: b.jpg"].y0 > place["model: a.jpg"].y0 > place["model: c.jpg"].y0


def test_error_maps_share_one_printed_scale(images):
    figure = gallery(**images, ids=IDS, psnr_bicubic=[1, 2, 3], psnr_model=[4, 5, 6], title="t")
    maps = [axes.images[0] for axes in figure.axes if axes.get_label().startswith("error")]
    errors = [abs(images[name].astype(int) - images["hr"]).mean(-1) for name in ("bicubic", "model")]
    assert len(maps) == 6
    [(low, high)] = {image.get_clim() for image in maps}
    assert (low, high) == (0, pytest.approx(np.percentile(errors, 99.5)))
    bar = next(axes for axes in figure.axes if axes.get_label() == "colour bar")
    assert bar.get_xlim() == (low, high)
    above = 100 * np.mean(np.array(errors) > high)  # 17 of 3456 pixels
    assert any(f"; {above:.2g} % lie above {high:.0f}" in text for text in texts(figure))


def test_psnr_and_gain_are_printed(images):
    figure = gallery(**images, ids=IDS, psnr_bicubic=[27.5, 30, 25], psnr_model=[30.25, 29.5, 25], title="Best")
    assert {"Best", "27.50 dB", "30.25 dB", "+2.75", "−0.50", "+0.00", *IDS} <= set(texts(figure))


def test_ids_keep_to_their_image(images):
    figure = gallery(**images, ids=["0" * 60, *"ab"], psnr_bicubic=[1, 2, 3], psnr_model=[4, 5, 6], title="t")
    [box] = [text.get_window_extent() for text in figure.texts if "000" in text.get_text()]
    assert box.x1 <= figure.axes[0].get_window_extent().x1


def test_equal_images_draw(images):
    images = images | {"bicubic": images["hr"], "model": images["hr"]}
    figure = gallery(**images, ids=IDS, psnr_bicubic=[100] * 3, psnr_model=[100] * 3, title="t")
    assert any("; 0 % lie above 1" in text for text in texts(figure))


def test_hero(images):
    figure = hero(**images, psnr_bicubic=[27, 28, 29], psnr_model=[30, 31, 31])
    shown = panels(figure)
    for i in range(3):
        assert (shown[f"input: {i}"] == enlarge(images["lr"][i], 24)).all()
        assert (shown[f"model: {i}"] == images["model"][i]).all()
        assert (shown[f"target: {i}"] == images["hr"][i]).all()
    assert [text for text in texts(figure) if "dB" in text] == [
        "Mean PSNR of these 3 images: bicubic 28.0 dB, model 30.7 dB"
    ]


def test_shortened_keeps_the_end():
    assert shortened("000001.jpg") == "000001.jpg"
    assert shortened("holiday/2019/summer/IMG_000123.jpg") == "…9/summer/IMG_000123.jpg"
