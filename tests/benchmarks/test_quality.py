"""The section on quality at equal time: its content, text and figure."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import contest, quality, quality_figure
from benchmarks.networks import Network, SmallEDSR, Variant
from benchmarks.quality_summary import curve, lead
from vitpipe.config import Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError

TINY = Variant(lambda settings: SmallEDSR(width=4, blocks=1, scale=settings.data.scale))


def test_what_ours_is_ahead_by_compares_like_with_like() -> None:
    def one(title: str, *gains: float, **more: object) -> dict:
        seeds = [{"seed": seed, "gain": {"psnr": gain}} for seed, gain in enumerate(gains)]
        return {"title": title, "gain": {"psnr": {"mean": np.mean(gains)}}, "seeds": seeds} | more

    found = {"ours": one("vitpipe", 3.0, 3.1, curve=[]), "ours-mirrored": one("vitpipe, mean", 3.2, 3.3)}
    found |= {"a": one("A", 2.9, 2.7, curve=[]), "a-mirrored": one("A, mean", 3.3), "b": one("B", 2.6, 2.6, curve=[])}
    assert lead(found) == ["Ours less the best other network, A, seed by seed: +0.100, +0.400 dB; mean +0.250 ± 0.212."]
    found["b-mirrored"] = one("B, mean", 3.5, 3.25)
    gap, mean = lead(found)[1:]
    assert gap == ""
    assert mean.startswith("Ours, mean with the mirrored prediction, less the best other network, B, mean, ")
    assert mean.endswith(" seed by seed: −0.300, +0.050 dB; mean −0.125 ± 0.247.")
    assert lead({"ours": found["ours"]}) == []
    (single,) = lead({"ours": found["ours"], "d": one("D", 2.9, curve=[])})
    assert single.endswith(" seed by seed: +0.100 dB."), "one seed in common has no mean"
    apart = {"title": "C", "gain": {"psnr": {"mean": 4.0}}, "seeds": [{"seed": 5, "gain": {"psnr": 4.0}}], "curve": []}
    assert lead({"ours": found["ours"], "c": apart}) == [], "no seed in common"


def test_a_curve_is_that_of_test_images() -> None:
    records = [{"points": [{"seconds": 1.0, "val": {"psnr": 20.0}, "test": {"psnr": psnr}}]} for psnr in (30.0, 33.0)]
    assert curve(records, {"psnr": 29.0}) == [{"seconds": 1.0, "psnr": 2.5, "least": 1.0, "most": 4.0}]


def test_figure_draws_the_curves_and_tells_the_gains() -> None:
    def one(title: str, gain: float, *means: float) -> dict[str, Any]:
        points = [
            {"seconds": 60.0 * minute, "psnr": mean, "least": mean - 0.1, "most": mean + 0.1}
            for minute, mean in enumerate(means, 1)
        ]
        return {"title": title, "gain": {"psnr": {"mean": gain}}, "seeds": [{}], "curve": points}

    networks = {"ours": one("vitpipe", 1.25, 0.5, 1.0), "other": one("other", -0.5, -0.75, -0.25)}
    axes = quality_figure.quality(
        {"networks": networks, "minutes": 2, "curve_images": 96, "images": {"test": 100}}
    ).axes[0]
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert drawn[:2] == [[[1, 0.5], [2, 1.0]], [[1, -0.75], [2, -0.25]]]
    ranges = [area.get_paths()[0].get_extents() for area in axes.collections]
    assert [edge for box in ranges for edge in (box.y0, box.y1)] == pytest.approx([0.4, 1.1, -0.85, -0.15])
    assert [text.get_text() for text in axes.texts] == ["bicubic", "+1.25  vitpipe", "−0.50  other"]


def test_whole_section_on_tiny_networks(
    settings: Callable[..., Settings], parts: dict[str, PackedDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = {
        "ours": Network("vitpipe", {"recipe": TINY}, whole={"batch": 6, "crop": 1}),
        "other": Network("other", {"it": TINY}, lr=1e-3),
    }
    for module in (contest, quality):
        monkeypatch.setattr(module, "NETWORKS", networks)
    monkeypatch.setattr(contest, "FARTHEST", 0)
    monkeypatch.setattr(quality, "check", lambda *rest: None)
    monkeypatch.setattr(quality, "prepare", lambda *rest: parts)
    content = quality.run(
        settings(),
        quick=False,
        root=None,
        minutes=0.004,
        seeds=(0, 1),
        networks=tuple(networks),
        scratch=tmp_path / "s",
        records=tmp_path / "r",
    )
    assert len(list((tmp_path / "r").glob("*.json"))) >= 4
    content = json.loads(json.dumps(content, allow_nan=False))
    assert list(content["networks"]) == ["ours", "ours-mirrored", "other", "other-mirrored", "other-consistent"]
    other, consistent = content["networks"]["other"], content["networks"]["other-consistent"]
    for before, after in zip(other["seeds"], consistent["seeds"], strict=True):
        assert after["test"]["psnr"] > before["test"]["psnr"] + 0.1, "hardly trained, it has much to gain"
    ours = content["networks"]["ours"]
    assert (ours["crop"], other["crop"]) == (1, 0)
    assert [row["seed"] for row in ours["seeds"]] == [0, 1]
    assert ours["batch"] == 6, "that of the whole trainings"
    assert all(row["images"] == 6 * row["steps"] for row in ours["seeds"])
    for row in ours["seeds"]:
        assert row["gain"]["psnr"] == pytest.approx(row["test"]["psnr"] - content["bicubic"]["psnr"], abs=1e-5)
        assert row["gain"]["mse_ratio"] == pytest.approx(row["test"]["mse"] / content["bicubic"]["mse"], abs=1e-4)
    values = [row["gain"]["psnr"] for row in ours["seeds"]]
    assert ours["gain"]["psnr"] == pytest.approx({"mean": np.mean(values), "sd": np.std(values, ddof=1)}, abs=1e-5)
    assert all(point["least"] <= point["psnr"] <= point["most"] for point in ours["curve"])
    text = quality.markdown(content)
    (row,) = [line.split(" | ") for line in text.splitlines() if line.startswith("| vitpipe |")]
    shown = [f"{content['networks'][name]['gain']['psnr']['mean']:+.3f}" for name in ("ours", "ours-mirrored")]
    assert [cell.partition(" ")[0].replace("−", "-") for cell in row[1:4]] == [*shown, ""], (
        "ours is consistent by itself"
    )
    assert row[-2] == "Adam, charbonnier loss, batch 6, crop 1"
    assert "minutes on one A card in float32 on the same" in quality.markdown(content | {"gpu": "A card"})
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")][2:]
    trained = [content["networks"][name] for name in networks]
    ranked = sorted(trained, key=lambda one: one["gain"]["psnr"]["mean"], reverse=True)
    assert rows == [one["title"] for one in ranked], "the best comes first"
    assert "Ours less the best other network, other, made consistent, seed by seed:" in text
    mean = "mean with the mirrored prediction,"
    assert f"Ours, {mean} less the best other network, other, {mean} seed by seed:" in text
    figure = quality.figures(content)["quality"]
    low, high = figure.axes[1].get_ylim()
    best = max(point["most"] for name in networks for point in content["networks"][name]["curve"])
    assert low < best < high < low + 0.6, "the panel of the end shows the best half dB"
    assert [len(line.get_xdata()) for line in figure.axes[1].lines] == [len(ours["curve"]), len(other["curve"])]
    assert {text.get_text().split("  ")[-1] for text in figure.axes[0].texts} >= {"vitpipe", "other"}
    assert any("mean and range of 2 seeds." in text.get_text() for text in figure.texts)
    content["networks"] = {name: one | {"seeds": one["seeds"][:1]} for name, one in content["networks"].items()}
    assert any("test images, one seed." in text.get_text() for text in quality.figures(content)["quality"].texts)


@pytest.mark.parametrize(
    ("changes", "networks", "seeds", "message"),
    [
        ({}, ("edsr",), (0,), "needs task.name supersample, data.size 192 and data.scale 4"),
        ({"data.size": 192, "data.scale": 4}, ("esdr",), (0,), "no network is called esdr: there are ours"),
        ({"data.size": 192, "data.scale": 4}, ("edsr",), (10,), "seeds must be some of 0 to 9, not 10"),
    ],
)
def test_wrong_wishes_are_told(
    changes: dict[str, Any],
    networks: tuple[str, ...],
    seeds: tuple[int, ...],
    message: str,
    settings: Callable[..., Settings],
) -> None:
    with pytest.raises(InputError, match=message):
        quality.run(settings(**changes), quick=False, root=None, networks=networks, seeds=seeds)
