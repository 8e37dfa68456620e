"""Reading pictures of any kind: 8-bit RGB, upright, at the size that is wanted."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vitpipe.errors import InputError
from vitpipe.files import write_csv

UNUSABLE_SHARE = 0.01
"""More unusable pictures than this share of all stop a stage: then the data are wrong, not a few files."""

WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


class UnreadableImage(Exception):
    """A picture that cannot be used; the message is the reason, in a few words."""


def decode(content: bytes | Image.Image) -> Image.Image:
    """The picture in `content`: the bytes of an image file of any format that Pillow reads, or an opened one.

    Greyscale, palette and CMYK are converted to RGB; transparent pixels are blended with white; greyscale of 16 bits
    or floats is scaled to 8 bits, not clipped; the EXIF orientation is applied. Of an animation the first frame is
    read.

    Returns:
        An RGB image.

    Raises:
        UnreadableImage: the bytes are damaged, truncated, no picture, or a decompression bomb.
    """
    try:
        image = Image.open(io.BytesIO(content)) if isinstance(content, bytes) else content.copy()
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode in WIDE_MODES:
            return to_8_bit(image)
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            white = Image.new("RGBA", layer.size, "white")
            return Image.alpha_composite(white, layer).convert("RGB")
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow's format plugins raise nearly anything on damaged bytes
        raise UnreadableImage(reason(error)) from None


def require_size(content: bytes, size: int) -> None:
    """Checks by the header of an image file that its short side has at least `size` pixels.

    Raises:
        UnreadableImage: it has not, Pillow knows no such header, or it announces a decompression bomb.
    """
    width, height = picture_size(content)
    if min(width, height) < size:
        raise UnreadableImage(f"is {width}x{height}, smaller than the {size}x{size} target (data.size)")


def picture_size(content: bytes) -> tuple[int, int]:
    """Width and height of the picture in an image file, by its header alone.

    Raises:
        UnreadableImage: Pillow knows no such header, or it announces a decompression bomb.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size
    except Exception as error:
        raise UnreadableImage(reason(error)) from None


def resize(image: Image.Image, size: int, fit: str) -> Image.Image:
    """`image` at size x size pixels by Pillow's antialiased bicubic (a = -0.5).

    Args:
        image: RGB, any size.
        size: side of the result in pixels.
        fit: "stretch" changes the aspect ratio; "crop" takes the largest square in the centre.
    """
    if fit == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return image.resize((size, size), Image.Resampling.BICUBIC)


def report_rejects(rejects: dict[str, str], total: int, where: str, folder: Path) -> None:
    """Writes rejected pictures, if there are any, to `folder`/rejects.csv and counts them on the terminal.

    Args:
        rejects: reason by sample id.
        total: number of all pictures.
        where: the place they come from, for the message.

    Raises:
        InputError: more than 1 % of all pictures are rejected.
    """
    if not rejects:
        return
    first = "; ".join(f"{sample} {reason}" for sample, reason in list(rejects.items())[:3])
    more = f"; and {len(rejects) - 3} more" if len(rejects) > 3 else ""
    summary = f"{len(rejects)} of {total} pictures in {where} cannot be used"
    if len(rejects) > UNUSABLE_SHARE * total:
        remedy = "remove or replace them" + (", or lower data.size" if "data.size" in first else "")
        raise InputError(f"{summary}, more than {UNUSABLE_SHARE:.0%}: {first}{more}: {remedy}")
    write_csv(folder / "rejects.csv", [{"id": sample, "reason": reason} for sample, reason in rejects.items()])
    print(f"{summary} and are left out (see rejects.csv): {first}{more}")


def to_8_bit(image: Image.Image) -> Image.Image:
    """Greyscale with more than 8 bits as RGB.

    Integers from 0 to 65535 are divided by 257, floats from 0 to 1 multiplied by 255, floats from 0 to 255 kept. Any
    other range has no agreed meaning and is stretched from its own minimum to its own maximum.
    """
    pixels = np.asarray(image).astype(np.float64)
    low, high = np.nanmin(pixels), np.nanmax(pixels)
    if not np.isfinite([low, high]).all():
        raise ValueError("holds infinities")
    white: float = 65535 if image.mode != "F" else 1 if high <= 1 else 255
    if low < 0 or high > white:
        pixels, white = pixels - low, float(high - low) or 1
    return Image.fromarray(np.rint(np.nan_to_num(pixels * (255 / white))).astype(np.uint8)).convert("RGB")


def reason(error: Exception) -> str:
    """Why a picture cannot be read, in one line that follows its name."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "is no picture in a known format"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"has more than {Image.MAX_IMAGE_PIXELS} pixels"
    return f"is damaged: {' '.join(str(error).split()) or type(error).__name__}"
