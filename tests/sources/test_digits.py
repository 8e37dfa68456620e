import numpy as np
import pytest
from sklearn.datasets import load_digits

from vitpipe.config import Data
from vitpipe.sources import digits


@pytest.fixture
def raw(tmp_path):
    digits.fetch(Data(name="digits", size=8, scale=1), 0, tmp_path)
    return tmp_path


def test_digits_are_all_there_with_their_labels(raw):
    table = digits.samples(raw)
    assert table.columns.tolist() == ["label"]
    assert table.index.tolist() == sorted(table.index)
    assert (table.index[0], table.index[-1], len(table)) == ("0000", "1796", 1797)
    assert table["label"].astype(int).tolist() == load_digits().target.tolist()


def test_pixels_reach_from_black_to_white(raw):
    images, original = digits.open_images(raw), load_digits().images
    for number in (0, 1, 1796):
        image = images.read(f"{number:04d}")
        assert image.mode == "RGB"
        pixels = np.asarray(image)
        assert (pixels == pixels[..., :1]).all()
        assert np.abs(pixels[..., 0] / 255 - original[number] / 16).max() <= 0.5 / 255
    assert np.asarray(images.read("0001")).max() == 255


def test_the_file_is_the_same_every_time(raw, tmp_path_factory, monkeypatch):
    again = tmp_path_factory.mktemp("again")
    monkeypatch.setattr("time.time", lambda: 2e9)
    digits.fetch(Data(name="digits", size=8, scale=1, count=3), 1, again)
    assert [path.name for path in raw.iterdir()] == ["digits.npz"]
    assert (again / "digits.npz").read_bytes() == (raw / "digits.npz").read_bytes()
