"""How close a predicted image is to its target: MSE, PSNR and SSIM.

Numbers in papers differ by up to 1 dB because of rounding, colour space, border and window alone. So `PROTOCOL` says
how each number is measured. It is written with the numbers, inside a list, which DVC leaves out of its tables.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from vitpipe.errors import InputError

Images = NDArray[np.uint8]
Values = NDArray[np.floating]

PSNR_CAP = 100.0
WINDOW, SIGMA = 11, 1.5
PART = 32  # positions of the window that `blur` computes at a time

PROTOCOL = {
    "average": "each measure is taken per image, then averaged over the images",
    "pixels": "RGB rounded to uint8, as they would be saved",
    "mse": "mean squared error over pixels and channels, values scaled to [-1, 1]",
    "mse01": "the same with values scaled to [0, 1]",
    "psnr": f"10 log10(255^2 / MSE) in dB on RGB, no border cropped; at most {PSNR_CAP:g} dB (equal images)",
    "ssim": f"Wang et al. 2004: {WINDOW}x{WINDOW} Gaussian window, sigma {SIGMA}, where it fits wholly into the image, "
    "K1 0.01, K2 0.03, range 255; mean over the RGB channels, no border cropped",
    "psnr_y": "PSNR on Y (ITU-R BT.601, 16 to 235, not rounded), a border of data.scale pixels cropped",
    "ssim_y": "SSIM on the same Y, the same border cropped",
}


def image_quality(prediction: Images, target: Images, scale: int) -> dict[str, Values]:
    """Every measure of `PROTOCOL` for every image.

    Args:
        prediction: (N, H, W, 3) uint8 RGB.
        target: the same shape.
        scale: the super-resolution factor, which is also the border in pixels that `psnr_y` and `ssim_y` leave out.

    Returns:
        mse, mse01, psnr, ssim, psnr_y, ssim_y, each (N,).

    Raises:
        InputError: the images are too small for the SSIM window within the cropped border.
    """
    if prediction.shape != target.shape or prediction.ndim != 4 or prediction.shape[-1] != 3:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} must both be (N, H, W, 3)")
    if prediction.dtype != np.uint8 or target.dtype != np.uint8:
        raise ValueError(f"prediction {prediction.dtype} and target {target.dtype} must both be uint8")
    height, width = target.shape[1:3]
    least = WINDOW + 2 * scale
    if min(height, width) < least:
        raise InputError(
            f"images of {width}x{height} pixels are too small for SSIM: its {WINDOW}x{WINDOW} window and "
            f"a border of {scale} pixels need data.size {least} or more"
        )
    batch = max(1, 2**17 // (height * width))  # few, so that they stay in the processor's cache
    parts = [measure(prediction[i : i + batch], target[i : i + batch], scale) for i in range(0, len(target), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure(prediction: Images, target: Images, scale: int) -> dict[str, Values]:
    """`image_quality` of one batch, all of it in memory at once."""
    x, y = (np.moveaxis(a, -1, 1).astype(np.float32) for a in (prediction, target))  # (N, 3, H, W)
    x_luma, y_luma = (luma(a)[:, None, scale:-scale, scale:-scale] for a in (x, y))  # (N, 1, H-2s, W-2s)
    error = mse(x, y)
    return {
        "mse": error * (2 / 255) ** 2,
        "mse01": error / 255**2,
        "psnr": psnr(error),
        "ssim": ssim(x, y),
        "psnr_y": psnr(mse(x_luma, y_luma)),
        "ssim_y": ssim(x_luma, y_luma),
    }


def luma(rgb: Values) -> Values:
    """Y in 16..235 of RGB in 0..255, (N, 3, H, W) to (N, H, W): ITU-R BT.601 as super-resolution papers use it."""
    red, green, blue = rgb[:, 0], rgb[:, 1], rgb[:, 2]
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def mse(x: Values, y: Values) -> Values:
    """Mean squared difference of each image, (N, C, H, W) to (N,), float64."""
    return np.square(x - y).mean((1, 2, 3), dtype=np.float64)


def psnr(error: Values) -> Values:
    """PSNR in dB of mean squared errors on the 0..255 scale, at most `PSNR_CAP` (JSON knows no infinity)."""
    return np.minimum(PSNR_CAP, 10 * np.log10(255**2 / np.maximum(error, 1e-12)))


def ssim(x: Values, y: Values) -> Values:
    """Structural similarity of each image, values 0..255, (N, C, H, W) to (N,), in -1..1.

    Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    mean_x, mean_y, squares, products = (blur(a) for a in (x, y, x * x + y * y, x * y))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_squares, mean_products = mean_x**2 + mean_y**2, mean_x * mean_y
    similarity = (2 * mean_products + c1) * (2 * (products - mean_products) + c2)
    similarity /= (mean_squares + c1) * (squares - mean_squares + c2)
    return similarity.mean((1, 2, 3), dtype=np.float64)


def blur(image: Values) -> Values:
    """Gaussian means over every whole window, (..., H, W) to (..., H-10, W-10).

    Products with band matrices of some rows or columns at a time, on a CPU many times as fast as a convolution.
    """
    rows = [window_means(part.shape[-2]) @ part for part in overlapping_parts(image, -2)]
    columns = [part @ window_means(part.shape[-1]).T for part in overlapping_parts(np.concatenate(rows, -2), -1)]
    return np.concatenate(columns, -1)


def overlapping_parts(image: Values, axis: int) -> list[Values]:
    """The image in parts along one axis, each with `PART` positions of the window."""
    positions = image.shape[axis] - WINDOW + 1
    starts = range(0, positions, PART)
    return [np.moveaxis(np.moveaxis(image, axis, 0)[i : i + PART + WINDOW - 1], 0, axis) for i in starts]


@cache
def window_means(side: int) -> Values:
    """(side-10, side): row i holds the normalised 1-D window over positions i to i+10."""
    offset = np.arange(side) - np.arange(side - WINDOW + 1)[:, None] - WINDOW // 2
    weight = np.exp(-0.5 * (offset / SIGMA) ** 2) * (abs(offset) <= WINDOW // 2)
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)
