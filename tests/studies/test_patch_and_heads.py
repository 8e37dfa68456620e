"""The study on runs whose effects are planted, and on what DVC prints."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from studies import patch_and_heads, sweep
from studies.patch_and_heads import COLUMNS, gather, main, queue
from studies.statistics import cells, differences, interval, slopes
from studies.sweep import chosen, experiments, parsed, states_of, wait
from studies.tables import MINUS, markdown, rounded
from vitpipe.errors import InputError

STATUS = """Task     Name        Created    Status
97b6bdc  boned-gear  10:36 AM   Running
38b1186  gushy-line  10:36 AM   Queued
ad86af3  super-mere  Nov 21, 2026   Success
0f2a26b  wiser-coal  10:36 AM   Failed

Worker status: {workers}
"""


def listed(name: str, patch: int, heads: int, seed: int, finished: str = "2026-01-01T00:00:00", **changes) -> dict:
    """A run as `dvc exp show --json` has it: gain 4 - patch / 10 + log2(heads) + seed, diversity and focus."""
    params = {
        "seed": seed,
        "data": {"name": "faces", "count": changes.get("count", 60), "size": 192, "scale": 4},
        "model": {"patch": patch, "heads": heads, "dim": 64},
        "train": {"epochs": 2, "lr": 1e-3},
        "plots": {"shown": name},
    }
    focus = {"eyes": {"lift": 1.5 + seed, "survives": seed == 0}} if changes.get("focus", True) else {}
    gain = 4 - patch / 10 + np.log2(heads) + seed
    attention = {"diversity": heads / 100, "distance": 20.0, "distance_uniform": 25.0, "focus": focus}
    files = {"metrics": {"gain": {"psnr": gain}, "parameters": 10 * patch}, "attention": attention, "baseline": {}}
    data = {
        "timestamp": finished,
        "params": {"params.yaml": {"data": params}},
        "metrics": {f"reports/{file}.json": {"data": content} for file, content in files.items()},
    }
    return {"name": name, "revs": [{"rev": "0" * 40, "name": name, "data": data, "error": None}], "executor": None}


def shown(*runs: dict) -> list[dict]:
    waiting = {
        "name": "later", "revs": [{"rev": "1", "data": {"params": {}, "metrics": {}}}], "executor": {"state": "queued"}
    }  # fmt: skip
    others = [  # with the scores of the commit they start from, as DVC shows them
        listed(f"{state} one", 3, 4, 0, "2028-01-01T00:00:00") | {"executor": {"state": state}}
        for state in ("running", "failed")
    ]
    workspace = listed("workspace", 3, 4, 0)["revs"][0] | {"rev": "workspace", "experiments": None}
    commit = {"rev": "a" * 40, "name": "main", "data": None, "experiments": [*runs, waiting, *others]}
    return [workspace, commit]


def grid(patches=(3, 6), heads=(4, 8), seeds=(0, 1), **changes) -> list[dict]:
    return [listed(f"run-{p}-{h}-{s}", p, h, s, **changes) for p in patches for h in heads for s in seeds]


AXES = {"model.patch": [3, 6], "model.heads": [4, 8], "seed": [0, 1]}


def planted(seeds: int = 3) -> pd.DataFrame:
    """Seeds with levels of their own, patch 6 half a dB below and 0.25 dB for each doubling, and little noise."""
    random = np.random.default_rng(0)
    rows = [
        {"patch": p, "heads": h, "seed": s, "gain": 4 + s - 0.5 * (p == 6) + 0.25 * np.log2(h) + random.normal(0, 1e-3)}
        for p in (3, 6)
        for h in (4, 8, 16, 32)
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


def test_interval_is_students():
    values = [4.1, 4.5, 4.2, np.nan, 4.4]
    found = interval(values)
    oracle = ttest_1samp([4.1, 4.5, 4.2, 4.4], 0).confidence_interval(0.95)
    assert found["n"] == 4
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((4.3, oracle.low, oracle.high))


@pytest.mark.parametrize(("values", "n", "mean"), [([2.5], 1, 2.5), ([np.nan], 0, np.nan), ([], 0, np.nan)])
def test_one_value_has_no_interval(values, n, mean):
    found = interval(values)
    assert found["n"] == n
    np.testing.assert_equal([found["mean"], found["low"], found["high"]], [mean, np.nan, np.nan])


def test_cells_are_means_over_seeds():
    runs = planted()
    found = cells(runs, ["gain"]).set_index(["patch", "heads"])
    assert len(found) == 8
    group = runs[(runs.patch == 6) & (runs.heads == 16)].gain
    assert found.loc[(6, 16), "mean"] == pytest.approx(group.mean())
    assert found.loc[(6, 16), "n"] == 3


def test_pairing_takes_the_seeds_own_level_away():
    runs = planted()
    found = differences(runs, ["gain"]).set_index("heads")
    assert list(found.index) == [4, 8, 16, 32, "all"]
    assert ((found.low < -0.5 + 2e-3) & (found.high > -0.5 - 2e-3)).all()
    assert (found.high - found.low < 0.02).all()  # the cells' own intervals are 5 dB wide
    table = runs[runs.heads == 8].pivot(index="seed", columns="patch", values="gain")
    oracle = ttest_rel(table[6], table[3]).confidence_interval(0.95)
    assert (found.loc[8, "low"], found.loc[8, "high"]) == pytest.approx((oracle.low, oracle.high))
    assert found.loc["all", "n"] == 3  # seeds, not seeds times heads
    assert found.loc["all", "mean"] == pytest.approx(found.loc[[4, 8, 16, 32], "mean"].mean())


def test_a_missing_run_takes_its_pair_and_its_seed_with_it():
    runs = planted().query("not (patch == 6 and heads == 8 and seed == 2)")
    found = differences(runs, ["gain"]).set_index("heads")
    assert found.n.to_dict() == {4: 3, 8: 2, 16: 3, 32: 3, "all": 2}
    assert slopes(runs, ["gain"]).set_index("patch").n.to_dict() == {3: 3, 6: 2}


def test_one_patch_has_no_difference_and_one_number_of_heads_no_slope():
    runs = planted()
    assert differences(runs[runs.patch == 3], ["gain"]).empty
    assert slopes(runs[runs.heads == 8], ["gain"]).empty


def test_slope_for_each_doubling():
    runs = planted()
    found = slopes(runs, ["gain"]).set_index("patch")
    np.testing.assert_allclose(found["mean"], 0.25, atol=2e-3)
    assert ((found.low < 0.252) & (found.high > 0.248)).all()
    one = runs[(runs.patch == 3) & (runs.seed == 1)]
    lone = slopes(one, ["gain"])["mean"].item()
    assert lone == pytest.approx(np.polyfit(np.log2(one.heads), one.gain, 1)[0])


def test_only_finished_runs_are_read_and_the_workspace_is_not():
    found = parsed(shown(*grid()))
    assert [run.name for run in found] == [run["name"] for run in grid()]
    assert found[1].params["model.heads"] == 4
    assert not [key for key in found[0].params if key.startswith("plots")]
    assert found[0].metrics["attention"]["focus.eyes.lift"] == 1.5


def test_the_commit_itself_counts_unless_an_experiment_has_its_settings():
    rows = shown(listed("new", 3, 4, 0))
    rows[1]["data"] = listed("main", 3, 4, 0, "2027-01-01T00:00:00")["revs"][0]["data"]
    found = parsed(rows)
    assert [(run.name, run.committed) for run in found] == [("main", True), ("new", False)]
    assert [run.name for run in chosen(found, AXES, {})] == ["new"]
    assert [run.name for run in chosen(found[:1], AXES, {})] == ["main"]


def test_other_values_of_the_axes_are_no_part_of_the_sweep():
    runs = parsed(shown(*grid(), listed("patch4", 4, 4, 0), listed("seed7", 3, 4, 7)))
    assert {run.name for run in chosen(runs, AXES, {})} == {run["name"] for run in grid()}


def test_the_newest_of_a_cell_counts():
    runs = parsed(shown(listed("again", 3, 4, 0, "2026-02-02T00:00:00"), *grid()))
    names = [run.name for run in chosen(runs, AXES, {})]
    assert len(names) == 8
    assert names[0] == "again"


def test_two_sweeps_are_told_apart_by_a_setting():
    runs = parsed(shown(*grid(), *grid(count=3000)))
    with pytest.raises(InputError, match=r"differ in data\.count.*-S data\.count=60 or -S data\.count=3000"):
        chosen(runs, AXES, {})
    found = chosen(runs, AXES, {"data.count": "3000", "train.lr": "1e-3", "data.name": "faces"})
    assert len(found) == 8
    assert {run.params["data.count"] for run in found} == {3000}


@pytest.mark.parametrize("fixed", [{"data.count": "61"}, {"train.lr": "abc"}, {"no.such": "1"}])
def test_nothing_that_fits_is_said(fixed):
    with pytest.raises(InputError, match="no finished experiment of the sweep has"):
        chosen(parsed(shown(*grid())), AXES, fixed)


def test_states_of_the_queue():
    found = states_of(STATUS.format(workers="1 active, 0 idle"))
    expected = {"boned-gear": "Running", "gushy-line": "Queued", "super-mere": "Success", "wiser-coal": "Failed"}
    assert found == expected


class Queue:
    """Stands in for DVC: its answers one after the other, and what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), []

    def __call__(self, *arguments: str) -> str:
        self.asked.append(arguments)
        if arguments[:2] == ("queue", "start"):
            return ""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def dvc(monkeypatch):
    def put(*answers: str) -> Queue:
        stand_in = Queue(*answers)
        monkeypatch.setattr(sweep, "dvc", stand_in)
        monkeypatch.setattr(sweep.time, "sleep", lambda seconds: None)
        return stand_in

    return put


