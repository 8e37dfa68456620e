"""Reading pictures of any kind: 8-bit RGB, upright, at the size that is wanted."""

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from vitpipe.errors import InputError
from vitpipe.files import write_csv

UNUSABLE_SHARE = 0.01
"""More unusable pictures than this share of all stop a stage: then the data are wrong, not a few files."""

WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held, 1 to 8 (CIPA DC-008, EXIF 2.32, section 4.6.4)."""
TURN = Image.Transpose
UPRIGHT = {
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_270,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_90,
}
"""What brings a picture with that tag upright."""

DARK = 16
"""Largest 8-bit value of a 16-bit picture that holds 12 bits or fewer: 4095 / 257."""

PNG = b"\x89PNG\r\n\x1a\n"
T = TypeVar("T")


class UnreadableImage(Exception):
    """A picture that cannot be used; the message is the reason, in a few words."""


class DarkImage(UserWarning):
    """A 16-bit picture that uses the lowest 12 bits alone, and so comes out black."""


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
        return without_large_texts(decode_opened, content) if isinstance(content, bytes) else to_rgb(content.copy())
    except MemoryError:
        raise
    except Exception as error:  # Pillow's format plugins raise nearly anything on damaged bytes
        raise UnreadableImage(reason(error)) from None


def decode_opened(content: bytes) -> Image.Image:
    """See `decode`. Warns with `DarkImage`."""
    with Image.open(io.BytesIO(content)) as image:
        deep = is_deep(image)
        picture = to_rgb(image)
    if deep and np.max(picture.getextrema()) <= DARK:
        warnings.warn(f"a picture of 16 bits comes out black: {WHY_DARK}", DarkImage, stacklevel=2)
    return picture


WHY_DARK = "it holds no value above 4095 of 65535; stretch its values to 65535, or save it with 8 bits"


def is_deep(image: Image.Image) -> bool:
    """Whether a picture that is opened but not loaded has integers of 16 bits in its file."""
    return image.mode in WIDE_MODES[:-1] or any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def opened_is_deep(content: bytes) -> bool:
    """See `is_deep`."""
    with Image.open(io.BytesIO(content)) as image:
        return is_deep(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """See `decode`."""
    image.load()
    if (turn := UPRIGHT.get(orientation(image))) is not None:
        image = image.transpose(turn)
    if image.mode in WIDE_MODES:
        return to_8_bit(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of a loaded picture, 1 where it has none, or none that can be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF is no reason to lose the picture
        return 1


def without_large_texts(use: Callable[[bytes], T], content: bytes) -> T:
    """`use(content)`; where Pillow refuses the texts or the colour profile of a PNG as too large, without these."""
    try:
        return use(content)
    except ValueError as error:
        if "MAX_TEXT" not in str(error) or not content.startswith(PNG):
            raise
    kept, place = [PNG], len(PNG)
    while place < len(content):
        size = 12 + int.from_bytes(content[place : place + 4], "big")  # length, kind, content, checksum
        if content[place + 4 : place + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(content[place : place + size])
        place += size
    return use(b"".join(kept))


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
        return without_large_texts(size_of, content)
    except Exception as error:
        raise UnreadableImage(reason(error)) from None


def size_of(content: bytes) -> tuple[int, int]:
    """See `picture_size`."""
    with Image.open(io.BytesIO(content)) as image:
        return image.size


def comes_out_black(content: bytes) -> bool:
    """Whether `decode` would warn with `DarkImage`; decodes only pictures of 16 bits."""
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(Exception):
        warnings.simplefilter("always")
        if without_large_texts(opened_is_deep, content):
            decode(content)
    return any(issubclass(warning.category, DarkImage) for warning in caught)


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
