"""The stage as it is run: a page from a folder of reports, or one line that says what is missing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image


@pytest.fixture
def workspace(tmp_path, monkeypatch, params, explained) -> Path:
    """What the stages before leave behind, of a run on four images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    bicubic = {"psnr": 27.5}
    head = {"self_weight": 0.1, "entropy": 2.0, "distance": 9.0}
    files = {
        "metrics": {"psnr": 29.75, "bicubic": bicubic, "gain": {"psnr": 2.25}, "images": 1},
        "baseline": {"bicubic": bicubic},
        "attention": head | {"layers": [{"heads": [head]}]},
    }
    for folder in ("figures", "heatmaps"):
        (tmp_path / "reports" / folder).mkdir(parents=True)
        Image.new("RGB", (3, 3)).save(tmp_path / "reports" / folder / "a.png")
        captions = {"a.png": {"title": "A", "caption": "What it shows."}}
        (tmp_path / "reports" / folder / "captions.json").write_text(json.dumps(captions))
    for name, content in files.items():
        (tmp_path / f"reports/{name}.json").write_text(json.dumps(content))
    (tmp_path / "reports/curve.csv").write_text("epoch,val_psnr\n1,29.5\n")
    explained(tmp_path / "reports")
    (tmp_path / "data/packed").mkdir(parents=True)
    manifest = {part: {"images": count} for part, count in (("train", 2), ("val", 1), ("test", 1))}
    (tmp_path / "data/packed/manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params()))
    return tmp_path


def report() -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "stages.report"], capture_output=True, text=True)


def test_page_is_written(workspace):
    done = report()
    assert done.returncode == 0, done.stderr
    html = Path("reports/index.html").read_text(encoding="utf-8")
    assert '<b class="good">+2.25 dB</b>' in html
    assert "<dt>train</dt><dd>2</dd>" in html
    assert "<dt>patch</dt><dd>3</dd>" in html
    assert len(re.findall(r'<img[^>]*src="data:image/webp;base64,', html)) == 2
    assert not list(Path("reports").glob("*.tmp"))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "data/packed/manifest.json",
            "report: data/packed/manifest.json is missing: the stage downsample makes it (dvc repro downsample)",
        ),
        (
            "reports/figures/a.png",
            "report: reports/figures/a.png is missing: the stage evaluate makes it (dvc repro evaluate)",
        ),
    ],
)
def test_missing_input_is_one_line(workspace, name, line):
    Path(name).unlink()
    done = report()
    assert done.returncode == 1
    assert done.stderr.strip() == line
    assert not Path("reports/index.html").exists()
