"""The pipeline as users run it: in a copy of the repository, through DVC, on a tiny setting."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
TINY = """# @package _global_
recipe: tiny
data: {count: 90, size: 96}
model: {dim: 32, depth: 2, heads: 4, conv_channels: 16, conv_blocks: 1}
train: {epochs: 2, batch: 8, lr: 2.0e-3}
"""
CLASSES = """# @package _global_
defaults: [override /task: classify]
recipe: tiny-classes
data: {name: folder, count: null, size: 16, scale: 1, test: 0.2, val: 0.2}
task: {target: label}
model: {patch: 4, dim: 16, depth: 2, heads: 2, conv_channels: 0, conv_blocks: 0}
train: {epochs: 2, flip: false}
"""
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "tester",
    "GIT_AUTHOR_EMAIL": "tester@example.com",
    "GIT_COMMITTER_NAME": "tester",
    "GIT_COMMITTER_EMAIL": "tester@example.com",
}


def call(repository: Path, *command: str, ok: bool = True, **environment: str) -> str:
    """Runs a command in the copy; returns what it printed, on both streams."""
    done = subprocess.run(
        command,
        cwd=repository,
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert (done.returncode == 0) is ok, done.stdout
    return done.stdout


def copy(target: Path) -> Path:
    """The files that git tracks, or would, in a new repository whose default recipe is tiny."""
    files = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    for name in files.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for name in ("dvc.lock", "params.yaml"):
        (target / name).unlink(missing_ok=True)
    (target / "conf/recipe/tiny.yaml").write_text(TINY)
    (target / "conf/recipe/tiny-classes.yaml").write_text(CLASSES)
    conf = target / "conf/config.yaml"
    assert "- recipe: supersample" in conf.read_text()
    conf.write_text(conf.read_text().replace("- recipe: supersample", "- recipe: tiny"))
    call(target, "git", "init", "--quiet")
    call(target, "git", "config", "user.name", "tester")
    call(target, "git", "config", "user.email", "tester@example.com")
    call(target, "git", "add", "--all")
    call(target, "git", "commit", "--quiet", "--message", "start")
    return target


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which the pipeline has run once, as experiment patch3, and was committed."""
    repository = copy(tmp_path_factory.mktemp("repository"))
    call(repository, "dvc", "exp", "run", "--name", "patch3")
    call(repository, "git", "add", "--all")
    call(repository, "git", "commit", "--quiet", "--message", "first run")
    return repository


def test_every_output_is_there_and_means_something(repository: Path) -> None:
    for stage in yaml.safe_load((repository / "dvc.yaml").read_text())["stages"].values():
        for kind in ("outs", "metrics"):
            for out in stage.get(kind, []):
                path = repository / (out if isinstance(out, str) else next(iter(out)))
                assert path.exists()
                assert not path.is_dir() or any(path.iterdir()), f"{path} is empty"
    metrics = json.loads((repository / "reports/metrics.json").read_text())
    baseline = json.loads((repository / "reports/baseline.json").read_text())
    for name in ("mse", "mse01", "psnr", "ssim", "psnr_y", "ssim_y"):
        assert metrics["bicubic"][name] == baseline["bicubic"][name]
    assert metrics["gain"]["psnr"] == pytest.approx(metrics["psnr"] - metrics["bicubic"]["psnr"], abs=1e-4)
    split = pd.read_csv(repository / "data/split.csv", index_col="id")
    table = pd.read_csv(repository / "reports/metrics.csv", index_col="id")
    assert set(table.index) == set(split.index[split.part == "test"])
    assert table.psnr.mean() == pytest.approx(metrics["psnr"], abs=1e-3)
    assert len(pd.read_csv(repository / "reports/curve.csv")) == 2
    assert not (repository / ".resume").exists() or not any((repository / ".resume").iterdir())


def test_a_second_repro_does_nothing(repository: Path) -> None:
    start = time.perf_counter()
    assert "up to date" in call(repository, "dvc", "repro")
    assert time.perf_counter() - start < 10  # under 3 s on an idle machine


def test_plots_are_shown(repository: Path) -> None:
    page = shown_plots(repository)
    assert "val_bicubic_psnr" in page
    assert "gallery.png" in page


