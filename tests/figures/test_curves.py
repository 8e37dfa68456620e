"""The curves show the table, and mark the epoch with the best validation PSNR."""

import numpy as np
import pandas as pd
import pytest

from vitpipe.figures.curves import curves
from vitpipe.figures.style import save


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": [0, 1, 2, 3],
            "train_loss": [np.nan, 0.3, 0.2, 0.05],
            "val_loss": [0.5, 0.31, 0.22, 0.24],
            "train_psnr": [np.nan, 28, 29.5, 30],
            "val_psnr": [27.5, 28, 29.25, 29.0],
            "val_bicubic_psnr": [27.5] * 4,
        }
    )


def test_lines_are_the_columns(table):
    figure = curves(table)
    for axes, measure in zip(figure.axes, ("loss", "psnr"), strict=True):
        assert axes.get_label() == measure
        lines = {line.get_label(): line for line in axes.lines}
        np.testing.assert_array_equal(lines["training"].get_xdata(), table.epoch)
        np.testing.assert_array_equal(lines["training"].get_ydata(), table[f"train_{measure}"])
        np.testing.assert_array_equal(lines["validation"].get_ydata(), table[f"val_{measure}"])
    assert set({line.get_label(): line for line in figure.axes[1].lines}["bicubic"].get_ydata()) == {27.5}


def test_best_validation_epoch_is_marked(table):
    figure = curves(table)
    assert any(text.get_text() == "kept: epoch 2 with 29.25 dB, +1.75 on bicubic" for text in figure.texts)
    for axes, value in zip(figure.axes, (0.22, 29.25), strict=True):
        assert any(list(line.get_xdata()) == [2] and list(line.get_ydata()) == [value] for line in axes.lines)


def test_one_epoch_and_non_positive_loss_draw(table, tmp_path):
    save(curves(table.iloc[[1]]), tmp_path / "one.png")
    save(curves(table.assign(train_loss=0.0)), tmp_path / "zero.png")
