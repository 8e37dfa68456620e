"""The sentence about attention's worth is that of the model with the settings of the run."""

import pytest

from vitpipe.report.worth import UNKNOWN, worth_of

MODELS = [
    {
        "unit": "dB", "seeds": 3, "epochs": 2, "base": "no attention", "settings": {"recipe": "a", "model.patch": 3},
        "worth": {
            "attention": {"mean": 1.25, "low": 1.2, "high": 1.3},
            "place": {"mean": 1.252, "low": 1.1, "high": 1.404},
            "content": {"mean": -0.002, "low": -0.052, "high": 0.048},
        },
    },
    {
        "unit": "points", "seeds": 3, "epochs": 4, "base": "uniform attention", "settings": {"recipe": "b"},
        "worth": {"attention": {"mean": 0.5, "low": 0.4, "high": 0.6}},
    },
]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"recipe": "a", "model.patch": 3, "seed": 7},
            "1.25 dB (1.20 to 1.30); by place 1.25 dB (1.10 to 1.40), by content 0.00 dB (−0.05 to 0.05, which holds "
            "0). That is the score on test images minus that of the same model trained again with no attention: mean "
            "of 3 seeds, 2 epochs each, and 95 % interval.",
        ),
        (
            {"recipe": "b", "model.patch": 6},
            "0.50 points (0.40 to 0.60). That is the score on test images minus that of the same model trained again "
            "with uniform attention: mean of 3 seeds, 4 epochs each, and 95 % interval.",
        ),
    ],
)
def test_the_model_with_these_settings_is_told(settings: dict, told: str) -> None:
    assert worth_of(MODELS, settings) == f"What attention is worth to a model of this form: {told}"


@pytest.mark.parametrize("settings", [{"recipe": "a", "model.patch": 6}, {"recipe": "c"}, {}])
def test_other_models_were_not_measured(settings: dict) -> None:
    assert worth_of(MODELS, settings) == UNKNOWN