def shown_plots(repository: Path) -> str:
    """The page that `dvc plots show` writes."""
    output = call(repository, "dvc", "plots", "show", "--out", "shown")
    assert "WARNING" not in output
    assert "failed to load" not in output.lower()
    return (repository / "shown/index.html").read_text()


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("vitpipe/figures/style.py", {"evaluate", "heatmap"}),
        ("vitpipe/figures/curve.py", {"evaluate", "heatmap"}),
        ("vitpipe/report/format.py", {"report"}),
        ("vitpipe/explain/relevance.py", {"explain"}),
        ("vitpipe/metrics/attention.py", {"baseline", "evaluate", "explain", "heatmap", "report"}),
        ("vitpipe/tasks/supersample/scoring.py", {"baseline", "evaluate", "explain"}),
        ("vitpipe/tasks/classify/training.py", set()),
        ("vitpipe/sources/mnist.py", {"fetch", "split", "downsample"}),
        ("vitpipe/tasks/supersample/training.py", {"train", "baseline", "evaluate", "explain"}),
        ("vitpipe/data/split.py", {"split", "downsample", "features", "train", "baseline", "evaluate", "explain"}),
        ("params.yaml: patch: 3 -> patch: 6", {"weights", "train", "evaluate", "explain", "report"}),
        ("params.yaml: split: random -> split: identity", {"split", "report"}),
        ("params.yaml: root: null -> root: elsewhere", {"fetch", "report"}),
    ],
)
def test_a_change_runs_what_it_must_and_no_more(repository: Path, change: str, again: set[str]) -> None:
    file, _, replaced = change.partition(": ")
    old, _, new = replaced.partition(" -> ") if replaced else ("\n\n\n", "", "\n\n\n\n")
    path = repository / file
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    try:
        assert stages_changed(call(repository, "dvc", "status")) == again
    finally:
        path.write_text(before)


def stages_changed(status: str) -> set[str]:
    """Stages that `dvc status` names."""
    return {
        line.strip(":\n") for line in status.splitlines() if line.endswith(":") and not line.startswith((" ", "\t"))
    }


def test_trials_are_run_and_compared(repository: Path) -> None:
    output = call(repository, "dvc", "exp", "run", "--name", "patch6", "-S", "model.patch=6")
    for stage in ("fetch", "split", "downsample", "baseline"):
        assert f"Stage '{stage}' didn't change, skipping" in output
    diff = json.loads(call(repository, "dvc", "metrics", "diff", "patch3", "patch6", "--json"))
    changed = diff["reports/metrics.json"]
    assert {"psnr", "gain.psnr", "parameters"} <= set(changed)
    assert changed["psnr"]["old"] != changed["psnr"]["new"]
    table = pd.read_csv(pd.io.common.StringIO(call(repository, "dvc", "exp", "show", "--num", "2", "--csv")))
    assert {"patch3", "patch6"} <= {*table["Experiment"].dropna(), *table["rev"].dropna()}
    assert not [name for name in table if "protocol" in name]
    call(repository, "dvc", "plots", "diff", "patch3", "patch6", "--out", "plots")
    page = (repository / "plots/index.html").read_text()
    assert "queries.png" in page
    assert 'src="http' not in page, "the page needs the network"


def test_a_model_without_attention_goes_through_all_stages(repository: Path) -> None:
    call(repository, "dvc", "exp", "run", "--name", "none", "-S", "model.attention=none")
    reports = repository / "reports"
    assert not (reports / "explanations/explorer.npz").exists()
    assert "This model computes no attention" in (reports / "index.html").read_text()
    diff = json.loads(call(repository, "dvc", "metrics", "diff", "patch3", "none", "--json"))
    changed = diff["reports/attention.json"]
    for name in ("entropy", "importance", "untrained.entropy", "replaced.mean.drop"):
        assert changed[name]["old"] is not None
        assert changed[name]["new"] is None
    trust = diff["reports/faithfulness.json"]
    assert trust["rollout.deletion"]["new"] is None
    assert trust["gradient.deletion"]["new"] is not None
    call(repository, "dvc", "plots", "diff", "patch3", "none", "--out", "plots")  # one has no heatmaps of attention
    assert (repository / "plots/index.html").exists()


def test_a_sweep_through_the_queue(repository: Path) -> None:
    sweep = ("-S", "model.patch=3,6", "-S", "model.heads=2", "-S", "train.epochs=1")
    call(repository, "dvc", "exp", "run", "--queue", *sweep)
    call(repository, "dvc", "queue", "start")
    for _ in range(120):
        status = call(repository, "dvc", "queue", "status")
        if "Running" not in status and "Queued" not in status:
            break
        time.sleep(1)
    assert status.count("Success") == 2, status


