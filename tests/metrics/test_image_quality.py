"""Image quality against scikit-image and against hand-computed cases."""

import json

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vitpipe.errors import InputError
from vitpipe.metrics.image_quality import PROTOCOL, PSNR_CAP, WINDOW, blur, image_quality, window_means

SCALE = 4


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """(7, 40, 48, 3): smooth targets, and predictions with noise that grows with the index."""
    random = np.random.default_rng(0)
    wave = np.sin(np.linspace(0, 6, 40))[:, None] + np.cos(np.linspace(0, 9, 48))
    target = 128 + 55 * wave[..., None] * random.uniform(0.5, 1, (7, 1, 1, 3))
    noise = random.normal(0, 1, target.shape) * np.arange(1, 8)[:, None, None, None] * 4
    return np.clip(target + noise, 0, 255).astype(np.uint8), np.clip(target, 0, 255).astype(np.uint8)


def reference_ssim(prediction: np.ndarray, target: np.ndarray, **kwargs) -> float:
    return structural_similarity(
        prediction, target, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, **kwargs
    )


def test_agrees_with_scikit_image(pair):
    prediction, target = pair
    values = image_quality(prediction, target, SCALE)
    inner = np.s_[SCALE:-SCALE, SCALE:-SCALE]
    for i, (x, y) in enumerate(zip(prediction, target, strict=True)):
        x_luma, y_luma = rgb2ycbcr(x)[..., 0][inner], rgb2ycbcr(y)[..., 0][inner]
        assert values["psnr"][i] == pytest.approx(peak_signal_noise_ratio(y, x), abs=1e-4)
        assert values["psnr_y"][i] == pytest.approx(peak_signal_noise_ratio(y_luma, x_luma, data_range=255), abs=1e-4)
        assert values["ssim"][i] == pytest.approx(reference_ssim(x, y, channel_axis=-1), abs=1e-4)
        assert values["ssim_y"][i] == pytest.approx(reference_ssim(x_luma, y_luma), abs=1e-4)


@pytest.mark.parametrize("shape", [(11, 11), (12, 42), (43, 74), (75, 200)])
def test_means_over_windows_do_not_depend_on_the_parts_they_are_computed_in(shape):
    image = np.random.default_rng(0).uniform(0, 255, (2, 3, *shape)).astype(np.float32)
    whole = window_means(shape[0]).astype(float) @ image @ window_means(shape[1]).astype(float).T
    assert blur(image).shape == (2, 3, shape[0] - WINDOW + 1, shape[1] - WINDOW + 1)
    np.testing.assert_allclose(blur(image), whole, rtol=1e-5)


def test_values_by_hand():
    target = np.full((1, 24, 24, 3), 100, np.uint8)
    values = image_quality(target + 10, target, SCALE)
    assert values["mse"][0] == pytest.approx((20 / 255) ** 2)
    assert values["mse01"][0] == pytest.approx((10 / 255) ** 2)
    assert values["psnr"][0] == pytest.approx(20 * np.log10(25.5))
    assert values["psnr_y"][0] == pytest.approx(20 * np.log10(25.5 * 255 / 219), abs=1e-4)  # Y spans 219 levels
    assert values["ssim"][0] == pytest.approx((2 * 110 * 100 + 6.5025) / (110**2 + 100**2 + 6.5025), abs=1e-4)


def test_border_counts_for_rgb_only(pair):
    target = pair[1]
    prediction = target.copy()
    prediction[:, :SCALE] ^= 255
    prediction[:, :, -SCALE:] ^= 255
    values = image_quality(prediction, target, SCALE)
    assert (values["psnr"] < 20).all()
    assert (values["psnr_y"] == PSNR_CAP).all()


def test_equal_images_are_valid_json(pair):
    values = image_quality(pair[1], pair[1], SCALE)
    assert json.dumps({k: v.mean() for k, v in values.items()}, allow_nan=False)
    assert (values["mse"] == 0).all()
    assert (values["psnr"] == PSNR_CAP).all()
    assert values["ssim"] == pytest.approx(1)
    assert values["ssim_y"] == pytest.approx(1)


def test_batches_change_nothing():
    random = np.random.default_rng(1)
    prediction, target = random.integers(0, 256, (2, 5, 512, 640, 3), dtype=np.uint8)  # three images a batch
    together = image_quality(prediction, target, SCALE)
    for i in (0, 3, 4):
        alone = image_quality(prediction[i : i + 1], target[i : i + 1], SCALE)
        for name, value in alone.items():
            assert value.shape == (1,)
            assert value[0] == pytest.approx(together[name][i], rel=1e-6)


def test_protocol_names_every_measure(pair):
    assert set(image_quality(*pair, SCALE)) <= set(PROTOCOL)


def test_too_small_images_are_refused():
    image = np.zeros((1, 18, 18, 3), np.uint8)
    with pytest.raises(InputError, match=r"18x18 .* data\.size 19 or more"):
        image_quality(image, image, 4)
    large = np.zeros((1, 19, 19, 3), np.uint8)
    assert image_quality(large, large, 4)["ssim_y"] == pytest.approx(1)


def test_wrong_arrays_are_refused():
    image = np.zeros((2, 24, 24, 3), np.uint8)
    with pytest.raises(ValueError, match="must both be"):
        image_quality(image[:1], image, SCALE)
    with pytest.raises(ValueError, match="uint8"):
        image_quality(image / 255, image, SCALE)
