"""The stage as it is run: explanations are drawn without torch, or one line says what is missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

CODE = "import sys, runpy; sys.argv = ['heatmap']; runpy.run_module('stages.heatmap', run_name='__main__'); "
CODE += "assert not {'torch', 'vitpipe.models', 'vitpipe.tasks'} & set(sys.modules)"


def test_explanations_are_drawn_without_torch(tmp_path, monkeypatch, params, make):
    def heatmap() -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    Path("params.yaml").write_text(yaml.safe_dump(params()), encoding="utf-8")
    line = "heatmap: reports/explanations is missing or empty: the stage explain makes it (dvc repro explain)"
    assert heatmap().stderr.strip() == line
    Path("reports/explanations").mkdir(parents=True)
    for kind in ("distances", "explorer"):
        np.savez(f"reports/explanations/{kind}.npz", **make("distances"))
    assert heatmap().stderr == ""
    assert sorted(path.name for path in Path("reports/heatmaps").iterdir()) == ["captions.json", "distances.png"]
    path = Path("reports/explanations/distances.npz")
    path.write_bytes(path.read_bytes()[:-30])
    assert "distances.npz is empty or damaged" in heatmap().stderr
