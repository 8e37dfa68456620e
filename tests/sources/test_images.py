import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vitpipe.errors import InputError
from vitpipe.sources.images import (
    DarkImage,
    UnreadableImage,
    comes_out_black,
    decode,
    report_rejects,
    require_size,
    resize,
)

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode: str, colour, kind: str = "PNG", **options) -> bytes:
    return encoded(Image.new(mode, (8, 6), colour), kind, **options)


def grey(values, dtype, kind: str) -> bytes:
    return encoded(Image.fromarray(np.array(values, dtype).reshape(1, -1)), kind)


def palette(colour: tuple[int, int, int], kind: str, **options) -> bytes:
    image = Image.new("P", (8, 6), 1)
    image.putpalette([9, 9, 9, *colour])
    return encoded(image, kind, **options)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (plain("RGB", (10, 200, 30)), (10, 200, 30)),
        (plain("L", 77), (77, 77, 77)),
        (plain("1", 1), (255, 255, 255)),
        (palette((1, 2, 3), "PNG"), (1, 2, 3)),
        (palette((1, 2, 3), "PNG", transparency=1), (255, 255, 255)),
        (palette((1, 2, 3), "PNG", transparency=bytes([255, 0])), (255, 255, 255)),
        (palette((1, 2, 3), "GIF", transparency=1), (255, 255, 255)),
        (plain("RGBA", (200, 100, 0, 0)), (255, 255, 255)),
        (plain("RGBA", (200, 100, 0, 255)), (200, 100, 0)),
        (plain("RGBA", (200, 100, 0, 51)), (244, 224, 204)),  # a fifth of the colour on white
        (plain("LA", (0, 51)), (204, 204, 204)),
        (plain("RGB", (5, 6, 7), transparency=(5, 6, 7)), (255, 255, 255)),
        (plain("L", 5, transparency=5), (255, 255, 255)),
        (plain("CMYK", (0, 0, 0, 0), "JPEG"), (255, 255, 255)),  # Adobe's inverted CMYK
        (plain("CMYK", (0, 255, 255, 0), "TIFF"), (255, 0, 0)),
        (plain("RGB", (10, 200, 30), "WEBP", lossless=True), (10, 200, 30)),
        (plain("RGB", (10, 200, 30), "BMP"), (10, 200, 30)),
        (plain("RGB", (10, 200, 30), "PPM"), (10, 200, 30)),
    ],
)
def test_every_kind_becomes_rgb(content, expected):
    image = decode(content)
    assert image.mode == "RGB"
    assert image.size == (8, 6)
    np.testing.assert_allclose(np.asarray(image).reshape(-1, 3), [expected] * 48, atol=1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (grey([0, 257, 32896, 65535], "uint16", "PNG"), [0, 1, 128, 255]),
        (grey([0, 257, 32896, 65535], "uint16", "TIFF"), [0, 1, 128, 255]),
        (grey([0, 257, 32896, 65535], "int32", "TIFF"), [0, 1, 128, 255]),
        (grey([0, 0.5, 1.0], "float32", "TIFF"), [0, 128, 255]),
        (grey([0, 100.4, 255], "float32", "TIFF"), [0, 100, 255]),
        (grey([-10, 0, 30], "float32", "TIFF"), [0, 64, 255]),
        (grey([-1000, 0, 1000], "int32", "TIFF"), [0, 128, 255]),
        (grey([7e5, 7e5], "float32", "TIFF"), [0, 0]),
    ],
)
def test_deep_greyscale_is_scaled_not_clipped(content, expected):
    assert np.asarray(decode(content))[0].tolist() == [[value] * 3 for value in expected]


