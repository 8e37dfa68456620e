"""The figures of the heatmap stage, each from its arrays, which a file of the same name keeps beside it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vitpipe.figures.attention import NARROWEST, overview, queries, received
from vitpipe.figures.class_attention import draw as draw_class_attention
from vitpipe.figures.distances import draw as draw_distances
from vitpipe.figures.faithfulness import draw as draw_faithfulness
from vitpipe.figures.filters import draw as draw_filters
from vitpipe.figures.methods import draw as draw_methods
from vitpipe.figures.per_class import draw as draw_per_class
from vitpipe.figures.pixels import draw as draw_pixels
from vitpipe.figures.positions import draw as draw_positions
from vitpipe.figures.style import save, shortened
from vitpipe.figures.text import extent, fitted
from vitpipe.files import write_json


def draw(views: Mapping[str, Mapping[str, np.ndarray]], folder: Path) -> None:
    """Writes the figures as PNG files, with captions.json, into an empty folder.

    Args:
        views: arrays by the name of the picture, the names below; those of others are for the page.
    """
    draws = {
        "class_attention": draw_class_attention,
        "per_class": draw_per_class,
        "pixels": draw_pixels,
        "maps": draw_maps,
        "methods": draw_methods,
        "faithfulness": draw_faithfulness,
        "distances": draw_distances,
        "filters": draw_filters,
        "positions": draw_positions,
    }
    captions: dict[str, dict[str, str]] = {}
    for name, draw_view in draws.items():
        if name in views:
            captions |= draw_view(views[name], folder)
    write_json(folder / "captions.json", captions)


def draw_maps(maps: Mapping[str, np.ndarray], folder: Path) -> dict[str, dict[str, str]]:
    """What patches attend to and how much attention they receive, from what `vitpipe.explain.heatmaps.maps` gives."""
    faces, layers, heads = maps["received"].shape[:3]
    mean = maps["received"].mean(axis=0)
    note = f"Non-self attention, mean over all queries of {faces} test images, as a multiple of uniform attention"
    captions: dict[str, dict[str, str]] = {}

    def keep(name: str, title: str, caption: str, figure) -> None:
        save(figure, folder / name)
        captions[name] = {"title": title, "caption": caption}

    keep(
        "overview.png",
        "What every head looks at",
        "Layers by heads: how much attention each patch position receives, on one log2 scale around uniform. "
        "A head that shows the same shape for all images may follow position rather than content.",
        overview(mean, "What every head looks at", note),
    )
    layer, head = sharpest(mean)
    keep(
        "received_head.png",
        f"Layer {layer + 1}, head {head + 1}: attention received",
        f"The head whose mean map differs most from uniform, over {faces} test images.",
        received(
            maps["images"],
            maps["received"][:, layer, head],
            list(maps["ids"]),
            f"Attention received, layer {layer + 1}, head {head + 1}",
            "The head whose mean map differs most from uniform; non-self attention, mean over queries",
        ),
    )
    for layer in range(layers):
        keep(
            f"received_layer{layer + 1}.png",
            f"Layer {layer + 1}: attention received, mean of {heads} heads",
            "Patches that many others attend to, painted over the images.",
            received(
                maps["images"],
                maps["received"][:, layer].mean(axis=1),
                list(maps["ids"]),
                f"Attention received, layer {layer + 1}, mean of {heads} heads",
                "Non-self attention, mean over queries",
            ),
        )
    names, title = [str(name) for name in maps["queries"]], "Where single patches look"
    room = NARROWEST - 24 - extent(f"{title} in ", 14, "bold")
    sample = fitted(str(maps["ids"][0]), room, 14, shortened, "bold")
    keep(
        "queries.png",
        title,
        f"Non-self attention of the patches at {', '.join(names)} in image {maps['ids'][0]}, for each layer and head.",
        queries(
            maps["images"][0],
            dict(zip(names, map(tuple, maps["boxes"]), strict=True)),
            dict(zip(names, maps["looks"], strict=True)),
            f"{title} in {sample}",
            "Non-self attention as a multiple of uniform attention",
        ),
    )
    return captions


def sharpest(mean: np.ndarray) -> tuple[int, int]:
    """Layer and head whose mean map (l, h, g, g) has the largest Kullback-Leibler divergence from uniform."""
    ratio = np.maximum(mean, np.finfo(np.float64).tiny)
    divergence = (ratio * np.log(ratio)).mean(axis=(2, 3))
    layer, head = np.unravel_index(divergence.argmax(), divergence.shape)
    return int(layer), int(head)