def test_waiting_ends_when_none_is_left_and_names_what_failed(dvc):
    running = STATUS.format(workers="1 active, 0 idle")
    done = running.replace("Running", "Success").replace("Queued", "Success")
    asked = dvc(running, running, done).asked
    assert wait(["boned-gear", "gushy-line", "wiser-coal", "vanished"]) == ["wiser-coal", "vanished"]
    assert len(asked) == 4  # one start, three looks


def test_a_queue_without_worker_is_not_waited_for(dvc):
    dvc(STATUS.format(workers="0 active, 0 idle"))
    with pytest.raises(InputError, match="worker has stopped with 2 experiments left"):
        wait(["boned-gear", "gushy-line"])


def test_queue_passes_the_sweep_on_and_fails_in_one_line(dvc, capsys):
    told = "Queueing with overrides.\nQueued experiment 'super-mere' for future execution.\n"
    told += "Queued experiment 'wiser-coal' for future execution.\n"
    asked = dvc(told, STATUS.format(workers="0 active, 1 idle")).asked
    with pytest.raises(SystemExit) as ended:
        main(["queue", "-S", "model.heads=2,4", "-S", "data.count=60"])
    assert ended.value.code == (
        "patch_and_heads: 1 of 2 experiments failed: wiser-coal (dvc queue logs wiser-coal says why)"
    )
    sweeps = [asked[0][i + 1] for i, word in enumerate(asked[0]) if word == "-S"]
    assert sweeps == ["model.patch=3,6", "model.heads=2,4", "seed=0,1,2", "data.count=60"]
    assert asked[0][:3] == ("exp", "run", "--queue")