def test_infinite_pixels_are_refused():
    with pytest.raises(UnreadableImage, match="infinities"):
        decode(grey([0, np.inf], "float32", "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(kind, orientation):
    """A picture stored as a camera held that way would, with the tag that says so, comes out upright."""
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste("red", (0, 0, 16, 16))
    upright.paste("lime", (32, 0, 48, 16))
    turn = Image.Transpose
    stored = {
        1: upright,
        2: upright.transpose(turn.FLIP_LEFT_RIGHT),
        3: upright.transpose(turn.ROTATE_180),
        4: upright.transpose(turn.FLIP_TOP_BOTTOM),
        5: upright.transpose(turn.TRANSPOSE),
        6: upright.transpose(turn.ROTATE_90),
        7: upright.transpose(turn.TRANSVERSE),
        8: upright.transpose(turn.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"tiffinfo": {ORIENTATION: orientation}} if kind == "TIFF" else {"exif": exif}
    image = decode(encoded(stored, kind, **options))
    assert image.size == (48, 32)
    difference = np.abs(np.asarray(image).astype(int) - np.asarray(upright))
    assert difference.mean() < 12


SIGNED, LONG, TEXT, RATIONAL, SHORT = 10, 4, 2, 5, 3  # types of values in TIFF


def tiff(*entries: tuple[int, int, bytes], gps: tuple[int, int, bytes] | None = None) -> bytes:
    """EXIF as a camera writes it: orientation 6 and entries of tag, type and value, perhaps one of the GPS folder."""
    folder = [(ORIENTATION, SHORT, struct.pack("<HH", 6, 0)), *entries]
    start = 8 + 2 + 12 * (len(folder) + bool(gps)) + 4
    folders, far = [folder], b""
    if gps:
        folders = [[*folder, (0x8825, LONG, struct.pack("<I", start))], [gps]]
        start += 2 + 12 + 4
    made = b"II*\0\x08\0\0\0"
    for rows in folders:
        made += struct.pack("<H", len(rows))
        for tag, kind, value in sorted(rows):
            count = len(value) if kind == TEXT else 1
            made += struct.pack("<HHI", tag, kind, count)
            made += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", start + len(far))
            far += value if len(value) > 4 else b""
        made += bytes(4)
    return b"Exif\0\0" + made + far


@pytest.mark.parametrize(
    "exif",
    [
        tiff(gps=(6, SIGNED, struct.pack("<ii", -12, 1))),
        tiff(gps=(2, TEXT, b"52 deg north\0")),
        tiff((0x011A, SIGNED, struct.pack("<ii", -1, 0))),
        tiff((0x0100, 9, struct.pack("<i", -5))),
        tiff((0x0100, TEXT, b"wide as the sea\0")),
    ],
    ids=["GPSAltitude", "GPSLatitude", "XResolution", "ImageWidth", "text"],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_tags_that_cannot_be_written_again_do_not_keep_a_picture_from_being_turned(kind, exif):
    image = decode(encoded(Image.new("RGB", (48, 32), "red"), kind, exif=exif))
    assert image.size == (32, 48)


def test_damaged_exif_does_not_lose_the_picture():
    assert decode(encoded(Image.new("RGB", (48, 32)), "WEBP", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).size == (48, 32)


def test_png_with_more_text_than_pillow_takes():
    info = PngInfo()
    info.add_text("workflow", "x" * 1_200_000, zip=True)
    info.add_itxt("prompt", "y" * 1_200_000, zip=True)
    content = encoded(noise(), "PNG", pnginfo=info)
    require_size(content, 40)
    assert np.array_equal(np.asarray(decode(content)), np.asarray(noise()))
    with pytest.raises(UnreadableImage, match="is damaged"):
        decode(content[:-2000])


def test_png_with_a_large_colour_profile():
    content = encoded(noise(), "PNG", icc_profile=np.random.default_rng(0).bytes(1_200_000))
    assert np.array_equal(np.asarray(decode(content)), np.asarray(noise()))


def deep_rgb(value: int) -> bytes:
    """A PNG of 3 x 16 bits, which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (b"\0" + struct.pack(">H", value) * 3 * 8) * 8
    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "dark"),
    [
        (grey([0, 100, 255], "uint16", "PNG"), True),
        (grey([0, 100, 4095], "uint16", "PNG"), True),
        (grey([0, 100, 255], "uint16", "TIFF"), True),
        (grey([0, 100, 255], "int32", "TIFF"), True),
        (deep_rgb(4095), True),
        (grey([0, 100, 20_000], "uint16", "PNG"), False),
        (deep_rgb(20_000), False),
        (plain("L", 3), False),
        (plain("RGB", (3, 2, 1)), False),
        (grey([0, 0.01], "float32", "TIFF"), False),
    ],
)
def test_deep_pictures_that_come_out_black_are_told(content, dark):
    with pytest.warns(DarkImage, match="no value above 4095") if dark else warnings.catch_warnings():
        warnings.simplefilter("always" if dark else "error")
        decode(content)
    assert comes_out_black(content) == dark


def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_cut_off_files_are_unreadable(kind):
    content = encoded(noise(), kind)
    for share in (0.0, 0.01, 0.1, 0.5, 0.9):
        with pytest.raises(UnreadableImage):
            decode(content[: int(share * len(content))])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"]), st.integers(0, 2**31), st.binary(max_size=60))
def test_damage_is_told_as_unreadable_or_survived(kind, place, junk):
    content = bytearray(encoded(noise(), kind))
    content[place % len(content) : place % len(content) + len(junk)] = junk
    with warnings.catch_warnings(), contextlib.suppress(UnreadableImage):
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata
        assert decode(bytes(content)).mode == "RGB"


def test_garbage_is_no_picture():
    with pytest.raises(UnreadableImage, match="no picture"):
        decode(b"<html>quota exceeded</html>" * 100)


def test_decompression_bombs_are_refused_before_they_unfold():
    content = encoded(Image.new("1", (16, 16)))
    bomb = content[:16] + struct.pack(">II", 60000, 60000) + content[24:29]
    bomb += struct.pack(">I", zlib.crc32(bomb[12:29])) + content[33:]
    for read in (decode, lambda content: require_size(content, 8)):
        with pytest.raises(UnreadableImage, match="more than"):
            read(bomb)


def test_resize_stretch_and_crop():
    image = noise()
    bicubic = Image.Resampling.BICUBIC
    assert np.array_equal(resize(image, 16, "stretch"), image.resize((16, 16), bicubic))
    assert np.array_equal(resize(image, 16, "crop"), image.crop((5, 0, 45, 40)).resize((16, 16), bicubic))
    tall = image.transpose(Image.Transpose.ROTATE_90)
    assert np.array_equal(resize(tall, 16, "crop"), tall.crop((0, 5, 40, 45)).resize((16, 16), bicubic))


def test_smallest_size():
    content = encoded(noise(), "JPEG")
    require_size(content[:700], 40)
    with pytest.raises(UnreadableImage, match="is 50x40, smaller than the 41x41 target"):
        require_size(content, 41)


def test_rejects_are_listed_counted_and_limited_to_one_percent(tmp_path, capsys):
    report_rejects({}, 10, "photos", tmp_path)
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())
    report_rejects({"a.jpg": "is damaged"}, 100, "photos", tmp_path)
    assert capsys.readouterr().out.startswith("1 of 100 pictures in photos cannot be used")
    assert (tmp_path / "rejects.csv").read_text(encoding="utf-8") == "id,reason\na.jpg,is damaged\n"
    rejects = {f"{name}.jpg": "is 40x40, smaller than the 192x192 target (data.size)" for name in "abcd"}
    with pytest.raises(InputError, match=r"4 of 300 .* a.jpg is 40x40.*; and 1 more: .*lower data.size") as caught:
        report_rejects(rejects, 300, "photos", tmp_path)
    assert "d.jpg" not in str(caught.value)
