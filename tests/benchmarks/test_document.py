"""What is stored of the sections, and the document that is made of it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from benchmarks import SECTIONS, document, encoders_document, growth, growth_document
from benchmarks import __main__ as command
from benchmarks.document import write
from benchmarks.machine import cores, facts
from benchmarks.store import load, put
from vitpipe.config import Settings
from vitpipe.errors import InputError
from vitpipe.training.loop import Training

ROOT = Path(__file__).parents[2]
SPEED = {"ours": 120.0, "unbiased": 130.0, "other": 90.0, "timm": 80.0, "torchvision": 60.0, "vit-pytorch": 100.0}


def evenly_spaced(value: float) -> dict[str, float]:
    return {"median": value, "q1": value * 0.9, "q3": value * 1.1}


def encoders_content() -> dict[str, Any]:
    """Ours at 120 images a second, the fastest peer at 100, half as fast when memory is not kept."""
    rows = []
    for kind in ("training", "forward"):
        for dtype in ("bfloat16", "float32"):
            for name, speed in SPEED.items():
                for kept in (False, True) if name in encoders_document.PEERS else (True,):
                    own = speed if kept else speed / 2
                    row = {"shape": "tiny", "kind": kind, "dtype": dtype, "encoder": name, "kept": kept}
                    row |= {"images": evenly_spaced(own), "share": 0.625, "memory": own + 3000}
                    row |= {"ratio": evenly_spaced(120 / own), "unbiased": evenly_spaced(130 / own)}
                    rows.append(row | ({"path": "written"} if name == "ours" else {}))
    counts = {"ours": 1234, "timm": 1234, "torchvision": 1234, "vit-pytorch": 1200}
    shape = {"tokens": 64, "dim": 32, "depth": 4, "heads": 2, "mlp": 4.0, "batch": 8, "flops": 2.5e9}
    peaks = [
        {"shape": "tiny", "kind": kind, "dtype": dtype, "peak": 1234.5}
        for kind in ("training", "forward")
        for dtype in ("bfloat16", "float32")
    ]
    return {"rounds": 7, "shapes": {"tiny": shape | {"parameters": counts}}, "peaks": peaks, "rows": rows}


def growth_content() -> dict[str, Any]:
    """Time grows with the square of the image's side, memory in proportion to it."""
    sides = (96, 192)
    points = [
        {"value": s, "tokens": s, "parameters": 5000, "milliseconds": evenly_spaced(s**2 / 100), "memory": s * 2.0}
        for s in sides
    ]
    model = {"patch": 3, "dim": 128, "depth": 2, "heads": 8, "mlp": 2.0}
    axes = {"data.size": points, "model.patch": points}
    return {"rounds": 7, "batch": 16, "dtype": "bfloat16", "model": model, "size": 192, "axes": axes}


def section(found: dict[str, Any], **changes: Any) -> dict[str, Any]:
    content = {"processor": "A processor", "cores": 2, "threads": 1, "python": "3.11", "date": "2026-01-02"}
    content |= {"packages": {"torch": "2.13"}, "peak": {"float32": 185, "bfloat16": 1423}}
    return {"machine": content, "seconds": 600, "command": "python -m benchmarks growth", "found": found} | changes


