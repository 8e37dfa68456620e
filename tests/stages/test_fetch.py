"""The fetch stage as DVC runs it: a process with an exit status that fills a folder."""

import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image


@pytest.fixture
def workspace(tmp_path, monkeypatch, params) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    changes = {"data.root": "photos", "data.size": 48, "data.scale": 4}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params(**changes)), encoding="utf-8")
    (tmp_path / "photos").mkdir()
    for number in range(6):
        Image.effect_noise((60, 50), 90 + number).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def fetch(limit: int | None = None, **data) -> subprocess.CompletedProcess:
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    Path("params.yaml").write_text(yaml.safe_dump(content | {"data": content["data"] | data}), encoding="utf-8")
    preexec = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
    command = [sys.executable, "-m", "stages.fetch"]
    return subprocess.run(command, capture_output=True, encoding="utf-8", preexec_fn=preexec)


def test_fills_raw_and_sums_up(workspace):
    done = fetch()
    assert done.returncode == 0, done.stderr
    assert "6 images of folder" in done.stdout.splitlines()[-1]
    assert [path.name for path in Path("data/raw").iterdir()] == ["images.zip"]
    assert list(Path("data").iterdir()) == [Path("data/raw")]


def test_parts_classes_and_counts_are_told(workspace):
    for number, path in enumerate(sorted(Path("photos").iterdir())):
        place = Path("photos", "Training" if number else "Testing", "狗" if number % 2 else "猫")
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    done = fetch()
    assert done.returncode == 0, done.stderr
    assert "parts: test 1, train 5\nclasses: 狗 3, 猫 3\n" in done.stdout


def test_other_locales_than_utf_8(workspace, monkeypatch):
    """Names of files and classes are UTF-8 whatever the locale is, and so is what a stage writes."""
    for name, value in {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}.items():
        monkeypatch.setenv(name, value)
    Path("photos").rename("müller")
    for number in range(6):
        place = Path("müller", "猫狗"[number % 2])
        place.mkdir(exist_ok=True)
        Path(f"müller/{number}.png").rename(place / f"{number}.png")
    done = fetch(root="müller")
    assert done.returncode == 0, done.stderr
    assert "classes: 狗 3, 猫 3" in done.stdout
    assert "猫/0.png" in zipfile.ZipFile("data/raw/images.zip").namelist()


def damage_zip() -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        for path in Path("photos").iterdir():
            archive.write(path)
    Path("a.zip").write_bytes(Path("a.zip").read_bytes()[:-30])


@pytest.mark.parametrize(
    ("prepare", "data", "message"),
    [
        (None, {"root": "nowhere"}, "nowhere"),
        (None, {"root": None}, "data.root is null"),
        (None, {"root": ""}, "data.root is '', but must not be empty: give a value, or null"),
        (None, {"root": " "}, "data.root is ' ', but must not be empty"),
        (None, {"root": "~nobodyxyz/pics"}, "data.root is '~nobodyxyz/pics', which is no path here"),
        (lambda: Path("empty").mkdir(), {"root": "empty"}, "no pictures in"),
        (damage_zip, {"root": "a.zip"}, "damaged zip"),
        (lambda: Path("a.zip").write_bytes(b"<!DOCTYPE html>"), {"root": "a.zip"}, "HTML page"),
        (lambda: Path("photos/0.png").write_bytes(b"x"), {}, "0.png is no picture"),
        (None, {"size": 60}, "smaller than the 60x60 target"),
        (None, {"name": "celeba"}, "named like 000001.jpg"),
        (None, {"limit": 9000}, "File too large"),
        (lambda: Path("data").write_bytes(b"a file"), {}, "data"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_nothing(workspace, prepare, data, message):
    if prepare:
        prepare()
    failed = fetch(**data)
    assert failed.returncode == 1
    told = [line for line in failed.stderr.replace("\r", "\n").splitlines() if line and "images/s" not in line]
    assert told[-1].startswith("fetch: ")
    assert message in told[-1]
    assert "Traceback" not in failed.stderr
    assert not Path("data/raw").exists()
    assert not Path("data/raw.tmp").exists()


def test_another_run_writes_the_same_bytes_and_a_failed_one_keeps_them(workspace):
    fetch()
    before = Path("data/raw/images.zip").read_bytes()
    assert fetch().returncode == 0
    assert Path("data/raw/images.zip").read_bytes() == before
    assert fetch(root="nowhere").returncode == 1
    assert Path("data/raw/images.zip").read_bytes() == before
    assert not Path("data/raw.tmp").exists()


def test_local_data_are_fetched_without_torch(workspace):
    code = "import sys; from stages.fetch import main; from vitpipe.config import load_settings; main(load_settings())"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
