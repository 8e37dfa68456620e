"""Figures are placed to the pixel and written whole; a text takes the room that it is given."""

import numpy as np
import pytest
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from vitpipe.figures.style import Sheet, save, spread, styled
from vitpipe.figures.text import beginning, extent, fitted, shortened


@styled
def picture(pixels: np.ndarray) -> Figure:
    sheet = Sheet(120, 80)
    sheet.picture(10, 20, 48, "picture", pixels)
    sheet.text(10, 4, "a title")
    return sheet.figure


def test_picture_pixels_land_on_screen_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    save(picture(pixels), tmp_path / "a.png")
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert drawn.shape == (80, 120, 3)
    assert (drawn[22:66, 12:56] == pixels[2:46, 2:46]).all()  # within the frame
    save(picture(pixels[:4, :4]), tmp_path / "a.png")
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert (drawn[22:66, 12:56] == pixels[:4, :4].repeat(12, 0).repeat(12, 1)[2:46, 2:46]).all()


def test_pictures_that_are_not_square_keep_their_shape():
    [axes] = picture(np.zeros((2, 4, 3))).axes
    axes.apply_aspect()
    box = axes.get_window_extent()
    assert (box.width, box.height) == pytest.approx((48, 24))


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


@pytest.mark.parametrize(("count", "most", "chosen"), [(3, 8, [0, 1, 2]), (1, 4, [0]), (12, 4, [0, 4, 7, 11])])
def test_spread(count, most, chosen):
    assert spread(count, most) == chosen


def test_texts_are_fitted_to_their_room():
    assert shortened("000001.jpg") == "000001.jpg"
    assert shortened("holiday/2019/summer/IMG_000123.jpg") == "…9/summer/IMG_000123.jpg"
    assert beginning("staffordshire", 6) == "staff…"
    for shorten, start in ((shortened, "…"), (beginning, "W")):
        text = fitted("W" * 40, 100, 10.5, shorten)
        assert text.startswith(start)
        assert 80 < extent(text, 10.5) <= 100
    assert extent("$x$", 10) > extent("x", 10)


def test_labels_at_the_ends_of_a_colour_bar_stay_within_it():
    sheet = Sheet(200, 80)
    bar = sheet.colour_bar(50, 20, 100, Normalize(0, 2), "viridis", "label", {0: "nothing", 1: "half", 2: "everything"})
    sheet.figure.canvas.draw()
    box = bar.get_window_extent()
    ends = [label.get_window_extent() for label in bar.get_xticklabels()]
    assert ends[0].x0 >= box.x0 - 1
    assert ends[-1].x1 <= box.x1 + 1
