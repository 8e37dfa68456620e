"""What attention is worth to the model of a page, in a sentence that stands beside its pictures of attention."""

from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = (
    "What attention is worth to a model with these settings was not measured. Only training again without it tells: "
    "make controls does so for the models of docs/what-attention-is-worth.md."
)


def worth_of(models: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """What the study of `make controls` found for a model with these settings.

    Args:
        models: the content of `models` in docs/study/worth.json.
        settings: by dotted key. All that the study names must agree, but for the number of epochs, which is told.
    """
    for model in models:
        if all(settings.get(key) == value for key, value in model["settings"].items() if key != "train.epochs"):
            told = {part: in_words(numbers, model["unit"]) for part, numbers in model["worth"].items()}
            text = f"What attention is worth here: {told['attention']}"
            if len(told) > 1:
                text += f"; {told['place']} of it by place, {told['content']} by content"
            epochs = model["settings"]["train.epochs"]
            return (
                f"{text}. That is the score on test images minus that of a model trained again without it, mean of "
                f"{model['seeds']} seeds after {epochs} epoch{'s' * (epochs > 1)} and its 95 % interval."
            )
    return UNKNOWN


def in_words(numbers: Mapping[str, float], unit: str) -> str:
    """`1.24 dB (1.20 to 1.28)`, and whether that can be told from nothing."""
    mean, low, high = (f"{numbers[key]:.2f}".replace("-", "\N{MINUS SIGN}") for key in ("mean", "low", "high"))
    nothing = ", not told from nothing" if numbers["low"] <= 0 <= numbers["high"] else ""
    return f"{mean} {unit} ({low} to {high}{nothing})"
