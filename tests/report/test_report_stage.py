"""The stage as it is run: a page from a folder of reports, or one line that says what is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def workspace(tmp_path, monkeypatch, params, reports) -> Path:
    """What the stages before leave behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
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
    assert '<b class="good">+2.75 dB</b>' in html
    assert "<dt>train</dt><dd>2</dd>" in html
    assert "<dt>patch</dt><dd>3</dd>" in html
    assert html.count('<img src="data:image/webp;base64,') == 3
    assert not list(Path("reports").glob("*.tmp"))


@pytest.mark.parametrize(
    ("name", "stage"), [("data/packed/manifest.json", "downsample"), ("reports/figures/a.png", "evaluate")]
)
def test_missing_input_is_one_line(workspace, name, stage):
    Path(name).unlink()
    done = report()
    assert done.returncode == 1
    assert done.stderr.strip() == f"report: {name} is missing: the stage {stage} makes it (dvc repro {stage})"
    assert not Path("reports/index.html").exists()
