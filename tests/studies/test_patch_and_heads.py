"""The study on runs with planted effects, on what DVC prints, and on the runs that the documentation reports."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from studies import experiments, patch_and_heads
from studies.experiments import finished, interval
from studies.patch_and_heads import (
    PANELS,
    by_seed,
    differences,
    figure,
    main,
    report,
    select,
    slopes,
)
from vitpipe.errors import InputError

DOCUMENTED = Path(__file__).parents[2] / "docs/study"
AXES = {"model.patch": [3, 6], "model.heads": [4, 8], "seed": [0, 1]}


def listed(name: str, patch: int, heads: int, seed: int, finished: str = "2026-01-01T00:00:00", **changes) -> dict:
    """A run as `dvc exp show --json` has it: gain 4 - patch / 10 + log2(heads) + seed."""
    params = {
        "seed": seed,
        "data": {"name": "faces", "count": changes.get("count", 60), "size": 192, "scale": 4},
        "model": {"patch": patch, "heads": heads, "dim": 64},
        "train": {"epochs": 2, "lr": 1e-3},
        "plots": {"figure": name},
    }
    regions = {"eyes": {"lift": 1.5 + seed, "survives": seed == 0}} if changes.get("regions", True) else {}
    attention = {
        "diversity": heads / 100,
        "distance": 20.0,
        "distance_uniform": 25.0,
        "regions": regions,
        "by_head": [],
    }
    gain = {"psnr": 4 - patch / 10 + np.log2(heads) + seed}
    files = {"metrics": {"gain": gain, "parameters": 10 * patch}, "attention": attention, "baseline": {}}
    metrics = {f"reports/{file}.json": {"data": content} for file, content in files.items()}
    data = {"timestamp": finished, "params": {"params.yaml": {"data": params}}, "metrics": metrics}
    return {"name": name, "revs": [{"rev": "0" * 40, "name": name, "data": data}], "executor": None}


def shown(*runs: dict, commit: dict | None = None) -> list[dict]:
    """These runs among one that waits and others with the scores of the commit, and the workspace."""
    waiting = {"name": "w", "revs": [{"rev": "1", "data": {"metrics": {}}}], "executor": {"state": "queued"}}
    others = [
        listed(state, 3, 4, 0, "2028-01-01T00:00:00") | {"executor": {"state": state}}
        for state in ("running", "failed")
    ]
    workspace = listed("workspace", 3, 4, 0)["revs"][0] | {"rev": "workspace", "experiments": None}
    return [workspace, {"rev": "a" * 40, "name": "main", "data": commit, "experiments": [*runs, waiting, *others]}]


def grid(seeds=(0, 1), **changes) -> list[dict]:
    return [listed(f"run-{p}-{h}-{s}", p, h, s, **changes) for p in (3, 6) for h in (4, 8) for s in seeds]


def planted() -> pd.DataFrame:
    """Seeds with levels of their own, patch 6 half a dB below and 0.25 dB for each doubling, and little noise."""
    random = np.random.default_rng(0)
    cells = [(p, h, s) for p in (3, 6) for h in (4, 8, 16, 32) for s in range(3)]
    gain = [4 + s - 0.5 * (p == 6) + 0.25 * np.log2(h) + random.normal(0, 1e-3) for p, h, s in cells]
    return pd.DataFrame(cells, columns=["patch", "heads", "seed"]).assign(gain=gain)


def test_interval_is_students() -> None:
    found = interval(pd.Series([4.1, 4.5, 4.2, np.nan, 4.4]))
    oracle = ttest_1samp([4.1, 4.5, 4.2, 4.4], 0).confidence_interval(0.95)
    assert found == pytest.approx((4.3, oracle.low, oracle.high))
    np.testing.assert_equal(interval(pd.Series([2.5])), (2.5, np.nan, np.nan))
    np.testing.assert_equal(interval(pd.Series([np.nan])), (np.nan, np.nan, np.nan))


def test_pairs_take_the_seeds_own_level_away() -> None:
    table = by_seed(planted(), "gain")
    found = differences(table)
    assert list(found) == [4, 8, 16, 32, "all"]
    np.testing.assert_allclose(found, -0.5, atol=5e-3)  # seeds differ by a whole dB
    oracle = ttest_rel(table[6, 8], table[3, 8]).confidence_interval(0.95)
    assert interval(found[8])[1:] == pytest.approx((oracle.low, oracle.high))
    assert len(found["all"]) == 3  # seeds, not seeds times heads


def test_slope_for_each_doubling() -> None:
    table = by_seed(planted(), "gain")
    found = slopes(table)
    np.testing.assert_allclose(found, 0.25, atol=2e-3)
    assert found.loc[1, 3] == pytest.approx(np.polyfit([2, 3, 4, 5], table.loc[1, 3], 1)[0])


def test_a_missing_run_takes_its_pair_and_its_seed_with_it() -> None:
    table = by_seed(planted().query("not (patch == 6 and heads == 8 and seed == 2)"), "gain")
    assert differences(table).count().to_dict() == {4: 3, 8: 2, 16: 3, 32: 3, "all": 2}
    assert slopes(table).count().to_dict() == {3: 3, 6: 2}


@pytest.mark.parametrize("name", ["faces", "celeba"])
def test_documented_statistics_are_those_of_the_documented_runs(name: str, tmp_path: Path) -> None:
    text = (DOCUMENTED / f"{name}.md").read_text(encoding="utf-8")
    report(pd.read_csv(DOCUMENTED / f"{name}.csv"), text.splitlines()[0].rstrip("."), tmp_path / name)
    assert (tmp_path / f"{name}.md").read_text(encoding="utf-8") == text


def test_finished_runs_are_read_and_nothing_else() -> None:
    found = finished(shown(*grid()))
    assert len(found) == 8
    assert (found[2][0]["model.heads"], found[2][1]["attention.regions.eyes.lift"]) == (8, 1.5)
    assert not [key for key in found[0][0] if key.startswith("plots")]


def test_the_newest_of_a_cell_counts_and_the_commit_last() -> None:
    commit = listed("main", 3, 4, 0, "2027-01-01T00:00:00", count=7)["revs"][0]["data"]
    again = listed("again", 3, 4, 0, "2026-02-02T00:00:00")
    again["revs"][0]["data"]["metrics"]["reports/metrics.json"]["data"]["parameters"] = 1
    others = (listed("patch 4", 4, 4, 0), listed("seed 7", 3, 4, 7))
    runs = finished(shown(again, *grid(), *others, commit=commit))
    assert runs[0][0]["data.count"] == 7
    found = select(runs, AXES, {"data.count": 60, "data.name": "faces"})
    assert len(found) == 8
    assert found[0][1]["metrics.parameters"] == 1


def test_two_sweeps_are_told_apart_by_a_setting() -> None:
    runs = finished(shown(*grid(), *grid(count=3000)))
    with pytest.raises(InputError, match=r"differ in data\.count.*-S data\.count=60 or -S data\.count=3000"):
        select(runs, AXES, {})
    assert {run[0]["data.count"] for run in select(runs, AXES, {"data.count": 3000})} == {3000}
    with pytest.raises(InputError, match="no finished experiment of the sweep has"):
        select(runs, AXES, {"data.count": 61})


class Dvc:
    """Stands in for DVC: its answers one after the other, and what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), []

    def __call__(self, *arguments: str, shown: bool = False) -> str:
        self.asked.append(arguments)
        return self.answers.pop(0)


