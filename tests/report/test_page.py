"""The page holds the numbers of the json files, all figures, and nothing from elsewhere."""

import base64
import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable
from html import unescape
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitpipe.errors import InputError
from vitpipe.report.page import build

SETTINGS: dict[str, Any] = {
    "recipe": "trial <01>",
    "seed": 7,
    "data": {"name": "faces", "root": None, "size": 192},
    "task": {"name": "supersample", "target": None},
    "train": {"lr": 1e-5, "flip": True},
}
PARTS = {"train": 2430, "val": 270, "test": 300}


class Page:
    """What a reader sees of a page."""

    def __init__(self, html: str) -> None:
        body = re.sub(r"<script.*?</script>", "", html.partition("<body>")[2], flags=re.DOTALL)
        self.text = plain(body)
        rows = re.findall(r"<tr.*?>(.*?)</tr>", body, re.DOTALL)
        self.rows = [[plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]

    def row(self, name: str) -> list[str]:
        return next(row[1:] for row in self.rows if row and row[0] == name)


def plain(html: str) -> str:
    return re.sub(r"[ \n]+", " ", unescape(re.sub(r"<[^>]*>", " ", html))).strip()


@pytest.fixture
def html(reports) -> str:
    """The page of a super-sampler."""
    return build(reports, SETTINGS, PARTS)


def test_nothing_is_loaded_from_elsewhere(html):
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"[A-Za-z0-9+/=]{80,}", "", html))  # no base64
    assert not re.search(r"<(iframe|object|video)|<script[^>]*src", html)
    scripts = "".join(re.findall(r"<script>(.*?)</script>", html, re.DOTALL))
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|importScripts|sendBeacon)\b|\bimport\b *\(", scripts)
    addresses = re.findall(r'\s(?:src|href|srcset)="([^"]*)', html)
    assert len(addresses) == 4  # three figures, an empty icon
    assert all(address.startswith("data:") for address in addresses)


def test_the_policy_lets_nothing_run_but_the_script_of_the_page(html):
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for kind in ("script", "style"):
        [text] = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(f"{kind}-src") == f"'sha256-{digest}'"
    nothing = dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    assert rules == nothing | {"img-src": "data:"}
    assert not re.search(r"<[^>]*\s(style|on\w+)=", re.sub(r"<(script|style)>.*?</\1>", "", html, flags=re.DOTALL))


def test_figures_are_embedded_in_the_order_of_their_captions(reports, html):
    images = re.findall(r'<img src="data:image/webp;base64,([^"]*)" alt="([^"]*)"', html)
    files = [reports / "figures/z.png", reports / "figures/a.png", reports / "heatmaps/attention.png"]
    assert [alt for _, alt in images] == [f"Title {file.name}" for file in files]
    for (data, _), file in zip(images, files, strict=True):
        embedded = Image.open(io.BytesIO(base64.b64decode(data)))
        np.testing.assert_array_equal(np.asarray(embedded), np.asarray(Image.open(file)))
        assert f"Read {file.name} <so>" in Page(html).text


def test_numbers_are_those_of_the_files(html):
    page = Page(html)
    assert page.rows[0][1:] == ["PSNR, dB", "PSNR-Y, dB", "SSIM", "MSE on [−1, 1]"]
    mean = "model, mean with the mirrored image's prediction"
    assert [row[0] for row in page.rows[:6]] == ["", "nearest", "bicubic", "model", mean, "model − bicubic"]
    for name, psnr in (("nearest", 25.125), ("bicubic", 27.5), ("model", 30.25), (mean, 30.5)):
        expected = [f"{psnr:.2f}", f"{psnr + 1.5:.2f}", f"{psnr / 40:.4f}", f"{10 ** (-psnr / 10):.5f}"]
        assert page.row(name) == expected
    assert page.row("model − bicubic")[0] == "+2.75"
    assert page.row("model − bicubic")[3].startswith("−")
    for text in ("+2.75 dB", "0.531", "1\u202f234\u202f567", "30.25 dB on 300 test images", "in dB & on <RGB>"):
        assert text in page.text


def test_settings_parts_curve_and_heads(html):
    page = Page(html)
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
    page = Page(build(reports, SETTINGS, PARTS))
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
def test_missing_file_names_its_stage_and_a_damaged_one_itself(reports, name, stage):
    (reports / name).write_text("")
    with pytest.raises(InputError, match=rf"{name} is empty or damaged"):
        build(reports, SETTINGS, PARTS)
    (reports / name).unlink()
    with pytest.raises(InputError, match=rf"{name} is missing: the stage {stage} makes it"):
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


@pytest.mark.parametrize("missing", ["values", "picture_model", "reading_bicubic"])
def test_explorer_without_an_array(reports, supersampled, missing):
    others = {name: array for name, array in supersampled.items() if name != missing}
    np.savez(reports / "explanations/explorer.npz", **others)
    with pytest.raises(InputError, match=r"explorer\.npz is empty or damaged: .*explain"):
        build(reports, SETTINGS, PARTS)


def test_explorer_comes_first_and_holds_the_arrays_of_the_file(html, supersampled):
    assert html.index("</h1>") < html.index('id="explorer"') < html.index("<h2>Numbers</h2>")
    assert "Weights are stored in 256 steps, within 2.5 % of their value where that is 4.2e-6 or more." in html
    info = json.loads(html.partition('id="explorer-info">')[2].partition("</script>")[0])
    names = ("grid", "layers", "heads", "prefix", "classes", "readings")
    assert [info[name] for name in names] == [[4, 4], 2, 6, 0, [], ["bicubic", "model"]]
    np.testing.assert_array_equal(np.array(info["values"]), supersampled["values"].astype(np.float64))
    texts = re.findall(r'id="codes-\d+">(.*?)</script>', html)
    for text, codes in zip(texts, supersampled["codes"], strict=True):
        np.testing.assert_array_equal(np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8), codes.ravel())
    assert [sample["id"] for sample in info["samples"]] == ["<0>.png", "<1>.png", "<2>.png"]
    for i, sample in enumerate(info["samples"]):
        assert sample["readings"] == {name: supersampled[f"reading_{name}"][i] for name in ("bicubic", "model")}
        assert set(sample["pictures"]) == set(info["pictures"]) == {"input", "bicubic", "model", "original"}
        for name, source in sample["pictures"].items():
            data = base64.b64decode(source.partition(",")[2])
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), supersampled[f"picture_{name}"][i])


