"""The look does not leak, and figures come out byte for byte the same."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vitpipe.figures.style import Sheet, enlarge, save, spread, styled


@styled
def picture(pixels: np.ndarray) -> Figure:
    sheet = Sheet(120, 80)
    sheet.panel(10, 20, 48).imshow(pixels, aspect="auto", interpolation="nearest")
    sheet.text(10, 4, "a title")
    return sheet.figure


def test_settings_of_matplotlib_stay_as_they_were(tmp_path):
    before = dict(matplotlib.rcParams)
    save(picture(np.zeros((4, 4))), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before


def test_png_is_the_same_every_time(tmp_path):
    for name in "ab":
        save(picture(np.eye(4)), tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").text == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@styled
def titled(name: str) -> Figure:
    sheet = Sheet(300, 80)
    sheet.title(10, 4, name)
    sheet.axes(100, 40, 190, 20).set_yticks([0], [name])
    return sheet.figure


def test_dollar_signs_in_names_are_no_formula(tmp_path):
    save(titled(r"cost $\frac$ high"), tmp_path / "a.png")


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full_disk(self, target, **_):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(OSError, match="disk full"):
        save(picture(np.eye(4)), path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.png", b"old")]


def test_picture_pixels_land_on_screen_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    save(picture(pixels), tmp_path / "a.png")
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert drawn.shape == (80, 120, 3)
    assert (drawn[22:66, 12:56] == pixels[2:46, 2:46]).all()  # within the frame


def test_enlarge_repeats_whole_pixels():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarge(image, 7)
    assert large.shape == (6, 6, 3)
    assert (large[::3, ::3] == image).all()
    assert (large[2, 2] == image[0, 0]).all()
    assert enlarge(image, 1).shape == image.shape


@pytest.mark.parametrize(("count", "most", "chosen"), [(3, 8, [0, 1, 2]), (1, 4, [0]), (12, 4, [0, 4, 7, 11])])
def test_spread(count, most, chosen):
    assert spread(count, most) == chosen
