"""Maps lie over their own image, at the right place, on one printed scale."""

import matplotlib
import numpy as np
import pytest

from vitpipe.figures.attention import overview, queries, received
from vitpipe.figures.style import save


def axes_of(figure) -> dict:
    return {axes.get_label(): axes for axes in figure.axes}


def texts(figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def bar_label(figure) -> str:
    return next(text for text in texts(figure).split("\n") if text.startswith("attention / uniform"))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_overview_panels_hold_log2_of_their_head(random):
    maps = random.uniform(0.5, 2, (2, 3, 4, 4))
    axes = axes_of(overview(maps, "title", "note"))
    for layer in range(2):
        for head in range(3):
            image = axes[f"layer {layer + 1} head {head + 1}"].images[0]
            np.testing.assert_allclose(image.get_array(), np.log2(maps[layer, head]))
            assert image.get_interpolation() == "nearest"
    boxes = [axes[f"layer {i} head {j}"].get_position() for i, j in ((1, 1), (1, 2), (2, 1))]
    assert boxes[0].x0 < boxes[1].x0
    assert boxes[0].y0 > boxes[2].y0


def test_overview_scale_is_shared_symmetric_and_printed(random):
    maps = np.exp2(random.uniform(-3, 1, (2, 3, 8, 8)))
    maps[0, 0, 0, 0] = 0
    figure = overview(maps, "title")
    limits = {axes.images[0].get_clim() for name, axes in axes_of(figure).items() if name.startswith("layer")}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high
    assert 2.5 < high < 3
    assert f"outside {2**low:.2g} to {2**high:.3g}" in bar_label(figure)
    ticks = [tick.get_text() for tick in axes_of(figure)["colour bar"].get_xticklabels()]
    assert ticks == ["0.25", "0.5", "uniform", "2", "4"]


def test_overview_is_not_drained_by_empty_patches():
    maps = np.full((1, 1, 4, 4), 2.0)
    maps[..., :2, :] = 1e-12
    image = axes_of(overview(maps, "t"))["layer 1 head 1"].images[0]
    assert image.get_clim() == (-4, 4)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (12, 32, 4, 4), (2, 8, 32, 32), (24, 40, 4, 6)])
def test_overview_sizes(shape, random, tmp_path):
    figure = overview(random.uniform(0, 2, shape), "t")
    save(figure, tmp_path / "a.png")
    width, height = figure.get_size_inches() * figure.dpi
    assert width < 1400
    assert height < 1000
    assert ("12 of 24 layers and 32 of 40 heads shown" in texts(figure)) == (shape[0] == 24)


def test_received_ties_map_to_image_by_id(random):
    images = random.integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    maps, ids = random.uniform(0, 9, (5, 4, 6)), ["e", "d", "c", "b", "a"]
    axes = axes_of(received(images, maps, ids, "t"))
    for i, sample in enumerate(ids):
        face, paint = axes[sample].images
        np.testing.assert_allclose(face.get_array(), images[i] @ [0.299, 0.587, 0.114])
        np.testing.assert_array_equal(paint.get_array(), maps[i])
        assert paint.get_extent() == face.get_extent()
        assert paint.get_interpolation() == "nearest"


def test_received_ids_keep_to_their_image():
    ids = ["W" * 39 + end for end in "ab"]
    figure = received(np.zeros((2, 24, 24, 3), np.uint8), np.ones((2, 4, 4)), ids, "t")
    panels = {name: axes.get_window_extent() for name, axes in axes_of(figure).items()}
    boxes = [text.get_window_extent() for text in figure.texts if "WWW" in text.get_text()]
    assert [box.x1 < panels[sample].x1 for sample, box in zip(ids, boxes, strict=True)] == [True, True]


def test_received_scale_is_shared_and_printed(random):
    images = np.zeros((4, 24, 24, 3), np.uint8)
    maps = random.uniform(0, 2, (4, 20, 20)) * np.array([1, 2, 3, 4])[:, None, None]
    figure = received(images, maps, list("abcd"), "t")
    [(low, high)] = {axes_of(figure)[sample].images[1].get_clim() for sample in "abcd"}
    assert (low, high) == (1, pytest.approx(np.percentile(maps, 99.5)))
    assert f"0.5 % lie above {high:.3g}, up to {maps.max():.3g}" in bar_label(figure)
    uniform = received(images, np.ones((4, 4, 4)), list("abcd"), "t")
    assert axes_of(uniform)["a"].images[1].get_clim() == (1, 1.5)
    assert "100 % of the patches get no more than uniform" in bar_label(uniform)


def test_paint_grows_from_uniform():
    image = axes_of(received(np.zeros((1, 8, 8, 3), np.uint8), np.array([[[0.5, 1], [4, 9]]]), ["a"], "t"))["a"].images[
        1
    ]
    alpha = image.cmap(image.norm(image.get_array()))[..., 3].ravel()
    assert list(alpha[:2]) == [0, 0]
    assert 0 < alpha[2] < alpha[3]


def test_queries_panels_and_boxes(random):
    image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    boxes = {"eye": (8, 0, 16, 8), "mouth": (16, 24, 24, 32)}  # tokens (row 0, column 1) and (row 3, column 2)
    maps = {name: random.uniform(0.1, 5, (2, 3, 4, 4)) for name in boxes}
    axes = axes_of(queries(image, boxes, maps, "t"))
    for name, token in (("eye", (0, 1)), ("mouth", (3, 2))):
        left, top, right, bottom = boxes[name]
        assert (axes[name].images[0].get_array() == image).all()
        for layer in range(2):
            for head in range(3):
                panel = axes[f"{name}: layer {layer + 1} head {head + 1}"]
                drawn = panel.images[1].get_array()
                expected = maps[name][layer, head]
                assert [tuple(i) for i in np.argwhere(np.ma.getmaskarray(np.ma.masked_invalid(drawn)))] == [token]
                others = np.ones((4, 4), bool)
                others[token] = False
                np.testing.assert_array_equal(drawn[others], expected[others])
                hatched = [patch for patch in panel.patches if patch.get_hatch()]
                assert [patch.get_bbox().bounds for patch in hatched] == [
                    (left - 0.5, top - 0.5, right - left, bottom - top)
                ]
    limits = {panel.images[1].get_clim() for name, panel in axes.items() if "layer" in name}
    assert len(limits) == 1


@pytest.mark.parametrize(("layers", "heads", "grid"), [(1, 1, 4), (12, 32, 8), (2, 8, 32)])
def test_queries_sizes(layers, heads, grid, random, tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    boxes = {"eye": (0, 0, 64 // grid, 64 // grid), "mouth": (32, 32, 32 + 64 // grid, 32 + 64 // grid)}
    figure = queries(image, boxes, {name: random.uniform(0, 3, (layers, heads, grid, grid)) for name in boxes}, "t")
    save(figure, tmp_path / "a.png")
    width, height = figure.get_size_inches() * figure.dpi
    assert width < 1600
    assert height < 1000
    assert ("4 of 12 layers and 16 of 32 heads shown" in texts(figure)) == (layers == 12)


def test_settings_of_matplotlib_stay(random):
    before = dict(matplotlib.rcParams)
    overview(random.uniform(0, 2, (1, 2, 4, 4)), "t")
    assert dict(matplotlib.rcParams) == before
