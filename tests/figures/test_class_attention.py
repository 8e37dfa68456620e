"""The six-step picture and the heads show the arrays of the image whose id they bear, on stated scales."""

import numpy as np
import pytest

from vitpipe.figures.class_attention import heads, six_steps


def height_of(figure, text: str) -> float:
    """Position of a text, 0 at the figure's bottom."""
    return next(found.get_position()[1] for found in figure.texts if found.get_text() == text)


def test_six_steps_panels_hold_the_arrays_of_their_id(make, axes_of):
    arrays = make("class_attention")
    axes = axes_of(six_steps(arrays))
    assert len(axes) == 4 * 3 + 1  # and the colour bars, which share a label
    panels = {"image": "images", "attention": "resized", "attended": "attended", "raw": "raw"}
    for i, sample in enumerate(arrays["ids"]):
        for name, key in panels.items():
            shown = axes[f"{name}: {sample}"].images[0]
            np.testing.assert_array_equal(shown.get_array(), arrays[key][i])
            assert shown.get_interpolation() == "nearest"
    row = [axes[f"{name}: a.png"].get_position() for name in panels]
    assert [box.x0 for box in row] == sorted(box.x0 for box in row)
    assert len({round(box.y0, 9) for box in row}) == 1


def test_six_steps_names_its_images(make, axes_of, texts):
    figure = six_steps(make("class_attention", images=2))
    for sample, verdict in (("b.png", "right, probability 0.500"), ("a.png", "wrong, probability 0.900")):
        box = axes_of(figure)[f"image: {sample}"].get_position()
        for text in (sample, verdict):
            assert box.y0 < height_of(figure, text) < box.y1
    assert {"cat", "dog", "bird"} <= set(texts(figure).split("\n"))


@pytest.mark.parametrize(("prefix", "tokens"), [(1, 17), (0, 16), (5, 21)])
def test_six_steps_prints_what_min_max_hides(make, axes_of, texts, prefix, tokens):
    arrays = make("class_attention", prefix=prefix)
    arrays["raw"][1, 0, 0], arrays["raw"][1, 3, 3] = 0.002, 0.25
    arrays["heads"] = arrays["raw"][:, None] * tokens
    figure = six_steps(arrays)
    box = axes_of(figure)["raw: a.png"].get_position()
    assert box.y0 - 0.02 < height_of(figure, "weights 0.002 to 0.25") < box.y0
    assert f"{0.002 * tokens:.2g} to {0.25 * tokens:.3g} × uniform" in texts(figure)
    assert f"uniform = 1/{tokens} = {1 / tokens:.3g}" in texts(figure)
    assert str(arrays["query"]) in texts(figure)
    limits = [
        {axes_of(figure)[f"{name}: {i}"].images[0].get_clim() for i in arrays["ids"]} for name in ("raw", "attention")
    ]
    assert limits == [{(0, 0.25)}, {(0, 1)}]


def test_weights_below_uniform_keep_uniform_on_the_scale(make, axes_of):
    arrays = make("class_attention")
    axes = axes_of(six_steps(arrays | {"raw": arrays["raw"] * 0.01, "heads": arrays["heads"] * 0.01}))
    assert axes["raw: a.png"].images[0].get_clim() == axes["colour bar"].get_xlim() == (0, 1.25 / 17)


def test_heads_panels_lie_over_their_image_on_one_scale(make, axes_of):
    arrays, limits = make("class_attention"), set()
    axes = axes_of(heads(arrays))
    for i, sample in enumerate(arrays["ids"]):
        np.testing.assert_array_equal(axes[f"image: {sample}"].images[0].get_array(), arrays["images"][i])
        expected = {"rollout": arrays["rollout"][i], "mean of heads": arrays["heads"][i].mean(axis=0)}
        expected |= {f"head {head + 1}": arrays["heads"][i, head] for head in range(2)}
        for name, values in expected.items():
            grey, paint = axes[f"{name}: {sample}"].images
            np.testing.assert_allclose(grey.get_array(), arrays["images"][i] @ [0.299, 0.587, 0.114])
            np.testing.assert_array_equal(paint.get_array(), values)
            limits.add(paint.get_clim())
    assert len(limits) == 1


@pytest.mark.parametrize(
    ("rollout", "strongest", "own"),
    [((0.2, 0.3), 1.7, True), ((1, 1.6), 1.7, False), ((0.5, 40), 1.7, True), ((0.5, 2), 17, True)],
)
def test_rollout_far_from_the_heads_has_a_scale_of_its_own(make, axes_of, texts, rollout, strongest, own):
    arrays = make("class_attention")
    arrays["heads"] *= strongest / arrays["heads"].max()
    figure = heads(arrays | {"rollout": np.linspace(*rollout, 48).reshape(3, 4, 4)})
    low, high = axes_of(figure)["rollout: a.png"].images[1].get_clim()
    assert ((low, high) != axes_of(figure)["head 1: a.png"].images[1].get_clim()) == own
    stated = f"on a scale of its own: {rollout[0]:.3g} to {rollout[1]:.3g}"
    assert (stated in texts(figure)) == own
    assert not own or low == (1 if rollout[1] > 1 else rollout[0])


@pytest.mark.parametrize("drawn", [six_steps, heads])
def test_wide_names_keep_to_their_column(make, drawn):
    wide = dict.fromkeys(("ids", "actual", "predicted"), np.array(["W" * 40] * 3))
    figure = drawn(make("class_attention") | wide)
    edge = figure.axes[0].get_window_extent().x0
    starts = ("…WWW", "right, probability 0.")
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text().startswith(starts)]
    assert len(boxes) == 12
    assert all(box.x1 < edge for box in boxes)


def test_many_heads_are_spread_and_said(make, axes_of, texts):
    figure = heads(make("class_attention", images=2, heads=16))
    assert "; 12 of 16 heads shown" in texts(figure)
    shown = [name for name in axes_of(figure) if name.startswith("head ") and name.endswith(": a.png")]
    assert len(shown) == 12
    assert {"head 1: a.png", "head 16: a.png"} <= set(shown)
