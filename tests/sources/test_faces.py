"""The rendered faces: reproducible, labelled truthfully, and hard enough to learn from."""

import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from sklearn.metrics import roc_auc_score

from vitpipe.config import Data
from vitpipe.sources import LANDMARKS, faces
from vitpipe.sources.rendering import person, picture
from vitpipe.sources.rendering.canvas import HEIGHT, WIDTH, Canvas, ramp
from vitpipe.sources.rendering.picture import Picture, render

COUNT = 300


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    faces.fetch(Data(name="faces", count=COUNT), 0, folder)
    return folder


@pytest.fixture(scope="module")
def table(raw):
    return faces.samples(raw)


@pytest.fixture(scope="module")
def pixels(raw, table) -> np.ndarray:
    """(300, 218, 178, 3)"""
    images = faces.open_images(raw)
    return np.stack([np.asarray(images.read(sample)) for sample in table.index])


def decode(drawn: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(drawn.jpeg)).convert("RGB"), dtype=float)


def test_layout_is_celebas(raw, table, pixels):
    assert sorted(path.name for path in raw.iterdir()) == [
        "identity_CelebA.txt",
        "img_align_celeba.zip",
        "list_attr_celeba.txt",
        "list_eval_partition.txt",
        "list_landmarks_align_celeba.txt",
    ]
    assert list(table.index) == [f"{number:06d}.jpg" for number in range(1, COUNT + 1)]
    assert pixels.shape == (COUNT, 218, 178, 3)
    assert set(table.columns) >= {"official", "identity", *LANDMARKS, *faces.NAMES}
    assert len(faces.NAMES) == 40
    lines = (raw / "list_attr_celeba.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == str(COUNT)
    assert lines[1].split() == faces.NAMES


def test_a_picture_depends_on_seed_and_index_alone(raw, tmp_path, monkeypatch):
    """Not on the number of pictures, the number of processes, or the day."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(faces.os, "sched_getaffinity", lambda _: {0}, raising=False)
    faces.fetch(Data(name="faces", count=6), 0, tmp_path / "a")
    monkeypatch.undo()
    faces.fetch(Data(name="faces", count=6), 0, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    with zipfile.ZipFile(raw / faces.ARCHIVE) as many, zipfile.ZipFile(tmp_path / "a" / faces.ARCHIVE) as few:
        for index in (0, 5):
            name = f"img_align_celeba/{index + 1:06d}.jpg"
            assert many.read(name) == few.read(name) == render(0, index).jpeg
    for file in ("identity_CelebA.txt", "list_eval_partition.txt"):
        small, large = ((folder / file).read_text(encoding="utf-8") for folder in (tmp_path / "a", raw))
        assert large.startswith(small)
    assert render(1, 0).jpeg != render(0, 0).jpeg


ALL_WORK = 1_000_000
"""Size of the archive in bytes when all processes surely run: one that still starts ignores no signals."""


def test_interrupt_is_told_once(tmp_path):
    """Ctrl-C reaches the whole process group; rendering 100,000 faces must end soon and in one line."""
    code = f"""
from pathlib import Path
from vitpipe.config import Data
from vitpipe.sources import faces
if __name__ == "__main__":
    try:
        faces.fetch(Data(name="faces", count=100_000), 0, Path({str(tmp_path)!r}))
    except KeyboardInterrupt:
        print("interrupted")
"""
    (tmp_path / "script.py").write_text(code, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "script.py")]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=environment)
    archive = tmp_path / faces.ARCHIVE
    deadline = time.monotonic() + 120
    while not (archive.exists() and archive.stat().st_size > ALL_WORK):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert out == "interrupted\n"
    assert "Traceback" not in err


def test_identities_have_several_pictures_in_one_part(table):
    whole = table.iloc[: COUNT // person.BLOCK * person.BLOCK]
    sizes = whole.groupby("identity").size()
    assert sizes.between(4, 12).all()
    assert (whole.groupby("identity")["official"].nunique() == 1).all()
    assert (whole.groupby("identity")["Male"].nunique() == 1).all()
    parts = [person.official_part(person.identity_of(0, index)) for index in range(3000)]
    assert 0.7 < parts.count(0) / 3000 < 0.9
    assert min(parts.count(1), parts.count(2)) / 3000 > 0.06


def test_labels_are_drawn_or_minus_one(table):
    assert (table[list(faces.UNDRAWN)] == -1).all(axis=None)
    assert set(person.attributes(*cast(0))) == set(faces.DRAWN)
    assert table["Male"].eq(1).mean() == pytest.approx(0.5, abs=0.15)
    for name in ("Smiling", "Young", "Eyeglasses", "Wearing_Hat", "Mustache", "Black_Hair", "Wearing_Lipstick"):
        assert 0.03 < table[name].eq(1).mean() < 0.97, name


def test_landmarks_are_where_celebas_are(table):
    usual = {
        "lefteye": (69, 111),
        "righteye": (108, 111),
        "nose": (88, 135),
        "leftmouth": (71, 152),
        "rightmouth": (106, 152),
    }
    for point, (x, y) in usual.items():
        assert table[f"{point}_x"].mean() == pytest.approx(x, abs=2)
        assert table[f"{point}_y"].mean() == pytest.approx(y, abs=2)
        assert 0.4 < table[f"{point}_y"].std() < 3
    assert table["nose_x"].std() > 2  # turns move the nose


def test_landmarks_lie_on_what_they_name(table, pixels):
    """The iris is darker than the cheek below it, the mouth's corner than the cheek beside it."""
    iris = corner = 0
    for row, light in zip(table.itertuples(), pixels.mean(axis=3), strict=True):
        for eye in ("lefteye", "righteye"):
            x, y = int(getattr(row, f"{eye}_x")), int(getattr(row, f"{eye}_y"))
            iris += light[y - 1 : y + 2, x - 1 : x + 2].mean() < 0.9 * light[y + 18 : y + 23, x - 2 : x + 3].mean()
        x, y = int(row.leftmouth_x), int(row.leftmouth_y)
        corner += light[y - 1 : y + 2, x - 1 : x + 3].min() < light[y - 2 : y + 3, x - 10 : x - 6].mean()
    assert iris / (2 * COUNT) > 0.93
    assert corner / COUNT > 0.9


@pytest.mark.parametrize(
    ("point", "push"), [("lefteye", (5, 0)), ("righteye", (-5, 0)), ("nose", (0, 6)), ("rightmouth", (7, 0))]
)
def test_moving_a_landmark_moves_what_is_drawn(point, push, monkeypatch):
    base = {"glasses": False, "hat": None}
    x, y = getattr(cast(3)[1], point)
    here, there = ({**base, point: (x + s * push[0], y + s * push[1])} for s in (0, 1))
    change = np.abs(drawn_as(monkeypatch, 3, how=here) - drawn_as(monkeypatch, 3, how=there)).mean(2)
    near = np.s_[round(y) - 24 : round(y) + 24, round(x) - 24 : round(x) + 24]
    assert change[near].max() == change.max()
    assert change[near].mean() > 5 * change.mean()


def cast(index: int) -> tuple[person.Person, person.Shot]:
    who = person.person(0, person.identity_of(0, index))
    return who, person.shot(np.random.default_rng(index), who)


def drawn_as(monkeypatch, index: int, who: dict | None = None, how: dict | None = None) -> np.ndarray:
    """The picture with some traits set; everything random stays as it was."""
    someone, shot = cast(index)
    monkeypatch.setattr(picture, "person", lambda *_: replace(someone, **(who or {})))
    monkeypatch.setattr(picture, "shot", lambda rng, _: replace(shot, **(how or {})))
    monkeypatch.setattr(picture.scene, "expose", lambda image, _: image)
    return decode(render(0, index))


CASES = {
    "Eyeglasses": ({}, {"glasses": True}, {"glasses": False}, (45, 132, 96, 126)),
    "Smiling": ({}, {"smiling": True}, {"smiling": False}, (66, 112, 144, 166)),
    "Mouth_Slightly_Open": ({}, {"gape": 5.0}, {"gape": 0.0}, (66, 112, 146, 170)),
    "Wearing_Hat": ({}, {"hat": "cap"}, {"hat": None}, (40, 138, 25, 90)),
    "Wearing_Lipstick": ({}, {"lipstick": (176, 28, 48)}, {"lipstick": None}, (66, 112, 144, 166)),
    "Wearing_Necktie": ({}, {"necktie": True}, {"necktie": False}, (70, 108, 196, 218)),
}


@pytest.mark.parametrize("name", CASES)
def test_an_attribute_shows_where_it_belongs(name, monkeypatch):
    _, yes, no, (left, right, top, bottom) = CASES[name]
    base = {"hat": None, "glasses": False, "gape": 0.0, "lipstick": None, "makeup": False}
    plain = {"style": "short", "beard": "none", "bangs": False}
    for index in (3, 20, 45):
        who, shot = cast(index)
        assert person.attributes(who, replace(shot, **base | yes))[name]
        assert not person.attributes(who, replace(shot, **base | no))[name]
        change = np.abs(
            drawn_as(monkeypatch, index, plain, base | yes) - drawn_as(monkeypatch, index, plain, base | no)
        ).mean(2)
        inside = np.zeros(change.shape, bool)
        inside[top:bottom, left:right] = True
        assert change[inside].mean() > 3
        assert change[inside].mean() > 4 * change[~inside].mean()


@pytest.mark.parametrize("index", [3, 29, 58])
def test_sideburns_are_labelled_where_they_show(index, monkeypatch):
    """Cheeks before the ears, drawn with and without: long hair that falls on both sides covers them."""
    bare = {"beard": "none", "sideburns": False, "bangs": False, "hair": (24, 22, 26), "skin": (236.0, 192.0, 164.0)}
    shot = {"hat": None, "glasses": False}
    for style, fall, beard in (("short", 0, "full"), ("long", 0, "full"), ("long", 2, "full")):
        hair = {"style": style, "fall": fall}
        change = np.abs(
            drawn_as(monkeypatch, index, bare | hair, shot)
            - drawn_as(monkeypatch, index, bare | hair | {"beard": beard}, shot)
        )[116:132, 40:60].mean()
        labelled = person.attributes(replace(cast(index)[0], **bare | hair | {"beard": beard}), cast(index)[1])
        assert labelled["Sideburns"] == (change > 4)
    everyone = [person.person(0, identity) for identity in range(500)]
    assert {who.style for who in everyone if who.sideburns} == {"short", "parted", "receding"}


def test_hair_colour_is_the_hairs(monkeypatch):
    crown = {}
    for name, colours in person.HAIRS.items():
        who = {"hair_name": name, "hair": colours[0], "style": "short"}
        crown[name] = drawn_as(monkeypatch, 3, who, {"hat": None})[48:60, 75:103].mean((0, 1))
    assert crown["Black_Hair"].mean() < crown["Brown_Hair"].mean() < crown["Blond_Hair"].mean()
    assert np.ptp(crown["Gray_Hair"]) < 0.3 * np.ptp(crown["Blond_Hair"])


def test_beards_darken_the_chin(monkeypatch):
    black = {"hair": (24, 22, 26), "skin": (236.0, 192.0, 164.0), "style": "short"}
    chin = {
        beard: drawn_as(monkeypatch, 3, black | {"beard": beard}, {"smiling": False, "gape": 0.0})[
            168:176, 82:96
        ].mean()
        for beard in ("none", "moustache", "stubble", "goatee", "full")
    }
    assert chin["none"] == pytest.approx(chin["moustache"], abs=2)
    assert chin["none"] - 10 > chin["stubble"] > chin["goatee"]
    assert chin["none"] - 60 > chin["full"]


def test_bicubic_is_neither_hopeless_nor_perfect(pixels):
    scores = []
    for image in pixels[:60]:
        high = Image.fromarray(image).resize((192, 192), Image.Resampling.BICUBIC)
        low = high.resize((48, 48), Image.Resampling.BICUBIC).resize((192, 192), Image.Resampling.BICUBIC)
        error = np.square(np.asarray(high, float) - np.asarray(low, float)).mean()
        scores.append(10 * np.log10(255**2 / error))
    assert 25 < np.mean(scores) < 31


def test_the_mean_colour_tells_no_attribute():
    """A linear fit on mean red, green and blue hardly ranks better than chance, over pictures of different people."""
    drawn = [render(0, 11 * index) for index in range(COUNT)]
    mean = np.array([[*decode(one).mean((0, 1)), 1] for one in drawn])
    tested = 0
    for name in faces.DRAWN:
        positive = np.array([one.attributes[name] for one in drawn])
        if min(positive.sum(), (~positive).sum()) >= 20:
            weights, *_ = np.linalg.lstsq(mean, positive.astype(float), rcond=None)
            assert roc_auc_score(positive, mean @ weights) < 0.75, name
            tested += 1
    assert tested > 20


@pytest.mark.parametrize("blur", [0, 0.7, 2])
@pytest.mark.parametrize(("x", "y"), [(80, 90), (-9, 60), (WIDTH - 4, HEIGHT - 3), (300, 50)])
def test_painting_about_the_polygon_is_painting_everywhere(x, y, blur):
    """Only the polygon's surroundings are worked on: to the pixel what the whole mask and all tones give."""
    polygon = [(x, y), (x + 31.3, y + 4.6), (x + 12.9, y + 27.5)]
    tones = np.random.default_rng(0).uniform(-0.1, 1.1, (HEIGHT, WIDTH)).astype(np.float32)
    palette = ramp((10, 20, 30), (120, 80, 60), (250, 240, 230))
    canvas = Canvas(Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), (40, 90, 140)))
    whole = canvas.image.copy()
    canvas.paint(polygon, tones, palette, blur, 0.9)
    mask = Image.new("L", whole.size)
    ImageDraw.Draw(mask).polygon([2 * v for point in polygon for v in point], round(255 * 0.9))
    shades = Image.fromarray((tones * 255).clip(0, 255).astype(np.uint8)).resize(whole.size, Image.Resampling.NEAREST)
    shades.putpalette(palette)
    whole.paste(shades.convert("RGB"), (0, 0), mask.filter(ImageFilter.GaussianBlur(2 * blur)) if blur else mask)
    np.testing.assert_array_equal(np.asarray(canvas.image), np.asarray(whole))