def test_queue_passes_the_sweep_on_and_names_what_failed(monkeypatch) -> None:
    queued = "".join(f"Queued experiment '{name}' for future execution.\n" for name in ("super-mere", "wiser-coal"))
    status = "Task     Name        Created    Status\nad86af3  super-mere  Nov 21, 2026   Success\n"
    dvc = Dvc(queued, "", status + "0f2a26b  wiser-coal  10:36 AM   Failed\n\nWorker status: 0 active, 1 idle\n")
    monkeypatch.setattr(experiments, "dvc", dvc)
    with pytest.raises(SystemExit) as ended:
        main(["queue", "-S", "model.heads=2,4", "-S", "data.count=60"])
    assert ended.value.code == "patch_and_heads: experiments failed: wiser-coal (dvc queue logs wiser-coal says why)"
    assert dvc.asked[0][:3] == ("exp", "run", "--queue")
    assert dvc.asked[0][4::2] == ("model.patch=3,6", "model.heads=2,4", "seed=0,1,2", "data.count=60")
    assert dvc.asked[1] == ("exp", "run", "--run-all", "--jobs", "1")


@pytest.mark.parametrize("regions", [True, False])
def test_gather_writes_runs_statistics_and_figure(regions: bool, monkeypatch, tmp_path: Path, capsys) -> None:
    runs = [run for run in grid((0, 1, 2), regions=regions) if run["name"] != "run-6-8-1"]
    monkeypatch.setattr(patch_and_heads, "dvc", Dvc(json.dumps(shown(*runs))))
    monkeypatch.setattr(patch_and_heads, "FOLDER", tmp_path / "study")
    main(["gather", "small", "-S", "model.heads=4,8", "-S", "train.lr=1e-3"])
    table = pd.read_csv(tmp_path / "study/small.csv")
    row = table[(table.patch == 6) & (table.heads == 8) & (table.seed == 2)].iloc[0]
    assert (row.gain, row.diversity) == pytest.approx((8.4, 0.08))
    text = (tmp_path / "study/small.md").read_text(encoding="utf-8")
    assert "11 runs, 3 seeds; faces, 60 images, 48→192 px, 2 epochs" in text
    assert "| 3 | 4 | 3 | 30 | 6.70 (4.22 to 9.18) |" in text
    assert "| 4 | −0.30 (−0.30 to −0.30) |" in text
    assert ("1 of 3" in text) == ("eye lift" in text) == regions
    assert (tmp_path / "study/small.png").read_bytes()[:4] == b"\x89PNG"
    assert "11 of 12 runs" in capsys.readouterr().out


def test_dvc_fails_in_a_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^patch_and_heads: dvc exp show failed, see above$"):
        main(["gather"])


def test_figure_shows_runs_means_and_intervals() -> None:
    runs = planted().assign(**{name: lambda table: table.gain / 10 for name in PANELS if name != "gain"})
    drawn = figure(runs, "24 runs")
    for measure in PANELS:
        axes = next(axes for axes in drawn.axes if axes.get_label() == measure)
        for patch, container in zip((3, 6), axes.containers, strict=True):
            own = by_seed(runs, measure)[patch]
            line, _, (bars,) = container.lines
            np.testing.assert_allclose(line.get_ydata(), own.mean())
            np.testing.assert_allclose(line.get_xdata(), [2, 3, 4, 5], atol=0.2)
            np.testing.assert_allclose(
                [segment[:, 1] for segment in bars.get_segments()], [interval(own[h])[1:] for h in own]
            )
            dots = [line.get_ydata() for line in axes.lines if line.get_marker() == "o" and line.get_alpha()]
            assert {tuple(values) for values in own.to_numpy()} <= {tuple(values) for values in dots}
