"""Every figure of attention maps shows those of its own images, layers and heads."""

from pathlib import Path

import numpy as np

from vitpipe.figures import heatmaps
from vitpipe.figures.heatmaps import draw_maps

IDS = ["b.png", "a.png", "c.png"]
QUERIES = {"eye": (0, 1), "mouth": (3, 2)}  # row and column


def made() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    received = random.uniform(0.5, 1.5, (3, 2, 3, 4, 4))
    received[:, 1, 2, 0, 0] = 9  # the sharpest head
    return {
        "ids": np.array(IDS),
        "images": random.integers(0, 256, (3, 24, 24, 3), dtype=np.uint8),
        "received": received,
        "queries": np.array(list(QUERIES)),
        "boxes": np.array([[6 * x, 6 * y, 6 * x + 6, 6 * y + 6] for y, x in QUERIES.values()]),
        "looks": random.uniform(0.5, 1.5, (2, 2, 3, 4, 4)),
    }


def test_panels_hold_the_arrays_of_their_image_layer_and_head(monkeypatch):
    arrays, drawn = made(), {}

    def keep(figure, path):
        drawn[path.name] = {axes.get_label(): axes.images for axes in figure.axes}

    monkeypatch.setattr(heatmaps, "save", keep)
    captions = draw_maps(arrays, Path())
    assert set(drawn) == set(captions)
    received = arrays["received"]
    maps = {"received_head.png": received[:, 1, 2]}
    maps |= {f"received_layer{layer + 1}.png": received[:, layer].mean(1) for layer in range(2)}
    for name, values in maps.items():
        for i, sample in enumerate(IDS):
            grey, paint = drawn[name][sample]
            np.testing.assert_allclose(grey.get_array(), arrays["images"][i] @ [0.299, 0.587, 0.114])
            np.testing.assert_array_equal(paint.get_array(), values[i])
    assert captions["received_head.png"]["title"] == "Layer 2, head 3: attention received"
    assert "in image b.png" in captions["queries.png"]["caption"]
    for query, looks in zip(QUERIES, arrays["looks"], strict=True):
        np.testing.assert_array_equal(drawn["queries.png"][query][0].get_array(), arrays["images"][0])
        looks[..., *QUERIES[query]] = np.nan  # its own token
        for layer, head in np.ndindex(2, 3):
            panel = f"layer {layer + 1} head {head + 1}"
            shown = drawn["queries.png"][f"{query}: {panel}"][1].get_array()
            np.testing.assert_array_equal(shown.filled(np.nan), looks[layer, head])
            mean = drawn["overview.png"][panel][0].get_array()
            np.testing.assert_allclose(mean, np.log2(received[:, layer, head].mean(0)))


def test_title_of_queries_keeps_within_the_figure(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    maps = {
        "ids": np.array(["W" * 80 + ".png"]),
        "images": np.zeros((1, 8, 8, 3), np.uint8),
        "received": random.uniform(0, 2, (1, 1, 2, 4, 4)),
        "queries": np.array(["centre"]),
        "boxes": np.array([[4, 4, 6, 6]]),
        "looks": random.uniform(0, 2, (1, 1, 2, 4, 4)),
    }
    figures = {}
    monkeypatch.setattr(heatmaps, "save", lambda figure, path: figures.update({path.name: figure}))
    captions = draw_maps(maps, tmp_path)
    assert set(captions) == set(figures)
    title = figures["queries.png"].texts[0]
    assert title.get_text().startswith("Where single patches look in …W")
    assert title.get_text().endswith("W.png")
    assert title.get_window_extent().x1 < figures["queries.png"].bbox.x1
