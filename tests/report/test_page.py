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
from vitpipe.report.format import focus_verdict, number, signed, trust_verdict
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


def scores(psnr: float) -> dict[str, float]:
    return {"mse": 10 ** (-psnr / 10), "psnr": psnr, "ssim": psnr / 40, "psnr_y": psnr + 1.5}


@pytest.fixture
def reports(tmp_path, explained) -> Path:
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
    attention = {"self_weight": 0.321, "entropy": 2.222, "distance": 33.25, "distance_uniform": 50.5}
    attention |= {"layers": [{"heads": heads[:2]}, {"heads": heads[2:]}]}
    for name, content in (
        ("metrics", metrics),
        ("baseline", baseline | {"images": 300, "protocol": []}),
        ("attention", attention),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "curve.csv").write_text("epoch,val_psnr\n1,28.0625\n2,29.125\n")
    for shade, (folder, names) in enumerate((("figures", ("z.png", "a.png")), ("heatmaps", ("attention.png",)))):
        (tmp_path / folder).mkdir()
        for i, name in enumerate(names):
            Image.fromarray(np.full((2, 2, 3), 10 * shade + i, np.uint8)).save(tmp_path / folder / name)
        captions = {name: {"title": f"Title {name}", "caption": f"Read {name} <so>"} for name in names}
        (tmp_path / folder / "captions.json").write_text(json.dumps(captions))
    return explained(tmp_path)


def scripts(html: str) -> str:
    return "".join(re.findall(r"<script>(.*?)</script>", html, re.DOTALL))


def test_nothing_is_loaded_from_elsewhere(reports):
    html = build(reports, SETTINGS, PARTS)
    page = Reader(html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
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


def shares(accuracy: float, low: float, high: float, loss: float) -> dict[str, float]:
    return {
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": accuracy - 0.01,
        "log_loss": loss,
        "images": 200,
    }


@pytest.fixture
def classified(reports) -> Path:
    """The same of a classifier, which is better than logistic regression by accuracy and worse by F1."""
    baseline = {"majority": shares(0.6, 0.53, 0.666, 0.673), "logistic": shares(0.905, 0.856, 0.938, 0.25)}
    of_class = {"predicted": 90, "precision": 0.955, "recall": 0.9, "f1": 0.927}
    metrics = shares(0.963, 0.926, 0.981, 0.125) | {
        "macro_f1": 0.892,
        "per_class": [
            {"class": "<cat>", "images": 80, **of_class},
            {"class": "dog", "images": 120, **of_class, "recall": 0.75},
        ],
        "confusion": [[72, 8], [30, 90]],
        **baseline,
        "gain": {"accuracy": 0.058, "macro_f1": -0.003},
        "seconds": 1.25,
        "parameters": 5066,
        "protocol": [{"accuracy": "share that is right"}],
    }
    (reports / "metrics.json").write_text(json.dumps(metrics))
    (reports / "baseline.json").write_text(json.dumps(baseline | {"images": 200, "protocol": []}))
    return reports


def test_shares_are_in_percent_with_their_interval(classified):
    page = Reader(build(classified, SETTINGS, PARTS))
    assert page.rows[0][1:] == ["accuracy, %", "95 % interval", "macro F1, %", "log loss, nats"]
    assert page.row("majority class") == ["60.0", "53.0 to 66.6", "59.0", "0.6730"]
    assert page.row("logistic regression") == ["90.5", "85.6 to 93.8", "89.5", "0.2500"]
    assert page.row("model") == ["96.3", "92.6 to 98.1", "89.2", "0.1250"]
    assert page.row("model − logistic regression")[3] == "−0.1250"
    text = " ".join(page.text.split())
    assert "majority class reaches 60.0 %, logistic regression 90.5 %." in text
    assert "accuracy, 95 % interval 92.6 to 98.1 %" in text


def test_gain_of_a_share_is_in_points_over_the_better_baseline(classified):
    html = build(classified, SETTINGS, PARTS)
    assert '<b class="good">+5.8 points</b><span>accuracy over logistic regression</span>' in html
    assert '<b class="">−0.3 points</b><span>macro F1 over logistic regression</span>' in html


def test_every_class_has_its_row(classified):
    html = build(classified, SETTINGS, PARTS)
    page = Reader(html)
    assert page.row("<cat>") == ["80", "90", "95.5", "90.0", "92.7"]
    assert page.row("dog") == ["120", "90", "95.5", "75.0", "92.7"]
    assert "<cat>" not in html
    assert "share that is right" in page.text


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("metrics.json", "evaluate"),
        ("baseline.json", "baseline"),
        ("attention.json", "heatmap"),
        ("curve.csv", "train"),
        ("figures/captions.json", "evaluate"),
        ("figures/a.png", "evaluate"),
        ("heatmaps/captions.json", "heatmap"),
        ("heatmaps/explorer.npz", "heatmap"),
        ("faithfulness.json", "heatmap"),
    ],
)
def test_missing_file_names_its_stage(reports, name, stage):
    (reports / name).unlink()
    with pytest.raises(InputError, match=rf"{name} is missing: the stage {stage} makes it"):
        build(reports, SETTINGS, PARTS)