def test_trained_stands_beside_untrained_and_each_region_has_a_row(reports):
    path = reports / "attention.json"
    attention = json.loads(path.read_text())
    attention |= {"diversity": 0.03125, "outliers": 0.0125, "images": 128}
    untrained = {"self_weight": 0.0625, "entropy": 0.875, "distance": 40.5, "diversity": 0.5, "outliers": 0}
    attention["untrained"] = untrained
    for layer in attention["layers"]:
        layer |= {"diversity": 0.25, "outliers": 0.0125}
    eyes = {"layer": 2, "head": 1, "mass": 0.084, "lift": 2.0, "lift_low": 1.9, "lift_high": 2.12, "pointing": 0.21}
    eyes |= {"lift_place": 1.02, "lift_content": 1.96, "lift_content_low": 1.8, "lift_content_high": 2.1}
    eyes |= {"content_lift": 1.5, "content_lift_low": 1.4, "content_lift_high": 1.6, "survives": 1}
    attention["regions"] = {"eyes": eyes | {"lift_untrained": 1.1}}
    attention["regions"]["nose"] = {k: v for k, v in eyes.items() if "content_lift" not in k} | {"survives": 0}
    attention["regions"]["nose"]["lift_untrained"] = 1.1
    path.write_text(json.dumps(attention))
    page = Page(build(reports, SETTINGS, PARTS))
    assert ["", "trained", "untrained"] in page.rows
    assert page.row("self-weight") == ["0.3210", "0.0625"]
    assert page.row("mean distance, input px") == ["33.2", "40.5"]
    assert page.row("distance if uniform, input px") == ["50.5", "–"]
    assert page.row("token-norm outliers, %") == ["1.25", "0.00"]
    assert "of 128 test images" in page.text
    assert page.row("layer 1, all heads") == ["0.2500", "1.25"]
    assert page.row("eyes") == [
        "layer 2, head 1", "8.4", "2.00 1.90 to 2.12", "1.02", "1.96 1.80 to 2.10", "1.10", "1.50 1.40 to 1.60", "21",
        "looks at it and follows it when it moves",
    ]  # fmt: skip
    assert page.row("nose")[6] == "–"
    assert page.row("nose")[-1] == "looks at it; whether it follows was not measured"


