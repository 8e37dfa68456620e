"""The six-step picture and the heads show the arrays of the image whose id they bear, on stated scales."""

import numpy as np
import pytest

from vitpipe.figures.class_attention import draw, heads, six_steps

IDS = ["b.png", "a.png", "c.png"]


def made(
    f: int = 3, size: int = 32, grid: int = 4, count: int = 2, query: str = "class token"
) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    weights = random.uniform(0.01, 0.1, (f, count, grid, grid))
    return {
        "ids": np.array([*IDS, "d", "e", "f"][:f]),
        "images": random.integers(0, 256, (f, size, size, 3), dtype=np.uint8),
        "actual": np.array(["cat", "dog", "american_pit_bull_terrier"] * 2)[:f],
        "predicted": np.array(["cat", "cat", "staffordshire_bull_terrier"] * 2)[:f],
        "probability": np.linspace(0.5, 0.9, f),
        "raw": weights.mean(axis=1),
        "resized": random.uniform(0, 1, (f, size, size)),
        "attended": random.uniform(0, 1, (f, size, size, 3)),
        "heads": weights * (grid**2 + (query == "class token")),
        "rollout": random.uniform(0.5, 1.5, (f, grid, grid)),
        "query": np.array(query),
    }


def axes_of(figure) -> dict:
    return {axes.get_label(): axes for axes in figure.axes}


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def height_of(figure, text: str) -> float:
    """Position of a text, 0 at the figure's bottom."""
    return next(found.get_position()[1] for found in figure.texts if found.get_text() == text)


def test_six_steps_panels_hold_the_arrays_of_their_id():
    arrays = made()
    axes = axes_of(six_steps(arrays))
    assert len(axes) == 4 * len(IDS) + 1  # and the colour bars, which share a label
    for i, sample in enumerate(IDS):
        panels = {"image": "images", "attention": "resized", "attended": "attended", "raw": "raw"}
        for name, key in panels.items():
            shown = axes[f"{name}: {sample}"].images[0]
            np.testing.assert_array_equal(shown.get_array(), arrays[key][i])
            assert shown.get_interpolation() == "nearest"
    row = [axes[f"{name}: a.png"].get_position() for name in panels]
    assert [box.x0 for box in row] == sorted(box.x0 for box in row)
    assert len({round(box.y0, 9) for box in row}) == 1


def test_six_steps_names_its_images():
    arrays = made(2)
    arrays["predicted"][1] = "bird"
    figure = six_steps(arrays)
    for sample, verdict in (("b.png", "right, probability 0.500"), ("a.png", "wrong, probability 0.900")):
        box = axes_of(figure)[f"image: {sample}"].get_position()
        for text in (sample, verdict):
            assert box.y0 < height_of(figure, text) < box.y1
    assert {"cat", "dog", "bird"} <= set(texts(figure))


@pytest.mark.parametrize(("query", "uniform"), [("class token", 17), ("mean of all patches", 16)])
def test_six_steps_prints_what_min_max_hides(query, uniform):
    arrays = made(query=query)
    arrays["raw"][1, 0, 0], arrays["raw"][1, 3, 3] = 0.002, 0.25
    figure = six_steps(arrays)
    box = axes_of(figure)["raw: a.png"].get_position()
    assert box.y0 - 0.02 < height_of(figure, "weights 0.002 to 0.25") < box.y0
    assert f"{0.002 * uniform:.2g} to {0.25 * uniform:.3g} × uniform" in texts(figure)
    assert any(f"uniform = 1/{uniform} = {1 / uniform:.3g}" in text for text in texts(figure))
    assert any(query in text for text in texts(figure))
    assert {axes_of(figure)[f"raw: {sample}"].images[0].get_clim() for sample in IDS} == {(0, 0.25)}
    assert {axes_of(figure)[f"attention: {sample}"].images[0].get_clim() for sample in IDS} == {(0, 1)}


def test_weights_below_uniform_keep_uniform_on_the_scale():
    arrays = made()
    arrays["raw"] = arrays["raw"] * 0.01
    figure = six_steps(arrays)
    assert axes_of(figure)["raw: a.png"].images[0].get_clim() == (0, 1.25 / 17)
    assert axes_of(figure)["colour bar"].get_xlim() == (0, 1.25 / 17)


def test_heads_panels_lie_over_their_image_on_one_scale():
    arrays = made()
    axes = axes_of(heads(arrays))
    limits = set()
    for i, sample in enumerate(IDS):
        np.testing.assert_array_equal(axes[f"image: {sample}"].images[0].get_array(), arrays["images"][i])
        expected = {
            "rollout": arrays["rollout"][i],
            "mean of heads": arrays["heads"][i].mean(axis=0),
            "head 1": arrays["heads"][i, 0],
            "head 2": arrays["heads"][i, 1],
        }
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
def test_rollout_far_from_the_heads_has_a_scale_of_its_own(rollout, strongest, own):
    arrays = made()
    arrays["heads"] *= strongest / arrays["heads"].max()
    arrays["rollout"] = np.linspace(*rollout, 48).reshape(3, 4, 4)
    figure = heads(arrays)
    low, high = axes_of(figure)["rollout: a.png"].images[1].get_clim()
    assert ((low, high) != axes_of(figure)["head 1: a.png"].images[1].get_clim()) == own
    stated = [text for text in texts(figure) if "scale of its own" in text]
    assert len(stated) == own
    if own:
        assert f"{rollout[0]:.3g} to {rollout[1]:.3g}" in stated[0]
        assert low == (1 if rollout[1] > 1 else rollout[0])


@pytest.mark.parametrize("drawn", [six_steps, heads])
def test_wide_names_keep_to_their_column(drawn):
    figure = drawn(made() | dict.fromkeys(("ids", "actual", "predicted"), np.array(["W" * 40] * 3)))
    edge = figure.axes[0].get_window_extent().x0
    boxes = [text.get_window_extent() for text in figure.texts if "WWW" in text.get_text()]
    boxes += [text.get_window_extent() for text in figure.texts if text.get_text().startswith("right, probability 0.")]
    assert len(boxes) == 12
    assert all(box.x1 < edge for box in boxes)


def test_many_heads_are_spread_and_said():
    figure = heads(made(count=16))
    assert any("12 of 16 heads shown" in text for text in texts(figure))
    shown = [name for name in axes_of(figure) if name.startswith("head ") and name.endswith(": a.png")]
    assert len(shown) == 12
    assert {"head 1: a.png", "head 16: a.png"} <= set(shown)


@pytest.mark.parametrize(
    ("f", "size", "grid", "count", "query"),
    [(1, 8, 2, 1, "class token"), (2, 192, 16, 5, "mean of all patches")],
)
def test_draw_is_the_same_every_time(f, size, grid, count, query, tmp_path):
    arrays = made(f, size, grid, count, query)
    arrays["resized"][0] = 0
    captions = draw(arrays, tmp_path / "a")
    assert draw(arrays, tmp_path / "b") == captions
    assert {path.name for path in (tmp_path / "a").iterdir()} == set(captions)
    for name, text in captions.items():
        assert text["title"]
        assert query in text["caption"]
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