@pytest.mark.parametrize(
    "name", ["metrics.json", "curve.csv", "faithfulness.json", "heatmaps/explorer.npz", "figures/a.png"]
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


def test_explorer_without_an_array(reports):
    path = reports / "heatmaps/explorer.npz"
    with np.load(path) as file:
        np.savez(path, **{name: array for name, array in file.items() if name != "values"})
    with pytest.raises(InputError, match=r"explorer\.npz is empty or damaged: .*heatmap"):
        build(reports, SETTINGS, PARTS)


def test_explorer_comes_first(reports):
    html = build(reports, SETTINGS, PARTS)
    assert html.index("</h1>") < html.index('id="explorer"') < html.index("<h2>Numbers</h2>")
    facts = json.loads(html.partition('id="explorer-facts">')[2].partition("</script>")[0])
    assert [facts["grid"], facts["layers"], facts["heads"], facts["token"], facts["classes"]] == [4, 2, 6, False, []]
    assert [sample["id"] for sample in facts["samples"]] == ["<0>.png", "<1>.png", "<2>.png"]


def test_how_exact_the_weights_are_is_said_of_those_it_is_true_of(reports):
    said = "Weights are stored in 256 steps, within 2.5 % of their value where that is 4.2e-6 or more."
    assert said in build(reports, SETTINGS, PARTS)


def test_codes_and_values_are_those_of_the_file(reports, supersampled):
    html = build(reports, SETTINGS, PARTS)
    facts = json.loads(html.partition('id="explorer-facts">')[2].partition("</script>")[0])
    np.testing.assert_array_equal(np.array(facts["values"]), supersampled["values"].astype(np.float64))
    texts = re.findall(r'id="codes-\d+">(.*?)</script>', html)
    for text, codes in zip(texts, supersampled["codes"], strict=True):
        np.testing.assert_array_equal(np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8), codes.ravel())


def test_pictures_and_scores_are_those_of_the_file(reports, supersampled):
    html = build(reports, SETTINGS, PARTS)
    samples = json.loads(html.partition('id="explorer-facts">')[2].partition("</script>")[0])["samples"]
    assert len(samples) == 3
    for i, sample in enumerate(samples):
        assert sample["psnr"] == {name: supersampled[f"psnr_{name}"][i] for name in ("bicubic", "model")}
        for name, key in (("input", "lr"), ("bicubic", "bicubic"), ("model", "model"), ("original", "hr")):
            data = base64.b64decode(sample["pictures"][name].partition(",")[2])
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), supersampled[key][i])


def extended(reports: Path) -> None:
    """attention.json with what an untrained model has, measures of layers and the focus on regions."""
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
    attention["focus"] = {"eyes": eyes | {"lift_untrained": 1.1}}
    attention["focus"]["nose"] = {k: v for k, v in eyes.items() if "content" not in k} | {"survives": 0}
    attention["focus"]["nose"]["lift_untrained"] = 1.1
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


def test_focus_has_a_row_of_each_region(reports):
    extended(reports)
    page = Reader(build(reports, SETTINGS, PARTS))
    assert page.row("eyes") == [
        "layer 2, head 1", "8.4", "2.001.90 to 2.12", "1.10", "1.501.40 to 1.60", "21",
        "looks at it and follows it when it moves",
    ]  # fmt: skip
    assert page.row("nose")[4] == "–"
    assert page.row("nose")[-1] == "looks at it; whether it follows was not measured"


def test_no_focus_without_landmarks(reports):
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
def test_focus_in_words(changes, words):
    found = {"lift_low": 1.9, "lift_high": 2.1, "content_lift_low": 1.3, "survives": 1, "lift_untrained": 1.2}
    assert focus_verdict(found | changes) == words


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
