"""The stage as it is run: a page from a folder of reports, or one line that says what is missing."""

import json
from pathlib import Path


def test_page_is_written_or_a_missing_input_is_one_line(tmp_path, monkeypatch, stage, reports):
    monkeypatch.chdir(tmp_path)
    manifest = Path("data/packed/manifest.json")
    manifest.parent.mkdir(parents=True)
    parts = {part: {"images": count} for part, count in (("train", 2), ("val", 1), ("test", 1))}
    manifest.write_text(json.dumps(parts), encoding="utf-8")
    worth = {"unit": "dB", "seeds": 3, "epochs": 2, "base": "no attention", "settings": {"model.patch": 3}}
    worth["worth"] = {"attention": {"mean": 1.25, "low": 1.2, "high": 1.3}}
    study = Path("docs/study/worth.json")
    study.parent.mkdir(parents=True)
    study.write_text(json.dumps({"models": [worth]}), encoding="utf-8")
    done = stage("report")
    assert done.returncode == 0, done.stderr
    html = Path("reports/index.html").read_text(encoding="utf-8")
    assert '<b class="good">+2.75 dB</b>' in html
    assert "<dt>train</dt><dd>2</dd>" in html
    assert "<dt>patch</dt><dd>3</dd>" in html
    assert html.count("to a model of this form: 1.25 dB (1.20 to 1.30)") == 3  # explorer, numbers, heatmaps
    assert html.count('<img src="data:image/webp;base64,') == 3
    assert not list(Path("reports").glob("*.tmp"))

    for path, maker in ((Path("reports/figures/a.png"), "evaluate"), (manifest, "downsample")):
        path.unlink()
        done = stage("report")
        assert done.returncode == 1
        assert done.stderr.strip() == f"report: {path} is missing: the stage {maker} makes it (dvc repro {maker})"
        assert Path("reports/index.html").read_text(encoding="utf-8") == html
