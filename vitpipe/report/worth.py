"""What attention is worth to the model of a page, in a sentence that stands beside its pictures of attention."""

from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = (
    "What attention is worth to a model with these settings was not measured. Only training again without it tells: "
    "make controls does so for the models of docs/what-attention-is-worth.md."
)


def worth_of(models: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """What the study of `make controls` found for a model of this form.

    Args:
        models: the content of `models` in docs/study/worth.json.
        settings: by dotted key. All that the study names must agree.
    """
    for model in models:
        if all(settings.get(key) == value for key, value in model["settings"].items()):
            told = {part: in_words(numbers, model["unit"]) for part, numbers in model["worth"].items()}
            text = f"What attention is worth to a model of this form: {told['attention']}"
            if len(told) > 1:
                text += f"; by place {told['place']}, by content {told['content']}"
            return (
                f"{text}. That is the score on test images minus that of the same model trained again with "
                f"{model['base']}: mean of {model['seeds']} seeds, {model['epochs']} epochs each, and 95 % interval."
            )
    return UNKNOWN


def in_words(numbers: Mapping[str, float], unit: str) -> str:
    """`1.24 dB (1.20 to 1.28)`, and whether the interval holds 0."""
    mean, low, high = (
        f"{round(numbers[key], 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}") for key in ("mean", "low", "high")
    )
    return f"{mean} {unit} ({low} to {high}{', which holds 0' if numbers['low'] <= 0 <= numbers['high'] else ''})"
