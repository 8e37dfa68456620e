"""The page holds the numbers of the json files, all figures, and nothing from elsewhere."""

import base64
import io
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitpipe.errors import InputError
from vitpipe.report.format import number, region_verdict, signed, trust_verdict
from vitpipe.report.page import build

SETTINGS: dict[str, Any] = {
    "recipe": "trial <01>",
    "seed": 7,
    "data": {"name": "faces", "root": None, "size": 192},
    "task": {"name": "supersample", "target": None},
    "train": {"lr": 1e-5, "flip": True},
}
PARTS = {"train": 2430, "val": 270, "test": 300}


class Reader(HTMLParser):
    """Collects tags with their attributes, images and the cells of every table row."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cell = False

    def handle_data(self, data):
        self.text += data
        if self.cell:
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        return next(row[1:] for row in self.rows if row and row[0] == name)


def scripts(html: str) -> str:
    return "".join(re.findall(r"<script>(.*?)</script>", html, re.DOTALL))


def test_nothing_is_loaded_from_elsewhere(reports):
    html = build(reports, SETTINGS, PARTS)
    page = Reader(html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"[A-Za-z0-9+/=]{80,}", "", html))  # no base64
    assert {tag for tag, _ in page.tags} & {"iframe", "object", "video", "link"} <= {"link"}
    assert all("src" not in attributes for tag, attributes in page.tags if tag == "script")
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|importScripts|sendBeacon)\b|\bimport\b *\(", scripts(html))
    addresses = [
        attributes[key] for _, attributes in page.tags for key in ("src", "href", "srcset") if key in attributes
    ]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)


def test_figures_are_embedded_in_the_order_of_their_captions(reports):
    page = Reader(build(reports, SETTINGS, PARTS))
    images = [attributes for tag, attributes in page.tags if tag == "img" and "src" in attributes]
    files = [reports / "figures/z.png", reports / "figures/a.png", reports / "heatmaps/attention.png"]
    assert [image["alt"] for image in images] == [f"Title {file.name}" for file in files]
    for image, file in zip(images, files, strict=True):
        embedded = Image.open(io.BytesIO(base64.b64decode(image["src"].removeprefix("data:image/webp;base64,"))))
        np.testing.assert_array_equal(np.asarray(embedded), np.asarray(Image.open(file)))
        assert f"Read {file.name} <so>" in page.text


def test_numbers_are_those_of_the_files(reports):
    page = Reader(build(reports, SETTINGS, PARTS))
    assert page.rows[0][1:] == ["PSNR, dB", "PSNR-Y, dB", "SSIM", "MSE on [−1, 1]"]
    mean = "model, mean with the mirrored image's prediction"
    assert [row[0] for row in page.rows[:6]] == ["", "nearest", "bicubic", "model", mean, "model − bicubic"]
    for name, psnr in (("nearest", 25.125), ("bicubic", 27.5), ("model", 30.25), (mean, 30.5)):
        assert page.row(name) == [
            f"{psnr:.2f}", f"{psnr + 1.5:.2f}", f"{psnr / 40:.4f}", f"{10 ** (-psnr / 10):.5f}"
        ]  # fmt: skip
    assert page.row("model − bicubic")[0] == "+2.75"
    assert page.row("model − bicubic")[3].startswith("−")
    for text in (
        "+2.75 dB",
        "0.531",
        "1 234 567".replace(" ", "\u202f"),
        "30.25 dB on 300 test images",
        "in dB & on <RGB>",
    ):
        assert text in page.text


def test_settings_parts_curve_and_heads(reports):
    html = build(reports, SETTINGS, PARTS)
    page = Reader(html)
    assert "trial <01> on faces" in page.text
    assert "<01>" not in html
    for name, value in (("lr", "1e-05"), ("flip", "true"), ("root", "null"), ("size", "192"), ("train", "2\u202f430")):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in html
    assert ["2", "29.125"] in page.rows
    assert page.row("layer 2") == ["2.1234", "3.1234"]
    assert page.row("mean distance, input px") == ["33.2"]


def test_other_measures_go_by_their_key(reports):
    for name in ("metrics", "baseline"):
        path = reports / f"{name}.json"
        content = json.loads(path.read_text())
        for part in (content, content.get("bicubic"), content.get("nearest")):
            if part:
                part["lpips_distance"] = 0.98765
        path.write_text(json.dumps(content))
    page = Reader(build(reports, SETTINGS, PARTS))
    assert page.rows[0][-1] == "lpips distance"
    assert page.row("model")[-1] == "0.9877"


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("metrics.json", "evaluate"),
        ("baseline.json", "baseline"),
        ("attention.json", "explain"),
        ("curve.csv", "train"),
        ("figures/captions.json", "evaluate"),
        ("figures/a.png", "evaluate"),
        ("heatmaps/captions.json", "heatmap"),
        ("explanations/explorer.npz", "explain"),
        ("faithfulness.json", "explain"),
    ],
)
def test_missing_file_names_its_stage(reports, name, stage):
    (reports / name).unlink()
    with pytest.raises(InputError, match=rf"{name} is missing: the stage {stage} makes it"):
        build(reports, SETTINGS, PARTS)


@pytest.mark.parametrize(
    "name", ["metrics.json", "curve.csv", "faithfulness.json", "explanations/explorer.npz", "figures/a.png"]
)
def test_damaged_file(reports, name):
    (reports / name).write_text("")
    with pytest.raises(InputError, match=rf"{name} is empty or damaged"):
        build(reports, SETTINGS, PARTS)


def test_figure_without_caption(reports):
    (reports / "figures/extra.png").write_bytes((reports / "figures/a.png").read_bytes())
    with pytest.raises(InputError, match=r"extra\.png has no caption"):
        build(reports, SETTINGS, PARTS)


def test_metrics_without_baseline(reports):
    path = reports / "metrics.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "bicubic"}))
    with pytest.raises(InputError, match="holds no numbers of a baseline"):
        build(reports, SETTINGS, PARTS)


def test_numbers_as_text():
    assert number(None, "psnr") == "–"
    assert number(-0.123456, "mse") == "−0.12346"
    assert [number(-0.0004, "deletion"), number(-0.0005001, "deletion"), number(-1e-9, "accuracy")] == [
        "0.000",
        "−0.001",
        "0.0",
    ]
    assert number(1234567, "tokens") == "1\u202f234\u202f567"
    assert signed(0.5, "psnr") == "+0.50"
    assert signed(-0.5, "psnr") == "−0.50"


def explorer_facts(html: str) -> dict[str, Any]:
    return json.loads(html.partition('id="explorer-facts">')[2].partition("</script>")[0])


@pytest.mark.parametrize("missing", ["values", "picture_model", "reading_bicubic"])
def test_explorer_without_an_array(reports, supersampled, missing):
    others = {name: array for name, array in supersampled.items() if name != missing}
    np.savez(reports / "explanations/explorer.npz", **others)
    with pytest.raises(InputError, match=r"explorer\.npz is empty or damaged: .*explain"):
        build(reports, SETTINGS, PARTS)


def test_explorer_comes_first(reports):
    html = build(reports, SETTINGS, PARTS)
    assert html.index("</h1>") < html.index('id="explorer"') < html.index("<h2>Numbers</h2>")
    assert "Weights are stored in 256 steps, within 2.5 % of their value where that is 4.2e-6 or more." in html


def test_explorer_holds_the_arrays_of_the_file(reports, supersampled):
    html = build(reports, SETTINGS, PARTS)
    facts = explorer_facts(html)
    names = ("grid", "layers", "heads", "prefix", "classes", "readings")
    assert [facts[name] for name in names] == [[4, 4], 2, 6, 0, [], ["bicubic", "model"]]
    np.testing.assert_array_equal(np.array(facts["values"]), supersampled["values"].astype(np.float64))
    texts = re.findall(r'id="codes-\d+">(.*?)</script>', html)
    for text, codes in zip(texts, supersampled["codes"], strict=True):
        np.testing.assert_array_equal(np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8), codes.ravel())
    assert [sample["id"] for sample in facts["samples"]] == ["<0>.png", "<1>.png", "<2>.png"]
    for i, sample in enumerate(facts["samples"]):
        assert sample["readings"] == {name: supersampled[f"reading_{name}"][i] for name in ("bicubic", "model")}
        assert set(sample["pictures"]) == set(facts["pictures"]) == {"input", "bicubic", "model", "original"}
        for name, source in sample["pictures"].items():
            data = base64.b64decode(source.partition(",")[2])
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), supersampled[f"picture_{name}"][i])


def extended(reports: Path) -> None:
    """attention.json with what an untrained model has, measures of layers and of regions."""
    path = reports / "attention.json"
    attention = json.loads(path.read_text())
    attention |= {"diversity": 0.03125, "outliers": 0.0125, "images": 128}
    attention["untrained"] = {
        "self_weight": 0.0625,
        "entropy": 0.875,
        "distance": 40.5,
        "diversity": 0.5,
        "outliers": 0,
    }
    for layer in attention["layers"]:
        layer |= {"diversity": 0.25, "outliers": 0.0125}
    eyes = {"layer": 2, "head": 1, "mass": 0.084, "lift": 2.0, "lift_low": 1.9, "lift_high": 2.12, "pointing": 0.21}
    eyes |= {"content_lift": 1.5, "content_lift_low": 1.4, "content_lift_high": 1.6, "survives": 1}
    attention["regions"] = {"eyes": eyes | {"lift_untrained": 1.1}}
    attention["regions"]["nose"] = {k: v for k, v in eyes.items() if "content" not in k} | {"survives": 0}
    attention["regions"]["nose"]["lift_untrained"] = 1.1
    path.write_text(json.dumps(attention))


def test_trained_stands_beside_untrained(reports):
    extended(reports)
    page = Reader(build(reports, SETTINGS, PARTS))
    assert ["", "trained", "untrained"] in page.rows
    assert page.row("self-weight") == ["0.3210", "0.0625"]
    assert page.row("mean distance, input px") == ["33.2", "40.5"]
    assert page.row("distance if uniform, input px") == ["50.5", "–"]
    assert page.row("token-norm outliers, %") == ["1.25", "0.00"]
    assert "of 128 test images" in page.text
    assert page.row("layer 1, all heads") == ["0.2500", "1.25"]


def test_each_region_has_a_row(reports):
    extended(reports)
    page = Reader(build(reports, SETTINGS, PARTS))
    assert page.row("eyes") == [
        "layer 2, head 1", "8.4", "2.001.90 to 2.12", "1.10", "1.501.40 to 1.60", "21",
        "looks at it and follows it when it moves",
    ]  # fmt: skip
    assert page.row("nose")[4] == "–"
    assert page.row("nose")[-1] == "looks at it; whether it follows was not measured"


def test_no_regions_without_landmarks(reports):
    assert "Which parts of a face" not in build(reports, SETTINGS, PARTS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "looks at it and follows it when it moves"),
        ({"lift_low": 0.7, "lift_high": 0.9}, "looks away from it"),
        ({"lift_low": 0.9}, "not more than its share of the area"),
        ({"lift_low": 0.998, "lift_high": 0.9996}, "not more than its share of the area"),
        ({"lift_low": 1.004, "lift_high": 1.02}, "not more than its share of the area"),
        ({"content_lift_low": 0.98}, "looks at the place, does not follow the content"),
        ({"content_lift_low": 1.004}, "looks at the place, does not follow the content"),
        ({"survives": 0}, "follows the content, no more than untrained"),
    ],
)
def test_regions_in_words(changes, words):
    found = {"lift_low": 1.9, "lift_high": 2.1, "content_lift_low": 1.3, "survives": 1, "lift_untrained": 1.2}
    assert region_verdict(found | changes) == words


def test_methods_stand_beside_controls(reports):
    page = Reader(build(reports, SETTINGS, PARTS))
    header = next(row for row in page.rows if row and row[0] == "method")
    assert len(header) == 7
    assert header[5] == "correlation with random weights' map"
    area, back = "0.4120.392 to 0.433", "0.6250.605 to 0.645"
    assert page.row("rollout") == [
        area, "0.0620.042 to 0.083", back, "−0.062−0.083 to −0.042", "0.120.07 to 0.17", "better by deletion"
    ]  # fmt: skip
    assert page.row("raw attention")[-1] == "not better than the controls"
    assert page.row("SmoothGrad")[-1] == "better by insertion"
    assert page.row("random order") == [area, "–", back, "–", "–", "control"]
    assert "area under <the score>" in page.text
    assert "0.987" not in page.text


def test_trust_in_words():
    assert trust_verdict({"deletion_gain_low": 0.1, "insertion_gain_low": 0.1}) == "better by deletion and insertion"
    assert trust_verdict({"deletion_gain_low": 0.0}) == "not better than the controls"
    same = trust_verdict({"insertion_gain_low": 0.1, "randomised": 0.87})
    assert same == "better by insertion; much the same with random weights"
    assert trust_verdict({"randomised": 0.2}) == "not better than the controls"