def test_what_replaced_attention_loses_stands_first_as_an_upper_bound(html):
    page = Page(html)
    assert ["attention replaced by", "drop of the score"] in page.rows
    assert page.row("the mean over all tokens") == ["1.2500"]
    assert page.row("the identity: each token sees only itself") == ["2.5000"]
    assert not [row for row in page.rows if row[:1] == ["the place term alone"]]  # the model has none
    assert "an upper bound of what attention is worth" in page.text
    assert html.index("<h2>Attention</h2>") < html.index("upper bound") < html.index("Trained and untrained")


def test_a_model_without_attention_has_no_explorer_and_no_empty_table(reports, html):
    content = json.loads((reports / "attention.json").read_text())
    content |= dict.fromkeys(("self_weight", "entropy", "distance", "regions")) | {"layers": []}
    content |= {"replaced": {name: {"drop": None} for name in content["replaced"]}, "untrained": {"entropy": None}}
    (reports / "attention.json").write_text(json.dumps(content))
    (reports / "explanations/explorer.npz").unlink()
    without = build(reports, SETTINGS, PARTS)
    page = Page(without)
    told = "This model computes no attention, so there is none to look at"
    assert told in page.text
    assert told not in Page(html).text
    assert "explorer" not in without.partition("<body>")[2]
    for heading in ("Without its attention", "Trained and untrained", "Every head"):
        assert heading in Page(html).text
        assert heading not in page.text
    assert all(len(table.split("<tr")) > 2 and "<td" in table for table in without.split("<table")[1:])
    assert page.row("SmoothGrad")[-1] == "better by insertion"
    assert "Title attention.png" in page.text


def test_methods_stand_beside_controls(html):
    assert "Which parts of a face" not in html  # there are no landmarks
    page = Page(html)
    header = next(row for row in page.rows if row and row[0] == "method")
    assert len(header) == 7
    assert header[5] == "correlation with random weights' map"
    area, back = "0.412 0.392 to 0.433", "0.625 0.605 to 0.645"
    assert page.row("rollout") == [
        area, "0.062 0.042 to 0.083", back, "−0.062 −0.083 to −0.042", "0.12 0.07 to 0.17", "better by deletion"
    ]  # fmt: skip
    assert page.row("raw attention")[-1] == "not better than the controls"
    assert page.row("SmoothGrad")[-1] == "better by insertion"
    assert page.row("random order") == [area, "–", back, "–", "–", "control"]
    assert "area under <the score>" in page.text
    assert "0.987" not in page.text


def shares(accuracy: float, log_loss: float) -> dict[str, float]:
    found = {"accuracy": accuracy, "accuracy_low": accuracy - 0.0312, "accuracy_high": accuracy + 0.0125}
    return found | {"macro_f1": accuracy - 0.2, "log_loss": log_loss, "calibration_error": 0.0375, "images": 167}


