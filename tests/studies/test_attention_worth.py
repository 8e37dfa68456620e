"""The study of attention's worth on runs with planted worth, and on the runs that the documentation reports."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from studies import attention_worth, experiments
from studies.attention_worth import KINDS, MODELS, SEEDS, entry, figure, main, markdown, parts, rows, settings_of

DOCUMENTED = Path(__file__).parents[2] / "docs/study"
WORTH = {"softmax": 1.25, "place": 1.0, "uniform": 0.1, "none": 0.0, "no blocks": -0.5}  # above none, planted
NOISE = np.random.default_rng(0).normal(0, 0.02, (len(KINDS), len(SEEDS)))


def planted(*names: str) -> pd.DataFrame:
    """Runs of these models: a level of each seed, what each kind is worth, and a little noise."""
    found = []
    for name in names:
        for kind in MODELS[name].kinds:
            for seed in SEEDS:
                score = 30 + 2 * seed + WORTH[kind] + NOISE[list(KINDS).index(kind), seed]
                found.append({"model": name, "kind": kind, "seed": seed, "epochs": 2, "unit": "dB", "score": score})
    return pd.DataFrame(found)


def shown(name: str) -> list[dict]:
    """All runs of a model as `dvc exp show --json` has them, and one of other settings."""
    runs = []
    for kind in MODELS[name].kinds:
        for seed in SEEDS:
            params: dict = {"data": {"root": "/somewhere"}}
            for key, value in settings_of(MODELS[name], kind, seed).items():
                section, _, setting = key.rpartition(".")
                (params.setdefault(section, {}) if section else params)[setting] = value
            metrics = {"psnr": 30 + 2 * seed + WORTH[kind], "gain": {"psnr": 1.0}, "parameters": 5}
            runs.append((params, metrics))
    other = json.loads(json.dumps(runs[0]))
    other[0]["train"]["epochs"] += 1
    experiments = []
    for params, metrics in [*runs, other]:
        files = {"params": {"params.yaml": {"data": params}}, "metrics": {"reports/metrics.json": {"data": metrics}}}
        experiments.append({"revs": [{"rev": "0", "data": files | {"timestamp": "2026"}}], "executor": None})
    return [{"rev": "a", "data": None, "experiments": experiments}]


def test_worth_is_paired_by_seed() -> None:
    runs = planted("faces")
    found = parts("faces", runs)
    for part, expected in {"attention": 1.25, "place": 1.0, "content": 0.25}.items():
        assert found[part].mean() == pytest.approx(expected, abs=0.05)  # seeds differ by 2 dB
    scores = runs.pivot(index="seed", columns="kind", values="score")
    oracle = ttest_rel(scores.softmax, scores.place).confidence_interval(0.95)
    worth = entry("faces", runs)["worth"]["content"]
    assert (worth["low"], worth["high"]) == pytest.approx((oracle.low, oracle.high), abs=1e-4)


def test_a_class_token_is_compared_with_uniform_attention() -> None:
    assert parts("mnist", planted("mnist"))["attention"].mean() == pytest.approx(1.15, abs=0.05)
    assert set(parts("mnist", planted("mnist"))) == {"attention"}


def test_gather_takes_the_runs_with_exactly_these_settings(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(attention_worth, "dvc", lambda *_: json.dumps(shown("celeba")))
    monkeypatch.setattr(attention_worth, "PATH", tmp_path / "study/worth")
    main(["gather"])
    table = pd.read_csv(tmp_path / "study/worth.csv")
    assert len(table) == 9
    assert table[(table.kind == "place") & (table.seed == 1)].score.item() == 33
    content = json.loads((tmp_path / "study/worth.json").read_text(encoding="utf-8"))["models"]
    assert content[0]["worth"]["content"] == {"mean": 0.25, "low": 0.25, "high": 0.25}
    assert content[0]["settings"]["model.patch"] == 3
    assert "| real faces, 4x, pure | dB | 1.250 (1.250 to 1.250) |" in (tmp_path / "study/worth.md").read_text()
    monkeypatch.setattr(attention_worth, "dvc", lambda *_: json.dumps(shown("faces-x8")))
    main(["gather", "--rev", "main"])
    both = pd.read_csv(tmp_path / "study/worth.csv")
    assert [*both.model.unique()] == ["faces-x8", "celeba"]  # those of an earlier study stay
    pd.testing.assert_frame_equal(both[both.model == "celeba"].reset_index(drop=True), table)
    with pytest.raises(SystemExit, match="no finished experiment of digits starts from HEAD"):
        main(["gather", "--only", "digits"])
    assert "faces is left out: no finished run of softmax with seed 0" in capsys.readouterr().err


def test_queue_trains_every_kind_and_seed(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(experiments, "dvc", lambda *words, shown=False: asked.append(words) or "")
    main(["queue", "--only", "faces", "--only", "mnist", "--mnist", "digits"])
    queued = [words for words in asked if words[:3] == ("exp", "run", "--queue")]
    assert [words[-1] for words in queued] == ["evaluate"] * 3
    assert "model.attention=softmax,place,uniform,none" in queued[0]
    assert "model.depth=0" in queued[1]
    assert f"data.root={Path('digits').absolute()}" in queued[2]
    assert ("exp", "run", "--run-all", "--jobs", "2") in asked
    with pytest.raises(SystemExit, match="mnist needs --mnist FOLDER"):
        main(["queue", "--only", "mnist"])


@pytest.mark.parametrize("name", MODELS)
def test_settings_of_every_model_and_kind_are_valid(name: str) -> None:
    for kind in MODELS[name].kinds:
        settings = settings_of(MODELS[name], kind, 2)
        assert settings["seed"] == 2
        assert (settings["model.attention"], settings["model.depth"] > 0) == (
            (kind, True) if kind != "no blocks" else ("softmax", False)
        )


def test_figure_shows_every_part() -> None:
    runs = planted("faces", "mnist")
    axes = figure(runs).axes[0]
    dots = [tuple(line.get_xdata()) for line in axes.lines if line.get_alpha()]
    assert dots == [tuple(parts("faces", runs)[p]) for p in ("place", "content")] + [
        tuple(parts("mnist", runs)["attention"])
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == [MODELS[n].title for n in ("faces", "mnist")]


def test_documented_tables_are_those_of_the_documented_runs() -> None:
    runs = pd.read_csv(DOCUMENTED / "worth.csv")
    assert (DOCUMENTED / "worth.md").read_text(encoding="utf-8") == markdown(runs)
    content = json.loads((DOCUMENTED / "worth.json").read_text(encoding="utf-8"))["models"]
    assert content == [entry(name, runs) for name in runs.model.unique()]
    assert rows("faces", []) == []
