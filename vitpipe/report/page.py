"""One self-contained page of a run: its settings, its numbers beside the baselines, its figures.

The page knows no task. Measures are whatever `metrics.json` shares with the baselines; NAME_low and NAME_high
are the interval of the measure NAME; a list of objects, such as `per_class`, is a table of its own. Figures are
whatever a stage lists in the `captions.json` of its folder: {file: {"title": ..., "caption": ...}}.
"""

import base64
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from vitpipe.errors import InputError
from vitpipe.files import damaged, load_json, read

MEASURES = {  # name, unit and format of a measure, in the order of the table; others go by their key
    "accuracy": ("accuracy", "%", ".1%"),
    "accuracy_low": ("accuracy, from", "%", ".1%"),
    "accuracy_high": ("accuracy, to", "%", ".1%"),
    "balanced_accuracy": ("balanced accuracy", "%", ".1%"),
    "macro_f1": ("macro F1", "%", ".1%"),
    "log_loss": ("log loss", "nats", ".4f"),
    "calibration_error": ("calibration error", "%", ".1%"),
    "precision": ("precision", "%", ".1%"),
    "recall": ("recall", "%", ".1%"),
    "f1": ("F1", "%", ".1%"),
    "psnr": ("PSNR", "dB", ".2f"),
    "psnr_y": ("PSNR-Y", "dB", ".2f"),
    "ssim": ("SSIM", "", ".4f"),
    "ssim_y": ("SSIM-Y", "", ".4f"),
    "mse": ("MSE on [−1, 1]", "", ".5f"),
    "mse01": ("MSE on [0, 1]", "", ".5f"),
    "mse_ratio": ("MSE ratio", "", ".3f"),
    "self_weight": ("self-weight", "", ".4f"),
    "entropy": ("entropy, 1 = uniform", "", ".3f"),
    "distance": ("mean distance", "input px", ".1f"),
    "distance_uniform": ("distance if uniform", "input px", ".1f"),
    "images": ("test images", "", ",d"),
    "seconds": ("seconds to evaluate", "", ".1f"),
    "parameters": ("parameters", "", ",d"),
    "epoch": ("epoch kept", "", ".4g"),
}
BASELINES = {"majority": "majority class", "logistic": "logistic regression"}  # others go by their key


def build(reports: Path, settings: Mapping[str, Any], parts: Mapping[str, int]) -> str:
    """The page as HTML: images embedded, nothing loaded from elsewhere, no scripts.

    Args:
        reports: the folder with metrics.json, baseline.json, attention.json, curve.csv, figures/ and heatmaps/.
        settings: all settings, nested as in params.yaml.
        parts: number of images by part of the split.

    Raises:
        InputError: a file is missing or damaged; the message names it and the stage that makes it.
    """
    metrics = load_json(reports / "metrics.json", "evaluate")
    baseline = load_json(reports / "baseline.json", "baseline")
    attention = load_json(reports / "attention.json", "heatmap")
    curve = load_csv(reports / "curve.csv", "train")
    rows = {name: values for name, values in baseline.items() if isinstance(values, dict)}
    rivals = [name for name in rows if name in metrics]
    if not rivals:
        raise InputError(
            f"{reports / 'metrics.json'} holds no numbers of a baseline ({', '.join(rows)}): run evaluate again"
        )
    reference = rivals[-1]  # the one that metrics["gain"] is over
    numbers = {k: v for k, v in metrics.items() if is_number(v) and not is_end(k, metrics)}
    measures = [name for name in sorted(numbers, key=rank) if name in rows[reference] and name != "images"]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vitpipe.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        f.__name__: f for f in (label, unit, number, signed, difference, interval, quantity, entry, setting, shade)
    }
    return environment.get_template("page.html").render(
        settings=settings,
        sections={name: flat(values) for name, values in settings.items() if isinstance(values, Mapping)},
        parts=parts,
        metrics=metrics,
        facts={k: v for k, v in numbers.items() if k not in measures},
        measures=measures,
        rivals=rivals,
        reference=reference,
        rows=rows | {"model": metrics},
        tables={k: v for k, v in metrics.items() if is_table(v) and k != "protocol"},
        protocol=metrics.get("protocol", []),
        curve=curve,
        attention=attention,
        attention_means={k: v for k, v in attention.items() if is_number(v)},
        pictures=figures(reports / "figures", "evaluate"),
        heatmaps=figures(reports / "heatmaps", "heatmap"),
    )


