"""The curves show the table, and mark the epoch with the best validation score."""

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


@pytest.fixture
def accuracy() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4],
            "train_loss": [2.0, 1.0, 0.5, 0.2],
            "val_loss": [2.1, 1.2, 0.9, 1.1],
            "train_accuracy": [0.25, 0.5, 0.75, 1.0],
            "val_accuracy": [0.125, 0.875, 0.875, 0.75],
            "lr": [0.1, 0.1, 0.05, 0.0],
        }
    )


def lines_of(axes) -> dict:
    return {line.get_label(): line for line in axes.lines}


def notes(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_lines_are_the_columns(table):
    figure = curves(table, "psnr", ("bicubic", 27.5))
    for axes, measure in zip(figure.axes, ("loss", "psnr"), strict=True):
        assert axes.get_label() == measure
        lines = lines_of(axes)
        np.testing.assert_array_equal(lines["training"].get_xdata(), table.epoch)
        np.testing.assert_array_equal(lines["training"].get_ydata(), table[f"train_{measure}"])
        np.testing.assert_array_equal(lines["validation"].get_ydata(), table[f"val_{measure}"])
    assert set(lines_of(figure.axes[1])["bicubic"].get_ydata()) == {27.5}
    assert figure.axes[1].texts[0].get_text() == "bicubic on validation 27.50 dB"


def test_accuracy_is_drawn_in_percent_and_loss_as_it_is(accuracy):
    figure = curves(accuracy, "accuracy", training="training (augmented)")
    loss, score = map(lines_of, figure.axes)
    np.testing.assert_array_equal(loss["training (augmented)"].get_ydata(), accuracy.train_loss)
    np.testing.assert_array_equal(loss["validation"].get_ydata(), accuracy.val_loss)
    np.testing.assert_array_equal(score["training (augmented)"].get_ydata(), [25, 50, 75, 100])
    np.testing.assert_array_equal(score["validation"].get_ydata(), [12.5, 87.5, 87.5, 75])
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["training (augmented)", "validation"]
    assert "Accuracy in %" in notes(figure)


def test_best_validation_epoch_is_marked(table):
    figure = curves(table, "psnr", ("bicubic", 27.5))
    assert "kept: epoch 2 with 29.25 dB, +1.75 on bicubic" in notes(figure)
    for axes, value in zip(figure.axes, (0.22, 29.25), strict=True):
        assert any(list(line.get_xdata()) == [2] and list(line.get_ydata()) == [value] for line in axes.lines)
    assert "kept: epoch 2 with 29.25 dB, −0.75 on bicubic" in notes(curves(table, "psnr", ("bicubic", 30.0)))


def test_of_equally_good_epochs_that_with_the_lowest_loss_is_marked(accuracy):
    figure = curves(accuracy, "accuracy")
    assert "kept: epoch 3 with 87.5 % on validation images" in notes(figure)
    for axes, value in zip(figure.axes, (0.9, 87.5), strict=True):
        assert any(list(line.get_xdata()) == [3] and list(line.get_ydata()) == [value] for line in axes.lines)


@pytest.mark.parametrize(
    ("val_loss", "corner"), [([2.1, 1.2, 0.9, 0.8], "upper right"), ([2.1, 1.2, 1.9, 2.5], "lower left")]
)
def test_legend_keeps_off_the_curves(accuracy, val_loss, corner):
    figure = curves(accuracy.assign(val_loss=val_loss), "accuracy")
    figure.canvas.draw()
    loss = figure.axes[0]
    box = loss.get_legend().get_window_extent().transformed(loss.transAxes.inverted())
    assert ("upper" if box.y0 > 0.5 else "lower") + (" right" if box.x0 > 0.5 else " left") == corner


def test_numbers_of_the_loss_do_not_overlap(accuracy):
    figure = curves(accuracy.assign(train_loss=[2.3, 0.4, 0.09, 0.03]), "accuracy")
    figure.canvas.draw()
    labels = [label for minor in (False, True) for label in figure.axes[0].yaxis.get_ticklabels(minor=minor)]
    low, high = figure.axes[0].get_window_extent().intervaly
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    centres = sorted((box.y0 + box.y1) / 2 for box in boxes if low <= (box.y0 + box.y1) / 2 <= high)
    assert len(centres) > 3
    assert min(np.diff(centres)) > boxes[0].height


def test_one_epoch_and_non_positive_loss_draw(table, tmp_path):
    save(curves(table.iloc[[1]], "psnr"), tmp_path / "one.png")
    save(curves(table.assign(train_loss=0.0), "psnr"), tmp_path / "zero.png")
