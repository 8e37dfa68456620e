"""Maps lie over their own image, at the right place, on one printed scale."""

import numpy as np
import pytest

from vitpipe.figures.maps import draw, overview, queries, received


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_panels_hold_the_arrays_of_their_image_layer_and_head(make, axes_of, texts):
    arrays = make("maps")
    drawn = {name: (figure, title, caption) for name, figure, title, caption in draw(arrays)}
    panels = {name: axes_of(figure) for name, (figure, *_) in drawn.items()}
    expected = {"received_head": arrays["received"][:, 1, 2]}
    expected |= {f"received_layer{i + 1}": arrays["received"][:, i].mean(1) for i in range(2)}
    for name, values in expected.items():
        for i, sample in enumerate(arrays["ids"]):
            grey, paint = panels[name][sample].images
            np.testing.assert_allclose(grey.get_array(), arrays["images"][i] @ [0.299, 0.587, 0.114])
            np.testing.assert_array_equal(paint.get_array(), values[i])
            assert paint.get_extent() == grey.get_extent()
            assert paint.get_interpolation() == "nearest"
    assert drawn["received_head"][1] == "Layer 2, head 3: attention received"
    assert "Attention received, layer 2, head 3" in texts(drawn["received_head"][0])
    assert "in image b.png" in drawn["queries"][2]
    for i, (query, own) in enumerate((("eye", (0, 1)), ("mouth", (3, 2)))):
        looks, (left, top, right, bottom) = arrays["looks"][i].copy(), arrays["boxes"][i]
        looks[..., *own] = np.nan
        np.testing.assert_array_equal(panels["queries"][query].images[0].get_array(), arrays["images"][0])
        for layer, head in np.ndindex(2, 3):
            label = f"layer {layer + 1} head {head + 1}"
            panel = panels["queries"][f"{query}: {label}"]
            np.testing.assert_array_equal(panel.images[1].get_array().filled(np.nan), looks[layer, head])
            [hatched] = [patch.get_bbox().bounds for patch in panel.patches if patch.get_hatch()]
            assert hatched == (left - 0.5, top - 0.5, right - left, bottom - top)
            mean = panels["overview"][label].images[0]
            np.testing.assert_allclose(mean.get_array(), np.log2(arrays["received"][:, layer, head].mean(0)))
    limits = {panel.images[1].get_clim() for name, panel in panels["queries"].items() if "layer" in name}
    assert len(limits) == 1
    boxes = [panels["overview"][f"layer {i} head {j}"].get_position() for i, j in ((1, 1), (1, 2), (2, 1))]
    assert boxes[0].x0 < boxes[1].x0
    assert boxes[0].y0 > boxes[2].y0


def test_overview_scale_is_shared_symmetric_and_printed(random, axes_of, texts):
    maps = np.exp2(random.uniform(-3, 1, (2, 3, 8, 8)))
    maps[0, 0, 0, 0] = 0
    figure = overview(maps, 5)
    [(low, high)] = {axes.images[0].get_clim() for name, axes in axes_of(figure).items() if name.startswith("layer")}
    assert low == -high
    assert 2.5 < high < 3
    assert f"outside {2**low:.2g} to {2**high:.3g}" in texts(figure)
    assert "over all queries of 5 test images" in texts(figure)
    ticks = [tick.get_text() for tick in axes_of(figure)["colour bar"].get_xticklabels()]
    assert ticks == ["0.25", "0.5", "uniform", "2", "4"]


def test_overview_is_not_drained_by_empty_patches(axes_of):
    maps = np.full((1, 1, 4, 4), 2.0)
    maps[..., :2, :] = 1e-12
    assert axes_of(overview(maps, 1))["layer 1 head 1"].images[0].get_clim() == (-4, 4)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 8, 32, 32), (24, 40, 4, 6)])
def test_overview_sizes(shape, random, texts, inside):
    figure = overview(random.uniform(0, 2, shape), 1)
    width, height = figure.get_size_inches() * figure.dpi
    assert width < 1400
    assert height < 1000
    assert inside(figure)
    assert ("; 12 of 24 layers and 32 of 40 heads shown" in texts(figure)) == (shape[0] == 24)


def test_received_scale_is_shared_and_printed(random, axes_of, texts):
    images = np.zeros((4, 24, 24, 3), np.uint8)
    maps = random.uniform(0, 2, (4, 20, 20)) * np.array([1, 2, 3, 4])[:, None, None]
    figure = received(images, maps, list("abcd"), "t", "note")
    [(low, high)] = {axes_of(figure)[sample].images[1].get_clim() for sample in "abcd"}
    assert (low, high) == (1, pytest.approx(np.percentile(maps, 99.5)))
    assert f"0.5 % lie above {high:.3g}, up to {maps.max():.3g}" in texts(figure)
    uniform = received(images, np.ones((4, 4, 4)), list("abcd"), "t", "note")
    assert axes_of(uniform)["a"].images[1].get_clim() == (1, 1.5)
    assert "100 % of the patches get no more than uniform" in texts(uniform)


def test_paint_grows_from_uniform(axes_of):
    figure = received(np.zeros((1, 8, 8, 3), np.uint8), np.array([[[0.5, 1], [4, 9]]]), ["a"], "t", "note")
    image = axes_of(figure)["a"].images[1]
    alpha = image.cmap(image.norm(image.get_array()))[..., 3].ravel()
    assert list(alpha[:2]) == [0, 0]
    assert 0 < alpha[2] < alpha[3]


def test_ids_keep_to_their_image(axes_of):
    ids = ["W" * 39 + end for end in "ab"]
    figure = received(np.zeros((2, 24, 24, 3), np.uint8), np.ones((2, 4, 4)), ids, "t", "note")
    panels = {name: axes.get_window_extent() for name, axes in axes_of(figure).items()}
    boxes = [text.get_window_extent() for text in figure.texts if "WWW" in text.get_text()]
    assert [box.x1 < panels[sample].x1 for sample, box in zip(ids, boxes, strict=True)] == [True, True]


@pytest.mark.parametrize(("layers", "heads", "grid"), [(1, 1, (4, 4)), (12, 32, (8, 8)), (1, 2, (4, 8))])
def test_queries_sizes(layers, heads, grid, random, texts, inside):
    image = np.zeros((8 * grid[0], 8 * grid[1], 3), np.uint8)
    figure = queries(
        image, ["eye"], np.array([[8, 16, 16, 24]]), random.uniform(0, 3, (1, layers, heads, *grid)), "W" * 99
    )
    width, height = figure.get_size_inches() * figure.dpi
    assert width < 1600
    assert height < 1000
    assert inside(figure)
    assert figure.texts[0].get_text().startswith("Where single patches look in …W")
    assert ("4 of 12 layers and 16 of 32 heads shown" in texts(figure)) == (layers == 12)
    empty = np.argwhere(np.ma.getmaskarray(np.ma.masked_invalid(figure.axes[1].images[1].get_array())))
    assert empty.tolist() == [[2, 1]]