def load_csv(path: Path, stage: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(read(path, stage).decode().splitlines()))
    if not rows:
        raise damaged(path, stage)
    return rows


def figures(folder: Path, stage: str) -> list[dict[str, str]]:
    """Title, caption and PNG as a data URI of every figure of a folder, in the order of its captions.

    Raises:
        InputError: captions and files do not match.
    """
    captions = load_json(folder / "captions.json", stage)
    if bare := {path.name for path in folder.glob("*.png")} - set(captions):
        raise InputError(f"{folder / min(bare)} has no caption in {folder / 'captions.json'}: run {stage} again")
    return [
        {"file": name, "source": f"data:image/png;base64,{base64.b64encode(read(folder / name, stage)).decode()}"}
        | text
        for name, text in captions.items()
    ]


def flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted keys."""
    result: dict[str, Any] = {}
    for key, value in section.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_end(name: str, metrics: Mapping[str, Any]) -> bool:
    """Whether a measure is an end of the interval of another."""
    measure, _, end = name.rpartition("_")
    return end in ("low", "high") and measure in metrics


def is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def rank(measure: str) -> int:
    return list(MEASURES).index(measure) if measure in MEASURES else len(MEASURES)


def label(measure: str) -> str:
    return MEASURES.get(measure, (BASELINES.get(measure, measure.replace("_", " ")),))[0]


def unit(measure: str) -> str:
    return MEASURES.get(measure, ("", ""))[1]


def number(value: float | None, measure: str) -> str:
    """A value in the digits of its measure, a share in percent; thin spaces part thousands."""
    if value is None:
        return "–"
    digits = MEASURES[measure][2] if measure in MEASURES else ",d" if isinstance(value, int) else ".4g"
    return format(value, digits).replace(",", "\u202f").replace("-", "−").removesuffix("%")


def signed(value: float, measure: str) -> str:
    text = number(abs(value), measure)
    sign = "−" if value < 0 else "+"
    return f"{sign if text.strip('0.') else '±'}{text}"


def difference(value: float, measure: str) -> str:
    """A gain with its unit; between two shares that is percentage points, not percent."""
    return f"{signed(value, measure)} points" if unit(measure) == "%" else quantity(signed(value, measure), measure)


def interval(values: Mapping[str, Any], measure: str) -> str:
    """The interval of a measure, as 94.9 to 99.4; empty where the values hold none."""
    ends = [values.get(f"{measure}_{end}") for end in ("low", "high")]
    return "" if None in ends else " to ".join(number(end, measure) for end in ends)


def quantity(text: str, measure: str) -> str:
    """A written number with its unit."""
    return f"{text} {unit(measure)}".rstrip()


def entry(text: str, column: str) -> str:
    """A value of the curve as it is written there, but a share in percent, as everywhere on the page."""
    measure = column.partition("_")[2]
    return quantity(number(float(text), measure), measure) if text and unit(measure) == "%" else text


def setting(value: Any) -> str:
    """A setting as params.yaml has it."""
    return value if isinstance(value, str) else json.dumps(value)


def shade(value: float, layers: list[dict[str, Any]], measure: str) -> int:
    """Where a head's value lies between the smallest and the largest of all heads, in percent."""
    values = [head[measure] for layer in layers for head in layer["heads"]]
    return round(100 * (value - min(values)) / ((max(values) - min(values)) or 1))