def test_other_sections_are_kept_and_stand_in_order(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "benchmarks.json"
    assert load(path) == {}
    put(path, "growth", {"found": 1})
    put(path, "encoders", {"found": 2})
    put(path, "growth", {"found": 3})
    assert list(json.loads(path.read_text()).items()) == [("encoders", {"found": 2}), ("growth", {"found": 3})]
    with pytest.raises(ValueError, match="not JSON compliant"):
        put(path, "growth", {"found": float("nan")})
    assert load(path)["growth"] == {"found": 3}, "what cannot be written leaves the file as it was"
    path.write_text("{")
    with pytest.raises(InputError, match=r"benchmarks\.json is damaged"):
        put(path, "growth", {})


def test_document_of_growth(tmp_path: Path) -> None:
    write({"growth": section(growth_content())}, tmp_path / "docs")
    text = (tmp_path / "docs" / "benchmarks.md").read_text()
    origin = (
        "`python -m benchmarks growth`, 10 min on 2026-01-02. A processor, 2 cores, 1 thread; Python 3.11, torch 2.13."
    )
    assert origin in text
    assert "185 GFLOP/s in float32 and 1,423 GFLOP/s in bfloat16" in text
    assert "slope of time 2.00 (2.00), of memory 1.00 (1.00)" in text
    assert "| `data.size` | 96 | 192 |" in text
    assert "| ms a step | 92 (83–101) | 369 (332–406) |" in text
    assert "| peak memory, MB | 192 | 384 |" in text
    assert "patch 3, dim 128, depth 2, heads 8" in text
    assert text.endswith((ROOT / "benchmarks" / "notes.md").read_text().strip() + "\n"), (
        "what is written by hand is there"
    )
    assert "](benchmarks/growth.png)" in text
    assert (tmp_path / "docs" / "benchmarks" / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_the_document_is_what_was_measured_and_the_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "save", lambda *_: None)  # charts depend on matplotlib's version
    write(load(ROOT / "reports" / "benchmarks.json"), tmp_path)
    assert (tmp_path / "benchmarks.md").read_text() == (ROOT / "docs" / "benchmarks.md").read_text()


def test_document_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing was measured yet"):
        write({}, tmp_path)


def test_text_on_encoders_compares_with_the_faster_of_both_allocators() -> None:
    text = encoders_document.markdown(encoders_content())
    assert "1.20 times as fast as the fastest peer's where it does worst (tiny, bfloat16)" in text
    assert "at least 1.50 times as fast as timm's and torchvision's (tiny, timm)" in text
    speeds = "120 (108–132) | 80 (72–88) | 60 (54–66) | 100 (90–110)"
    assert text.count(f"| tiny | {speeds} | 1.50 | 2.00 | 1.20 | 1.30 | **1.20** | 62% of 1,234 |") == 4
    assert "With freed memory kept peers are 2.00 to 2.00 times as fast as they come (median 2.00)." in text
    assert text.count("| 90 | **120**\\* ") == 4, "the faster path is bold, the rule's is marked"
    assert "1,234 (vit-pytorch 1,200)" in text
    assert "| tiny | 3,120 | 3,040 | 3,030 | 3,050 | 3,120 | 3,040 | 3,030 | 3,050 |" in text, "peers as they come"


def test_without_bias_the_worst_in_training_is_told() -> None:
    content = encoders_content()
    ratios = {("training", "bfloat16"): 1.4, ("training", "float32"): 1.3}
    for row in content["rows"]:
        row["unbiased"] = evenly_spaced(ratios.get((row["kind"], row["dtype"]), 1.1))
    text = encoders_document.markdown(content)
    assert "vit-pytorch's lacks, it is at least 1.30 times as fast as vit-pytorch's (tiny, float32)" in text


def test_other_path_stands_in_the_place_of_the_one_that_the_rule_leaves() -> None:
    content = encoders_content()
    for row in content["rows"]:
        if row["encoder"] == "ours" and row["dtype"] == "float32":
            row["path"] = "fused"
    text = encoders_document.markdown(content)
    assert "| tiny | 90 | **120**\\* | **120**\\* | 90 | 90 | **120**\\* | **120**\\* | 90 |" in text


def test_where_bfloat16_is_emulated_the_text_is_on_float32_alone() -> None:
    content = encoders_content()
    content["rows"] = [row for row in content["rows"] if row["dtype"] == "float32"]
    text = encoders_document.markdown(content)
    assert "1.20 times as fast as the fastest peer's where it does worst (tiny, float32)" in text
    assert ", bfloat16" not in text
    assert "| tiny | 3,120 | 3,040 | 3,030 | 3,050 |" in text
    titles = {axes.get_title("left") for axes in encoders_document.figures(content)["encoders"].figure.axes}
    assert titles == {"Training step, float32", "Forward pass, float32"}


def test_bars_are_relative_to_the_fastest_peer() -> None:
    figure = encoders_document.figures(encoders_content())["encoders"]
    panels = {axes.get_title("left") for axes in figure.axes}
    assert panels == {
        f"{kind}, {dtype}" for kind in ("Training step", "Forward pass") for dtype in ("bfloat16", "float32")
    }
    for axes in figure.axes:
        heights = {bar.get_label(): bar.patches[0].get_height() for bar in axes.containers}
        assert heights == pytest.approx({"ours": 1.2, "timm": 0.8, "torchvision": 0.6, "vit-pytorch": 1.0})
        assert "62%" in [text.get_text() for text in axes.texts]


def test_curves_of_growth_are_logarithmic() -> None:
    figure = growth_document.figures(growth_content())["growth"]
    time = next(axes for axes in figure.axes if axes.get_label() == "milliseconds a step data.size")
    assert (time.get_xscale(), time.get_yscale()) == ("log", "log")
    assert time.lines[0].get_xydata().tolist() == [[96.0, 92.16], [192.0, 368.64]]
    assert "slope 2.00 (2.00)" in [text.get_text() for text in time.texts]


def test_quick_run_of_growth(settings: Callable[..., Settings]) -> None:
    found = growth.run(settings(), quick=True)
    one, two = found["axes"]["model.depth"]
    assert (one["value"], two["value"]) == (1, 2)
    block = 12 * 16 + 4 * 16 + 4 * 16 * 16 + 4 * 16 * 16 + 3 * 16  # norms and biases, attention, MLP of 32, its bias
    assert two["parameters"] - one["parameters"] == pytest.approx(block, rel=0.1)
    assert all(point["milliseconds"]["median"] > 0 and point["memory"] > 0 for point in (one, two))
    json.dumps(found, allow_nan=False)
    growth_document.markdown(found)


def test_the_step_that_is_timed_is_one_of_training(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Training] = []
    monkeypatch.setattr(growth, "Training", lambda *what: made.append(Training(*what)) or made[-1])
    step = growth.make(settings())
    before = [weight.clone() for weight in made[0].weights]
    step()
    assert not all(map(torch.equal, before, made[0].weights))


def test_values_that_the_rules_refuse_are_left_out(settings: Callable[..., Settings]) -> None:
    points = growth.axis(settings(), "model.heads", (2, 3), rounds=1, least=0)  # of a width of 16
    assert [point["value"] for point in points] == [2]


def test_growth_is_of_the_super_sampler(settings: Callable[..., Settings]) -> None:
    with pytest.raises(InputError, match=r"needs task\.name supersample"):
        growth.run(settings(**{"task.name": "classify"}))


def test_machine() -> None:
    found = facts(side=64)
    assert found["processor"]
    assert found["cores"] == cores() >= 1
    assert found["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert all(peak > 0 for peak in found["peak"].values())


@pytest.fixture
def bench(tmp_path: Path, params: Callable[..., dict[str, Any]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params()))
    return lambda *arguments: subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


def test_command(bench: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = bench("growth", "--quick")
    assert done.returncode == 0, done.stderr
    stored = load(tmp_path / ".bench" / "quick" / "reports" / "benchmarks.json")
    assert stored["growth"]["command"] == "python -m benchmarks growth --quick"
    assert (tmp_path / ".bench" / "quick" / "docs" / "benchmarks.md").exists()
    assert not (tmp_path / "reports").exists(), "a quick run leaves what was measured as it is"


@pytest.mark.parametrize("cuda", [True, False])
def test_without_names_every_section_is_measured_that_can_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, params: Callable[..., dict[str, Any]], cuda: bool
) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(command, "import_module", lambda name: SimpleNamespace(run=lambda *_, **__: name))
    monkeypatch.setattr(document, "write", lambda *_: None)
    command.bench([], None, quick=True)
    found = load(tmp_path / command.QUICK / "reports" / "benchmarks.json")
    assert list(found) == [name for name in SECTIONS if cuda or name != "gpu"]


def test_command_says_what_is_wrong(bench: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert "there is no section growht: encoders, quality" in bench("growht").stderr
    done = bench("document")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("benchmarks: nothing was measured yet")