@pytest.fixture
def classifier(tmp_path, reports_of, classified) -> Callable[..., str]:
    """The page of a classifier of so many classes, with more baselines and numbers: `classifier(10, {}, persons=9)`."""

    def page(classes: int = 10, baselines: dict[str, dict[str, float]] | None = None, **more: object) -> str:
        reports = reports_of(tmp_path, classified)
        rivals = {"majority": shares(0.25, 2.30942), "logistic": shares(0.9375, 0.0555899)} | (baselines or {})
        of_class = {"images": 1000, "predicted": 5, "precision": 0.5, "recall": 0.9091, "f1": 0.645}
        metrics = shares(0.98203, 0.0418211) | rivals
        metrics |= {"per_class": [{"class": f"<class {i}>", **of_class} for i in range(classes)], "confusion": [[7]]}
        metrics |= {"gain": {"accuracy": 0.04453, "macro_f1": -0.003465}, "parameters": 111306, "epoch": 31}
        metrics |= {"protocol": [{"accuracy": "share", "majority": "in training"}]} | more
        for name, content in (("metrics", metrics), ("baseline", rivals | {"images": 167, "protocol": []})):
            (reports / f"{name}.json").write_text(json.dumps(content))
        (reports / "curve.csv").write_text("epoch,step,train_loss,val_accuracy\n3,135,1.01989,0.779661\n")
        return build(reports, SETTINGS | {"recipe": "faces"}, PARTS)

    return page


def test_shares_are_in_percent_with_their_interval(classifier):
    html = classifier()
    page = Page(html)
    assert page.rows[:5] == [
        ["", "accuracy, %", "95 % interval", "macro F1, %", "log loss, nats", "calibration error, %"],
        ["majority class", "25.0", "21.9 to 26.2", "5.0", "2.3094", "3.8"],
        ["logistic regression", "93.8", "90.6 to 95.0", "73.8", "0.0556", "3.8"],
        ["model", "98.2", "95.1 to 99.5", "78.2", "0.0418", "3.8"],
        ["model − logistic regression", "+4.5", "", "+4.5", "−0.0138", "±0.0"],
    ]
    assert ["3", "135", "1.01989", "78.0 %"] in page.rows
    for text in (
        "accuracy 98.2 % on 167 test images; majority class reaches 25.0 %, logistic regression 93.8 %. 98.2 %",
        "98.2 % accuracy, 95 % interval 95.1 to 99.5 %",
        "+4.5 points accuracy over logistic regression",
        "−0.3 points macro F1 over logistic regression",
        "majority class in training",
    ):
        assert text in page.text
    assert '<b class="good">+4.5 points</b>' in html
    assert [html.count(f"<span>{label}</span>") for label in ("test images", "parameters", "epoch kept")] == [1, 1, 1]
    assert "<h1>faces</h1>" in html  # not "faces on faces"
    assert not re.search(r"PSNR|bicubic|SSIM|MSE", page.text, re.IGNORECASE)


def test_frozen_features_and_averaged_epochs_stand_beside_the_model(classifier):
    people = {"persons": 55}
    baselines = {"knn": shares(0.875, 0.5) | people, "probe": shares(0.96875, 0.25) | people}
    epochs = [{"epoch": 8, "accuracy": 0.9375, "persons": 55}, {"epoch": 12, "accuracy": 0.953125, "persons": 55}]
    page = Page(classifier(2, baselines, parts=epochs, **people))
    names = ["nearest neighbours, frozen features", "logistic regression, frozen features"]
    assert [row[0] for row in page.rows[:7]] == [
        *("", "majority class", "logistic regression", *names, "model", f"model − {names[1]}")
    ]
    assert page.row(names[1])[0] == "96.9"
    assert page.rows[0][-1] == "calibration error, %"  # the number of people is no measure
    assert "55 people in them" in page.text
    assert "Epochs that were averaged" in page.text
    table = page.rows.index(["epoch kept", "accuracy, %", "people in them"])
    assert page.rows[table + 1 : table + 3] == [["8", "93.8", "55"], ["12", "95.3", "55"]]


@pytest.mark.parametrize(("classes", "opened"), [(20, 1), (21, 0)])
def test_every_class_has_a_row_and_many_are_folded_away(classifier, classes, opened):
    html = classifier(classes)
    table = Page(html).rows[5 : 6 + classes]
    assert table[0] == ["class", "test images", "predicted", "precision, %", "recall, %", "F1, %"]
    assert table[1] == ["<class 0>", "1\u202f000", "5", "50.0", "90.9", "64.5"]
    assert [row[0] for row in table[1:]] == [f"<class {i}>" for i in range(classes)]
    assert "<class 0>" not in html
    assert html.count("<details open><summary>Per class</summary>") == opened
    assert html.count("<summary>Per class</summary>") == 1
