"""What the heatmap stage leaves for the page beside attention.json: arrays of the explorer, faithfulness.json."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

STEPS = 1.05 ** np.arange(-254.0, 1.0)


def attention(images: int, heads: int, grid: int, token: bool, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Random attention of two layers, sharper in the second, in the codes of `vitpipe.explain.explorer`."""
    tokens = grid**2 + token
    logits = random.normal(size=(images, 2, heads, tokens, tokens)) * np.array([1.0, 3.0])[:, None, None, None]
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    codes = np.clip(np.round(np.log(weights) / np.log(1.05)) + 255, 0, 255).astype(np.uint8)
    return {
        "ids": np.array([f"<{i}>.png" for i in range(images)]),
        "codes": codes,
        "values": np.concatenate([[0.0], STEPS]).astype(np.float32),
        "error": np.array(1.05**0.5 - 1),
        "heads": np.array(heads),
        "averaged": np.array(False),
        "grid": np.array(grid),
        "token": np.array(token),
    }


@pytest.fixture(scope="session")
def supersampled() -> dict[str, np.ndarray]:
    """Three images of 16 pixels, from 8, in 4x4 patches; six heads."""
    random = np.random.default_rng(0)
    pictures = {name: random.integers(0, 256, (3, 16, 16, 3), np.uint8) for name in ("bicubic", "model", "hr")}
    scores = {"psnr_bicubic": np.array([20.125, 21.5, 22.25]), "psnr_model": np.array([30.5, 31.75, 32.0])}
    lr = {"lr": random.integers(0, 256, (3, 8, 8, 3), np.uint8)}
    return attention(3, 6, 4, False, random) | lr | pictures | scores


@pytest.fixture(scope="session")
def classified() -> dict[str, np.ndarray]:
    """Two images of 6 pixels in 3x3 patches with a class token; the second is taken for another class."""
    random = np.random.default_rng(1)
    return attention(2, 2, 3, True, random) | {
        "images": random.integers(0, 256, (2, 6, 6, 3), np.uint8),
        "classes": np.array(["<cat>", "dog", "owl"]),
        "actual": np.array(["dog", "<cat>"]),
        "predicted": np.array(["dog", "owl"]),
        "probabilities": np.array([[0.2, 0.7, 0.1], [0.3, 0.15, 0.55]], np.float32),
    }


def trial(kind: str, name: str, gain: float | None) -> dict[str, Any]:
    """A line of faithfulness.json, whose gain in deletion is `gain` and in insertion the negative of it."""
    numbers = {"deletion": 0.4125, "insertion": 0.625}
    if gain is not None:
        numbers |= {"deletion_gain": gain, "insertion_gain": -gain, "deletion_over_random": 0.987}
    line: dict[str, Any] = {kind: name}
    for key, value in numbers.items():
        line |= {key: value, f"{key}_low": value - 0.0205, f"{key}_high": value + 0.0205}
    if gain is not None:
        steps = {"head": 0.875, "embedding": 0.125}
        line["randomised"] = [
            {"step": step, "correlation": value, "low": value - 0.05, "high": value + 0.05}
            for step, value in steps.items()
        ]
    return line


@pytest.fixture
def explained(supersampled) -> Callable[..., Path]:
    """Writes faithfulness.json and heatmaps/explorer.npz into a folder of reports: `explained(reports)`."""

    def write(reports: Path, arrays: dict[str, np.ndarray] = supersampled) -> Path:
        (reports / "heatmaps").mkdir(exist_ok=True)
        np.savez_compressed(reports / "heatmaps/explorer.npz", allow_pickle=False, **arrays)
        content = {
            "methods": [
                trial("method", "rollout", 0.0625), trial("method", "raw", 0.0125), trial("method", "smooth", -0.0625)
            ],
            "controls": [trial("control", "random", None)],
            "rollout": {"deletion": 0.4125},
            "protocol": [{"deletion": "area under <the score>"}],
        }  # fmt: skip
        (reports / "faithfulness.json").write_text(json.dumps(content))
        return reports

    return write


@pytest.fixture
def reports_of(tmp_path, explained) -> Callable[[dict[str, np.ndarray]], Path]:
    """A folder of reports, whole but for figures, with the given arrays of the explorer."""

    def write(arrays: dict[str, np.ndarray]) -> Path:
        bicubic = {"psnr": 27.5}
        head = {"self_weight": 0.1, "entropy": 0.5, "distance": 9.0}
        metrics = {"psnr": 29.75, "bicubic": bicubic, "gain": {"psnr": 2.25}, "images": 3}
        files = {
            "metrics": metrics,
            "baseline": {"bicubic": bicubic},
            "attention": head | {"layers": [{"heads": [head]}]},
        }
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        (tmp_path / "curve.csv").write_text("epoch,val_psnr\n1,29.5\n")
        for folder in ("figures", "heatmaps"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "captions.json").write_text("{}")
        return explained(tmp_path, arrays)

    return write
