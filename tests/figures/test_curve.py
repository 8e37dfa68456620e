"""The curves show the arrays, and mark the epoch with the best validation score."""

import numpy as np
import pytest

from vitpipe.figures.curve import curve, draw
from vitpipe.figures.style import save


def lines_of(axes) -> dict:
    return {line.get_label(): line for line in axes.lines}


def test_lines_are_the_columns(make):
    arrays = make("curve")
    figure = curve(arrays)
    for axes, measure in zip(figure.axes, ("loss", "psnr"), strict=True):
        assert axes.get_label() == measure
        lines = lines_of(axes)
        np.testing.assert_array_equal(lines["training"].get_xdata(), arrays["epoch"])
        np.testing.assert_array_equal(lines["training"].get_ydata(), arrays[f"train_{measure}"])
        np.testing.assert_array_equal(lines["validation"].get_ydata(), arrays[f"val_{measure}"])
    assert set(lines_of(figure.axes[1])["bicubic"].get_ydata()) == {27.5}
    assert figure.axes[1].texts[0].get_text() == "bicubic on validation 27.50 dB"


def test_accuracy_is_drawn_in_percent_and_loss_as_it_is(make, texts):
    arrays = make("curve", score="accuracy")
    figure = curve(arrays)
    loss, score = map(lines_of, figure.axes)
    np.testing.assert_array_equal(loss["training (augmented)"].get_ydata(), arrays["train_loss"])
    np.testing.assert_array_equal(loss["validation"].get_ydata(), arrays["val_loss"])
    np.testing.assert_array_equal(score["training (augmented)"].get_ydata(), [25, 50, 75, 100])
    np.testing.assert_array_equal(score["validation"].get_ydata(), [12.5, 87.5, 87.5, 75])
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["training (augmented)", "validation"]
    assert "Accuracy in %" in texts(figure)


def test_a_score_that_is_not_known_is_drawn_as_it_is(make, texts):
    arrays = make("curve", score="accuracy", train_bleu_4=[0, 0.1, 0.2, 0.3], val_bleu_4=[0, 0.1, 0.25, 0.2])
    arrays |= {"score": np.array("bleu_4")}
    [(_, figure, _, caption)] = draw(arrays)
    np.testing.assert_array_equal(lines_of(figure.axes[1])["validation"].get_ydata(), arrays["val_bleu_4"])
    assert {"Bleu 4", "kept: epoch 3 with 0.2500 on validation images"} <= set(texts(figure).split("\n"))
    assert "Loss and bleu 4 per epoch" in caption


def test_a_model_that_was_not_trained_has_one_point(make, texts):
    """Means over training images are missing then."""
    nothing = {f"train_{name}": [np.nan] for name in ("loss", "psnr")}
    figure = curve(make("curve", epoch=[0], val_loss=[0.3], val_psnr=[28.5], val_bicubic_psnr=[27.5], **nothing))
    assert "kept: epoch 0 with 28.50 dB, +1.00 on bicubic" in texts(figure)
    for axes, value in zip(figure.axes, (0.3, 28.5), strict=True):
        assert list(lines_of(axes)["validation"].get_ydata()) == [value]


@pytest.mark.parametrize(("bicubic", "gain"), [(27.5, "+1.75"), (30.0, "−0.75")])
def test_best_validation_epoch_is_marked(make, texts, bicubic, gain):
    figure = curve(make("curve", val_bicubic_psnr=[0, 0, 0, bicubic]))
    assert f"kept: epoch 2 with 29.25 dB, {gain} on bicubic" in texts(figure)
    for axes, value in zip(figure.axes, (0.22, 29.25), strict=True):
        assert any(list(line.get_xdata()) == [2] and list(line.get_ydata()) == [value] for line in axes.lines)


def test_all_epochs_of_an_average_are_marked(make, texts):
    arrays = make("curve", score="accuracy", averaged=[4, 2])
    [(_, figure, _, caption)] = draw(arrays)
    assert "kept: the mean of epochs 2, 4" in texts(figure)
    assert "best: epoch 3" in texts(figure)
    assert "the mean of the weights of the marked epochs" in caption
    for axes, values in zip(figure.axes, (arrays["val_loss"], 100 * arrays["val_accuracy"]), strict=True):
        marks = [line for line in axes.lines if line.get_marker() == "o" and line.get_markersize() == 9]
        assert [list(line.get_xdata()) for line in marks] == [[2, 4]]
        assert [list(line.get_ydata()) for line in marks] == [[values[1], values[3]]]


def test_of_equally_good_epochs_that_with_the_lowest_loss_is_marked(make, texts):
    figure = curve(make("curve", score="accuracy"))
    assert "kept: epoch 3 with 87.5 % on validation images" in texts(figure)
    for axes, value in zip(figure.axes, (0.9, 87.5), strict=True):
        assert any(list(line.get_xdata()) == [3] and list(line.get_ydata()) == [value] for line in axes.lines)


@pytest.mark.parametrize("val_loss", [[2.1, 1.2, 0.9, 0.8], [2.1, 1.2, 1.9, 2.5]])
def test_legend_keeps_off_the_curves(make, val_loss):
    figure = curve(make("curve", score="accuracy", val_loss=val_loss))
    figure.canvas.draw()
    loss = figure.axes[0]
    box = loss.get_legend().get_window_extent()
    for line in loss.lines[:2]:
        x, y = loss.transData.transform(line.get_xydata()).T
        dense = np.linspace(x[0], x[-1], 300)  # lines cross the legend between their points, too
        assert not any(map(box.contains, dense, np.interp(dense, x, y)))


def test_numbers_of_the_loss_do_not_overlap_and_keep_their_digits(make):
    figure = curve(make("curve", score="accuracy", train_loss=[2.3, 0.4, 0.09, 0.0004]))
    figure.canvas.draw()
    low, high = figure.axes[0].get_window_extent().intervaly
    shown = {}
    for label in [label for minor in (False, True) for label in figure.axes[0].yaxis.get_ticklabels(minor=minor)]:
        box = label.get_window_extent()
        if label.get_text() and low <= (box.y0 + box.y1) / 2 <= high:
            shown[label.get_text()] = (box.y0 + box.y1) / 2
    assert {"0.0005", "0.01", "2"} <= set(shown)
    assert min(np.diff(sorted(shown.values()))) > 10


def test_one_epoch_and_non_positive_loss_draw(make, tmp_path):
    arrays = make("curve")
    save(curve({name: values[[1]] if values.ndim else values for name, values in arrays.items()}), tmp_path / "one.png")
    save(curve(arrays | {"train_loss": np.zeros(4)}), tmp_path / "zero.png")
