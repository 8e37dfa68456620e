"""How the page names and writes measures: names, units, digits, intervals, verdicts in words."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from vitpipe.metrics.faithfulness import ALIKE, CONTROLS, NAMES

MEASURES = {  # name, unit and format of a measure, in the order of the table; others go by their key
    "accuracy": ("accuracy", "%", ".1%"),
    "accuracy_low": ("accuracy, from", "%", ".1%"),
    "accuracy_high": ("accuracy, to", "%", ".1%"),
    "balanced_accuracy": ("balanced accuracy", "%", ".1%"),
    "balanced_accuracy_low": ("balanced accuracy, from", "%", ".1%"),
    "balanced_accuracy_high": ("balanced accuracy, to", "%", ".1%"),
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
    "diversity": ("head diversity, attention", "", ".4f"),
    "output_diversity": ("head diversity, outputs", "", ".4f"),
    "content": ("content, 0 = looks by place", "", ".4f"),
    "importance": ("importance: drop of the score without the head", "", ".4f"),
    "importance_loss": ("importance: rise of the log loss", "nats", ".4f"),
    "drop": ("drop of the score", "", ".4f"),
    "drop_loss": ("rise of the log loss", "nats", ".4f"),
    "content_importance": ("importance of content: drop of the score if the head looks by place", "", ".4f"),
    "content_importance_loss": ("importance of content: rise of the log loss", "nats", ".4f"),
    "by_place": ("heads that look by place", "%", ".0%"),
    "outliers": ("token-norm outliers", "%", ".2%"),
    "norm_ratio": ("largest token norm / median", "", ".2f"),
    "mass": ("mass", "%", ".1%"),
    "lift": ("lift", "×", ".2f"),
    "lift_place": ("lift by place", "×", ".2f"),
    "lift_content": ("lift by content", "×", ".2f"),
    "pointing": ("pointing game", "%", ".0%"),
    "content_lift": ("shift control", "×", ".2f"),
    "lift_untrained": ("lift, untrained", "×", ".2f"),
    "lift_eyes": ("lift on the eyes", "×", ".2f"),
    "lift_nose": ("lift on the nose", "×", ".2f"),
    "lift_mouth": ("lift on the mouth", "×", ".2f"),
    "lift_background": ("lift on the background", "×", ".2f"),
    "deletion": ("deletion, lower is better", "", ".3f"),
    "deletion_gain": ("better than the best control by", "", ".3f"),
    "insertion": ("insertion, higher is better", "", ".3f"),
    "insertion_gain": ("better than the best control by", "", ".3f"),
    "randomised": ("correlation with random weights' map", "", ".2f"),
    "diffusion_index": ("diffusion index", "", ".1f"),
    "images": ("test images", "", ",d"),
    "persons": ("people in them", "", ",d"),
    "seconds": ("seconds to evaluate", "", ".1f"),
    "parameters": ("parameters", "", ",d"),
    "epoch": ("epoch kept", "", ".4g"),
}
ROWS = {  # of tables; others go by their key
    "majority": "majority class",
    "logistic": "logistic regression",
    "knn": "nearest neighbours, frozen features",
    "probe": "logistic regression, frozen features",
    "parts": "epochs that were averaged",
    "mean": "the mean over all tokens",
    "identity": "the identity: each token sees only itself",
    "place": "the place term alone",
    "self_ensemble": "model, mean with the mirrored image's prediction",
    **NAMES,
    **CONTROLS,
}


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
    return MEASURES.get(measure, (ROWS.get(measure, measure.replace("_", " ")),))[0]


def unit(measure: str) -> str:
    return MEASURES.get(measure, ("", ""))[1]


def number(value: float | None, measure: str) -> str:
    """A value in the digits of its measure, a share in percent; thousands are separated by thin spaces."""
    if value is None:
        return "–"
    digits = MEASURES[measure][2] if measure in MEASURES else ",d" if isinstance(value, int) else ".4g"
    text = format(value, digits)
    if not text.strip("-0.%"):
        text = text.removeprefix("-")  # what rounds to zero has no sign
    return text.replace(",", "\u202f").replace("-", "−").removesuffix("%")


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


def digest(text: str) -> str:
    """The SHA-256 of a style or script in base64, by which a Content-Security-Policy knows it (W3C, CSP level 3)."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def shade(value: float, layers: list[dict[str, Any]], measure: str) -> int:
    """Where a head's value lies between the smallest and the largest of all heads, in percent."""
    values = [head[measure] for layer in layers for head in layer["heads"]]
    return round(100 * (value - min(values)) / ((max(values) - min(values)) or 1))


def region_verdict(found: dict[str, Any]) -> str:
    """What the numbers of a region say in plain words, by the ends of their intervals and the untrained model."""
    ends = ("lift_low", "lift_high", "lift_content_low", "lift_content_high", "content_lift_low")
    found = found | {name: round(found[name], 2) for name in ends if name in found}  # as the table shows them
    if found["lift_high"] < 1:
        return "looks away from it"
    if found["lift_low"] <= 1:
        return "not more than its share of the area"
    if found["lift_content_low"] <= 1 <= found["lift_content_high"]:
        return "looks by place"
    if found["lift_content_high"] < 1:
        return "looks at it by place, and content turns it away"
    if "content_lift_low" not in found:
        return "looks at it; whether it follows was not measured"
    if found["content_lift_low"] <= 1:
        return "looks at the place, does not follow the content"
    if not found["survives"]:
        return "follows the content, no more than untrained"
    return "looks at it and follows it when it moves"


def trust_verdict(method: Mapping[str, Any]) -> str:
    """Which curves of a method beat the best control, by the lower end of the interval of the difference, and whether
    its maps are much the same with random weights."""
    beaten = [curve for curve in ("deletion", "insertion") if method.get(f"{curve}_gain_low", 0) > 0]
    words = f"better by {' and '.join(beaten)}" if beaten else "not better than the controls"
    return f"{words}; much the same with random weights" if method.get("randomised", 0) > ALIKE else words