def test_a_queue_that_succeeds_is_quiet(dvc):
    dvc("Queued experiment 'super-mere' for future execution.\n", STATUS.format(workers="0 active, 1 idle"))
    queue({})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(patch_and_heads, "FOLDER", tmp_path / "study")
    return tmp_path / "study"


def test_gather_writes_table_statistics_and_figure(dvc, folder, capsys):
    runs = [run for run in grid(seeds=(0, 1, 2)) if run["name"] != "run-6-8-1"]
    dvc(json.dumps(shown(*runs)))
    gather("faces", {"model.heads": "4,8"}, "HEAD")
    table = pd.read_csv(folder / "faces.csv")
    assert list(table.columns) == ["patch", "heads", "seed", *COLUMNS]
    assert len(table) == 11
    row = table[(table.patch == 6) & (table.heads == 8) & (table.seed == 2)].iloc[0]
    assert (row.gain, row.diversity, row.eyes_lift) == pytest.approx((8.4, 0.08, 3.5))
    assert not row.eyes_survives
    assert np.isnan(row.background_lift)
    text = (folder / "faces.md").read_text()
    assert "11 runs, 3 seeds; faces, 60 images, 48→192 px, 2 epochs" in text
    assert "| 3 | 4 | 3 | 30 | 6.70 (4.22 to 9.18) |" in text
    assert "1 of 3" in text
    assert "| 4 | −0.30 (−0.30 to −0.30) |" in text
    assert "background" not in text  # nothing measured
    assert (folder / "faces.png").read_bytes()[:4] == b"\x89PNG"
    assert "runs that are missing (1): patch 6, heads 8, seed 1" in capsys.readouterr().err


def test_gather_without_any_focus_still_draws(dvc, folder):
    dvc(json.dumps(shown(*grid(seeds=(0,), focus=False))))
    gather("celeba", {"model.heads": "4,8", "seed": "0"}, "HEAD")
    text = (folder / "celeba.md").read_text()
    assert "eye" not in text
    assert "| 3 | 4 | 1 | 30 | 5.70 | 0.040 | 20.00 | 0.800 |" in text
    assert "4 runs, 1 seed;" in text


@pytest.mark.parametrize("text", ["data.count", "=3", "data.count="])
def test_an_override_must_be_a_pair(text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["queue", "-S", text])
    assert ended.value.code == 2
    assert "must be key=value" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["queue"], ["gather", "faces"]])
def test_more_than_two_patches_are_refused(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, "-S", "model.patch=2,3,6"])
    assert str(ended.value.code).startswith("patch_and_heads: model.patch=2,3,6 names more than two sizes")


def test_markdown_says_minus_and_dash():
    runs = planted().assign(parameters=1234567, distance_uniform=25.0, eyes_survives=np.nan, background_survives=np.nan)
    runs["diversity"] = np.where(runs.heads == 4, np.nan, -0.0)
    parts = [measure(runs, ["gain", "diversity"]) for measure in (cells, differences, slopes)]
    text = markdown(runs, *parts, "note")
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| 3 | 4 |")]
    assert lines[0][3] == "1,234,567"
    assert lines[0][5] == "– |"
    assert "-0." not in text
    assert f"{MINUS}0.00 " not in text  # no minus before a zero
    assert rounded(-0.004, 2) == "0.00"
    assert rounded(-0.006, 2) == f"{MINUS}0.01"
    assert "Patch 6 minus patch 3" in text
    columns = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert columns == {7, 4}


def test_dvc_tells_its_own_reason_in_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^dvc exp show failed: .*not inside of a DVC repository"):
        experiments("HEAD")


def test_a_worker_that_dvc_leaves_behind_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "dvc.py").write_text("import subprocess; subprocess.Popen(['sleep', '6']); print('started')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start = time.perf_counter()
    assert sweep.dvc("queue", "start") == "started\n"
    assert time.perf_counter() - start < 4