def test_a_killed_training_goes_on(repository: Path) -> None:
    """DVC and its stage are killed in mid training; the next run says that it goes on, and nothing is left locked."""
    setting = ("-S", "seed=7", "-S", "train.epochs=30")
    process = subprocess.Popen(
        ["dvc", "exp", "run", *setting],
        cwd=repository,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(600):
        if list(repository.glob(".resume/*/state.pt")):
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    output = call(repository, "dvc", "exp", "run", *setting)
    assert "going on from epoch" in output
    assert not list(repository.glob(".resume/*/state.pt"))
    call(repository, "git", "checkout", "--", ".")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("recipe=trial09", "trial09"),
        ("model.patch=5", "model.patch is 5, but must divide the input size 24"),
        ("data.name=celebs", "did you mean celeba?"),
        ("data.root=/nowhere data.name=celeba", "/nowhere"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(repository: Path, setting: str, told: str) -> None:
    settings = [part for pair in setting.split() for part in ("-S", pair)]
    output = call(repository, "dvc", "exp", "run", *settings, ok=False)
    call(repository, "git", "checkout", "--", ".")
    assert told in output
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def classified(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What asks for experiment classes, which has run after the super-sampler: 72 pictures in three folders."""
    pictures, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number, name in enumerate(("ant", "bee", "cow")):
        (pictures / name).mkdir()
        for picture in range(24):
            pixels = random.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            pixels[..., number] += 100
            Image.fromarray(pixels).save(pictures / name / f"{picture:02d}.png")
    arguments = ["-S", "recipe=tiny-classes", "-S", f"data.root={pictures}"]
    call(repository, "dvc", "exp", "run", "--name", "classes", *arguments)
    return arguments


def test_classification_goes_through_the_same_stages(repository: Path, classified: list[str]) -> None:
    reports = repository / "reports"
    metrics = json.loads((reports / "metrics.json").read_text())
    baseline = json.loads((reports / "baseline.json").read_text())
    scores = {"accuracy", "accuracy_low", "accuracy_high", "macro_f1", "log_loss"}
    scores |= {"balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high"}
    about = {"images", "seconds", "parameters", "epoch", "per_class", "confusion", "protocol"}
    assert set(metrics) == scores | about | {"calibration_error", "majority", "logistic", "gain"}
    assert {name: metrics[name] for name in ("majority", "logistic")} == {
        name: baseline[name] for name in ("majority", "logistic")
    }
    split = pd.read_csv(repository / "data/split.csv", index_col="id")
    table = pd.read_csv(reports / "metrics.csv", index_col="id")
    assert set(table.index) == set(split.index[split.part == "test"])
    assert np.sum(metrics["confusion"]) == metrics["images"] == len(table)
    assert (table["actual"] == split["label"][table.index]).all()
    assert metrics["accuracy"] == pytest.approx((table["actual"] == table["predicted"]).mean(), abs=1e-5)
    assert "<h1>tiny-classes on folder</h1>" in (reports / "index.html").read_text()
    for folder in (reports / "figures", reports / "heatmaps"):
        captions = json.loads((folder / "captions.json").read_text())
        assert set(captions) == {path.name for path in folder.glob("*.png")}
    explanations = {path.stem for path in (reports / "explanations").glob("*.npz")}
    of_classes = {"class_attention", "pixels", "per_class"}
    assert explanations == of_classes | {
        "maps",
        "filters",
        "positions",
        "distances",
        "methods",
        "faithfulness",
        "explorer",
    }
    assert {path.stem for path in (reports / "figures").glob("*.npz")} == {"curve", "confusion", "patches", "ranking"}


def test_plots_of_classification_have_its_confusion_matrix(repository: Path, classified: list[str]) -> None:
    page = shown_plots(repository)
    # xy_count: what DVC's templates of confusion matrices count
    for part in ("val_accuracy", "xy_count", "ranking.png", '"actual"', '"predicted"', "overview.png"):
        assert part in page
    assert "psnr" not in page


def test_metrics_of_both_tasks_are_compared(repository: Path, classified: list[str]) -> None:
    diff = json.loads(call(repository, "dvc", "metrics", "diff", "patch3", "classes", "--json"))
    changed = diff["reports/metrics.json"]
    assert {"accuracy", "gain.accuracy", "psnr", "parameters"} <= set(changed)
    assert changed["parameters"]["old"] != changed["parameters"]["new"]
    assert "accuracy" in call(repository, "dvc", "metrics", "diff", "patch3", "classes")


def test_classes_to_show_change_no_training(repository: Path, classified: list[str]) -> None:
    output = call(repository, "dvc", "exp", "run", *classified, "-S", "task.show=[cow,ant]")
    ran = {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}
    assert ran == {"explain", "heatmap", "report"}
    with np.load(repository / "reports/explanations/per_class.npz") as saved:
        assert list(saved["classes"]) == ["cow", "ant"]
    failed = call(repository, "dvc", "exp", "run", *classified, "-S", "task.show=[cow,owl]", ok=False)
    assert "task.show names 'owl', but the classes are ant, bee, cow" in failed
    assert "Traceback" not in failed


def test_folder_that_is_no_git_checkout(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    output = call(tmp_path, "make", "setup", ok=False, GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    assert "this folder is no git checkout" in output
    assert not (tmp_path / ".venv").exists()


def test_python_without_our_packages(tmp_path: Path) -> None:
    call(tmp_path, sys.executable, "-m", "venv", "--without-pip", "bare")
    output = call(ROOT, str(tmp_path / "bare/bin/python"), "-m", "stages.split", ok=False)
    assert "source .venv/bin/activate" in output
    assert "Traceback" not in output
