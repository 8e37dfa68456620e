"""The study of few images on planted runs, and on the runs that the documentation reports."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from studies import experiments, few_shot
from studies.few_shot import BASELINES, RECIPES, SEEDS, SHOTS, figure, main, markdown

DOCUMENTED = Path(__file__).parents[2] / "docs/study"


def shown(**changes: Any) -> list[dict[str, Any]]:
    """All runs as `dvc exp show --json` has them, the score of each planted; and one run of another recipe."""
    runs = []
    for recipe in [*RECIPES, "digits"]:
        for shots in SHOTS:
            for seed in SEEDS:
                weights = None if recipe == "pets-scratch" else "vit.safetensors"
                params = {"recipe": recipe, "seed": seed, "data": {"shots": shots, "size": 224}}
                params |= {"model": {"weights": weights}} | (changes if shots == 2 else {})
                score = {"accuracy": shots / 100 + seed / 1000, "balanced_accuracy": 0.5}
                data: dict[str, Any] = {"params": {"params.yaml": {"data": params}}, "timestamp": "2026"}
                data["metrics"] = {
                    "reports/metrics.json": {"data": score | {"images": 356}},
                    "reports/baseline.json": {"data": dict.fromkeys(BASELINES, score)},
                }
                runs.append({"revs": [{"rev": "0", "data": data}], "executor": None})
    return [{"rev": "a", "data": None, "experiments": runs}]


def test_gather_has_a_row_for_each_run_and_each_baseline_of_a_probe(monkeypatch, tmp_path):
    monkeypatch.setattr(few_shot, "dvc", lambda *_: json.dumps(shown()))
    monkeypatch.setattr(few_shot, "PATH", tmp_path / "study/few-shot")
    main(["gather"])
    table = pd.read_csv(tmp_path / "study/few-shot.csv")
    assert len(table) == (len(RECIPES) + len(BASELINES)) * len(SHOTS) * len(SEEDS)
    own = table[(table.way == "pretrained, fine-tuned") & (table.shots == 10)]
    assert own.accuracy.tolist() == pytest.approx([10, 10.1, 10.2])  # percent
    assert "| pretrained, fine-tuned | 2.1 (1.9 to 2.3) | 5.1" in (tmp_path / "study/few-shot.md").read_text()
    axes = figure(table).axes[0]
    assert [*axes.containers[2].lines[0].get_xdata()] == [*SHOTS]  # the others stand beside it
    assert [*axes.containers[0].lines[0].get_ydata()] == pytest.approx([2.1, 5.1, 10.1, 20.1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"data": {"shots": 2, "size": 96}}, "sizes of images"), ({"model": {"weights": "other"}}, "pretrained weights")],
)
def test_runs_that_cannot_be_compared_are_refused(monkeypatch, tmp_path, changes, message):
    monkeypatch.setattr(few_shot, "dvc", lambda *_: json.dumps(shown(**changes)))
    monkeypatch.setattr(few_shot, "PATH", tmp_path / "few-shot")
    with pytest.raises(SystemExit, match=f"several {message} start from HEAD"):
        main(["gather"])
    assert not [*tmp_path.iterdir()]


def test_queue_trains_every_way_with_every_number_and_seed(monkeypatch):
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(experiments, "dvc", lambda *words, shown=False: asked.append(words) or "")
    main(["queue", "--pets", "pets", "--weights", "timm/vit", "--size", "160"])
    queued = [words for words in asked if words[:3] == ("exp", "run", "--queue")]
    assert [words[words.index("-S") + 1] for words in queued] == [f"recipe={recipe}" for recipe in RECIPES]
    for words in queued:
        assert {"data.shots=2,5,10,20", "seed=0,1,2", "data.size=160", "evaluate"} <= set(words)
        assert ("model.weights=timm/vit" in words) is ("recipe=pets-scratch" not in words)


def test_documented_table_is_that_of_the_documented_runs():
    runs = pd.read_csv(DOCUMENTED / "few-shot.csv")
    assert (DOCUMENTED / "few-shot.md").read_text(encoding="utf-8") == markdown(runs)
    assert len(runs) == (len(RECIPES) + len(BASELINES)) * len(SHOTS) * len(SEEDS)
