"""What the stages before leave for the page: arrays of the explorer, numbers, figures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SHADES = {"z.png": 10, "a.png": 11, "attention.png": 20}  # of the figures


def attention(images: int, heads: int, grid: tuple[int, int], prefix: int, seed: int) -> dict[str, np.ndarray]:
    """Random attention of two layers, sharper in the second, in the codes of `vitpipe.explain.explorer`."""
    tokens, random = grid[0] * grid[1] + prefix, np.random.default_rng(seed)
    logits = random.normal(size=(images, 2, heads, tokens, tokens)) * np.array([1.0, 3.0])[:, None, None, None]
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return {
        "ids": np.array([f"<{i}>.png" for i in range(images)]),
        "codes": np.clip(np.round(np.log(weights) / np.log(1.05)) + 255, 0, 255).astype(np.uint8),
        "values": np.concatenate([[0.0], 1.05 ** np.arange(-254.0, 1.0)]).astype(np.float32),
        "error": np.array(1.05**0.5 - 1),
        "heads": np.array(heads),
        "averaged": np.array(False),
        "grid": np.array(grid),
        "prefix_tokens": np.array(prefix),
        "readings": np.array([], dtype=str),
        "classes": np.array([], dtype=str),
    }


def pictures(seed: int, images: int, **sizes: tuple[int, int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    found = {f"picture_{name}": random.integers(0, 256, (images, *size, 3), np.uint8) for name, size in sizes.items()}
    return found | {"pictures": np.array(list(sizes))}


@pytest.fixture(scope="session")
def supersampled() -> dict[str, np.ndarray]:
    """Three images of 16 pixels, from 8, in 4x4 patches; six heads."""
    return attention(3, 6, (4, 4), 0, seed=0) | {
        **pictures(0, 3, input=(8, 8), bicubic=(16, 16), model=(16, 16), original=(16, 16)),
        "readings": np.array(["bicubic", "model"]),
        "reading_bicubic": np.array(["20.12 dB", "21.50 dB", "22.25 dB"]),
        "reading_model": np.array(["30.50 dB", "31.75 dB", "32.00 dB"]),
    }


@pytest.fixture(scope="session")
def classified() -> dict[str, np.ndarray]:
    """Two images of 6 pixels in 3x3 patches with a class token; the second is taken for another class."""
    return attention(2, 2, (3, 3), 1, seed=1) | {
        **pictures(1, 2, input=(6, 6)),
        "classes": np.array(["<cat>", "dog", "owl"]),
        "actual": np.array(["dog", "<cat>"]),
        "probabilities": np.array([[0.2, 0.7, 0.1], [0.3, 0.15, 0.55]], np.float32),
    }


@pytest.fixture(scope="session")
def mixed(classified) -> dict[str, np.ndarray]:
    """Two images of 4x6 pixels in 2x3 patches with a class token and a register, classes and a second picture."""
    outcome = {name: classified[name] for name in ("classes", "actual", "probabilities")}
    return attention(2, 2, (2, 3), 2, seed=2) | outcome | pictures(2, 2, input=(4, 6), model=(4, 6))


def scores(psnr: float) -> dict[str, float]:
    return {"mse": 10 ** (-psnr / 10), "psnr": psnr, "ssim": psnr / 40, "psnr_y": psnr + 1.5}


def trial(kind: str, name: str, gain: float | None = None) -> dict[str, Any]:
    """A line of faithfulness.json, whose gain in deletion is `gain` and in insertion the negative of it."""
    numbers = {"deletion": 0.4125, "insertion": 0.625}
    steps = {}
    if gain is not None:
        numbers |= {"deletion_gain": gain, "insertion_gain": -gain, "deletion_over_random": 0.987}
        steps = {"head": 0.875, "embedding": 0.125}
    line: dict[str, Any] = {kind: name}
    for key, value in numbers.items():
        line |= {key: value, f"{key}_low": value - 0.0205, f"{key}_high": value + 0.0205}
    ends = [{"step": s, "correlation": v, "low": v - 0.05, "high": v + 0.05} for s, v in steps.items()]
    return line | ({"randomised": ends} if ends else {})


@pytest.fixture
def reports_of() -> Callable[..., Path]:
    """Writes all that the page reads into a folder: `reports_of(folder, arrays of the explorer)`."""

    def write(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
        baseline = {"nearest": scores(25.125), "bicubic": scores(27.5)}
        metrics = scores(30.25) | {
            "bicubic": baseline["bicubic"],
            "gain": {"psnr": 2.75, "mse_ratio": 0.5312},
            "self_ensemble": scores(30.5) | {"gain": {"psnr": 3.0, "mse_ratio": 0.5012}},
            "images": 300,
            "parameters": 1234567,
            "epoch": 6,
            "protocol": [{"psnr": "in dB & on <RGB>"}],
        }
        heads = [{"self_weight": 0.1234 + i, "entropy": 1.5 + i, "distance": 20.0 + i} for i in range(4)]
        means = {"self_weight": 0.321, "entropy": 2.222, "distance": 33.25, "distance_uniform": 50.5}
        replaced = {"mean": {"drop": 1.25}, "identity": {"drop": 2.5}, "place": {"drop": None}}
        methods = {"rollout": 0.0625, "raw": 0.0125, "smooth": -0.0625}
        files = {
            "metrics": metrics,
            "baseline": baseline | {"images": 300, "protocol": []},
            "attention": means | {"replaced": replaced, "layers": [{"heads": heads[:2]}, {"heads": heads[2:]}]},
            "faithfulness": {
                "methods": [trial("method", name, gain) for name, gain in methods.items()],
                "controls": [trial("control", "random")],
                "rollout": {"deletion": 0.4125},
                "protocol": [{"deletion": "area under <the score>"}],
            },
        }
        for part in ("explanations", "figures", "heatmaps"):
            (folder / part).mkdir(parents=True)
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        (folder / "curve.csv").write_text("epoch,val_psnr\n1,28.0625\n2,29.125\n")
        np.savez_compressed(folder / "explanations/explorer.npz", allow_pickle=False, **arrays)
        for part, names in (("figures", ("z.png", "a.png")), ("heatmaps", ("attention.png",))):
            for name in names:
                Image.fromarray(np.full((2, 2, 3), SHADES[name], np.uint8)).save(folder / part / name)
            captions = {name: {"title": f"Title {name}", "caption": f"Read {name} <so>"} for name in names}
            (folder / part / "captions.json").write_text(json.dumps(captions))
        return folder

    return write


@pytest.fixture
def reports(tmp_path, reports_of, supersampled) -> Path:
    """The reports of a super-sampler."""
    return reports_of(tmp_path / "reports", supersampled)
