"""The page of a classifier: shares in percent, the interval beside the accuracy, a table of classes."""

import json
import re
from collections.abc import Callable

import pytest

from vitpipe.report.format import difference, entry, interval, number, signed
from vitpipe.report.page import build

SETTINGS = {
    "recipe": "digits",
    "seed": 0,
    "data": {"name": "digits", "size": 8},
    "task": {"name": "classify", "target": "label"},
}
PARTS = {"train": 1453, "val": 177, "test": 167}


def scores(accuracy: float, log_loss: float) -> dict[str, float]:
    return {
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.0312,
        "accuracy_high": accuracy + 0.0125,
        "balanced_accuracy": accuracy - 0.1,
        "macro_f1": accuracy - 0.2,
        "log_loss": log_loss,
        "calibration_error": 0.0375,
        "images": 167,
    }


@pytest.fixture
def page(tmp_path, reports_of, classified) -> Callable[[int], str]:
    """The page of a classifier of so many classes: `page(10)`."""

    def build_page(classes: int = 10) -> str:
        reports = reports_of(tmp_path, classified)
        rivals = {"majority": scores(0.25, 2.30942), "logistic": scores(0.9375, 0.0555899)}
        of_class = {"images": 1000, "predicted": 5, "precision": 0.5, "recall": 0.9091, "f1": 0.645}
        per_class = [{"class": f"<class {i}>", **of_class} for i in range(classes)]
        metrics = scores(0.98203, 0.0418211) | rivals
        metrics |= {"per_class": per_class, "confusion": [[7]], "gain": {"accuracy": 0.04453, "macro_f1": -0.003465}}
        metrics |= {"parameters": 111306, "epoch": 31, "protocol": [{"accuracy": "share", "majority": "in training"}]}
        for name, content in (("metrics", metrics), ("baseline", rivals | {"images": 167, "protocol": []})):
            (reports / f"{name}.json").write_text(json.dumps(content))
        (reports / "curve.csv").write_text("epoch,step,train_loss,val_accuracy\n3,135,1.01989,0.779661\n")
        return build(reports, SETTINGS, PARTS)

    return build_page


@pytest.fixture
def html(page) -> str:
    return page()


def rows(html: str) -> list[list[str]]:
    """The text of all cells, row by row."""
    cells = r"<t[hd][^>]*>(.*?)</t[hd]>"
    return [re.findall(cells, row) for row in re.findall(r"<tr.*?>(.*?)</tr>", html, re.DOTALL)]


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html.partition("<body>")[2]).split())


def test_model_stands_beside_the_baselines_with_its_interval(html):
    assert rows(html)[:5] == [
        ["", "accuracy, %", "95 % interval", "balanced accuracy, %", "macro F1, %", "log loss, nats",
         "calibration error, %"],
        ["majority class", "25.0", "21.9 to 26.2", "15.0", "5.0", "2.3094", "3.8"],
        ["logistic regression", "93.8", "90.6 to 95.0", "83.8", "73.8", "0.0556", "3.8"],
        ["model", "98.2", "95.1 to 99.5", "88.2", "78.2", "0.0418", "3.8"],
        ["model − logistic regression", "+4.5", "", "+4.5", "+4.5", "−0.0138", "±0.0"],
    ]  # fmt: skip


def test_headline(html):
    text = words(html)
    assert (
        "accuracy 98.2 % on 167 test images; majority class reaches 25.0 %, logistic regression 93.8 %. 98.2 %" in text
    )
    assert "98.2 % accuracy, 95 % interval 95.1 to 99.5 %" in text
    assert "+4.5 points accuracy over logistic regression" in text
    assert "−0.3 points macro F1 over logistic regression" in text
    assert [html.count(f"<span>{label}</span>") for label in ("test images", "parameters", "epoch kept")] == [1, 1, 1]


def test_words_are_those_of_the_numbers(html):
    assert "<h1>digits</h1>" in html  # not "digits on digits"
    read = re.sub(r"<(script|style)>.*?</\1>", "", html, flags=re.DOTALL)
    assert not re.search(r"PSNR|bicubic|SSIM|MSE", read, re.IGNORECASE)
    assert "<dt>majority class</dt><dd>in training</dd>" in html


def test_every_class_has_a_row(html):
    table = rows(html)[5:16]
    assert table[0] == ["class", "test images", "predicted", "precision, %", "recall, %", "F1, %"]
    assert table[1] == ["&lt;class 0&gt;", "1\u202f000", "5", "50.0", "90.9", "64.5"]
    assert [row[0] for row in table[1:]] == [f"&lt;class {i}&gt;" for i in range(10)]


@pytest.mark.parametrize(("classes", "opened"), [(20, 1), (21, 0)])
def test_many_classes_are_folded_away(page, classes, opened):
    html = page(classes)
    assert html.count("<details open><summary>Per class</summary>") == opened
    assert html.count("<summary>Per class</summary>") == 1
    assert sum(row[:1] == [f"&lt;class {classes - 1}&gt;"] for row in rows(html)) == 1


def test_curve_is_in_percent_too(html):
    assert ["3", "135", "1.01989", "78.0 %"] in rows(html)
    assert [entry("", "val_accuracy"), entry("28.0625", "val_psnr")] == ["", "28.0625"]


def test_numbers_as_text():
    assert [number(0.98203, "accuracy"), number(1.0, "recall"), number(None, "accuracy")] == ["98.2", "100.0", "–"]
    assert [signed(0.0, "accuracy"), signed(-0.0004, "accuracy"), signed(0.1, "accuracy")] == ["±0.0", "±0.0", "+10.0"]
    assert [difference(-0.0022, "accuracy"), difference(2.5, "psnr")] == ["−0.2 points", "+2.50 dB"]
    assert interval({"accuracy": 0.5, "accuracy_low": 0.4}, "accuracy") == ""
