"""Small arrays of every kind of figure, and what a figure holds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

Arrays = dict[str, np.ndarray]
IDS = ("b.png", "a.png", "c.png", "d.png", "e.png")


def pictures(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.integers(0, 256, (*shape, 3), dtype=np.uint8)


def curve(random: np.random.Generator, score: str = "psnr", **columns: list[float]) -> Arrays:
    psnr = {
        "epoch": np.arange(4),
        "train_loss": np.array([np.nan, 0.3, 0.2, 0.05]),
        "val_loss": np.array([0.5, 0.31, 0.22, 0.24]),
        "train_psnr": np.array([np.nan, 28, 29.5, 30]),
        "val_psnr": np.array([27.5, 28, 29.25, 29.0]),
        "val_bicubic_psnr": np.full(4, 27.5),
        "reference": np.array("bicubic"),
    }
    accuracy = {
        "epoch": np.arange(1, 5),
        "train_loss": np.array([2.0, 1.0, 0.5, 0.2]),
        "val_loss": np.array([2.1, 1.2, 0.9, 1.1]),
        "train_accuracy": np.array([0.25, 0.5, 0.75, 1.0]),
        "val_accuracy": np.array([0.125, 0.875, 0.875, 0.75]),
        "training": np.array("training (augmented)"),
    }
    chosen = {"psnr": psnr, "accuracy": accuracy}[score] | {name: np.array(values) for name, values in columns.items()}
    return chosen | {"score": np.array(score)}


def gallery(random: np.random.Generator) -> Arrays:
    arrays = {}
    for band, count in (("gallery", 5), ("best", 1), ("worst", 1)):
        group = {name: pictures(random, count, 24, 24) for name in ("bicubic", "model", "hr")}
        group |= {"lr": pictures(random, count, 6, 6), "ids": np.array([f"{band} {i}" for i in range(count)])}
        group |= {"psnr_bicubic": 27 + np.arange(count), "psnr_model": 30 + np.arange(count) ** 2 / 4}
        arrays |= {f"{band}_{name}": values for name, values in group.items()}
    return arrays


def confusion(random: np.random.Generator) -> Arrays:
    matrix = np.array([[90, 10, 0], [0, 3, 1], [2, 0, 1994]])
    return {"matrix": matrix, "classes": np.array(["cat", "dog", "ship"])}


def ranking(random: np.random.Generator, count: int = 4, side: int = 8, name: str = "class") -> Arrays:
    arrays = {}
    for band in ("worst", "best", "random"):
        group = {
            "images": pictures(random, count, side, side),
            "ids": np.array([f"{band}{i}.png" for i in range(count)]),
            "predicted": np.array([f"{name} {i % 2}" for i in range(count)]),
            "actual": np.array([f"{name} 1"] * count),
            "probability": random.uniform(0.1, 1, count),
            "loss": np.sort(random.uniform(0.1, 9, count))[::-1],
        }
        arrays |= {f"{band}_{key}": values for key, values in group.items()}
    return arrays


def patches(
    random: np.random.Generator, size: tuple[int, int] = (12, 8), patch: int = 4, prefix: int = 0, sample: str = "a.png"
) -> Arrays:
    image = random.integers(0, 255, (*size, 3), dtype=np.uint8)
    return {"image": image, "patch": np.array(patch), "id": np.array(sample), "prefix_tokens": np.array(prefix)}


def maps(random: np.random.Generator, images: int = 3, layers: int = 2, heads: int = 3, grid: int = 4) -> Arrays:
    """Queries at row 0, column 1 and at the last row, column 2; the last head of the last layer is the sharpest."""
    received = random.uniform(0.5, 1.5, (images, layers, heads, grid, grid))
    received[:, -1, -1, 0, 0] = 9
    return {
        "ids": np.array(IDS[:images]),
        "images": pictures(random, images, 6 * grid, 6 * grid),
        "received": received,
        "queries": np.array(["eye", "mouth"]),
        "boxes": np.array([[6, 0, 12, 6], [12, 6 * grid - 6, 18, 6 * grid]]),
        "looks": random.uniform(0.1, 5, (2, layers, heads, grid, grid)),
    }


def classified(random: np.random.Generator, images: int, size: int) -> Arrays:
    return {
        "ids": np.array(IDS[:images]),
        "images": pictures(random, images, size, size),
        "actual": np.array(["cat", "dog", "american_pit_bull_terrier"] * 2)[:images],
        "predicted": np.array(["cat", "bird", "staffordshire_bull_terrier"] * 2)[:images],
    }


def class_attention(
    random: np.random.Generator, images: int = 3, size: int = 32, heads: int = 2, prefix: int = 1
) -> Arrays:
    weights = random.uniform(0.01, 0.1, (images, heads, 4, 4))
    return classified(random, images, size) | {
        "probability": np.linspace(0.5, 0.9, images),
        "raw": weights.mean(axis=1),
        "resized": random.uniform(0, 1, (images, size, size)),
        "attended": random.uniform(0, 1, (images, size, size, 3)),
        "heads": weights * (16 + prefix),
        "rollout": random.uniform(0.5, 1.5, (images, 4, 4)),
        "query": np.array("class token" if prefix else "mean of all patches"),
    }


def per_class(
    random: np.random.Generator, classes: tuple[str, ...] = ("cat", "dog"), layers: int = 2, grid: int = 4
) -> Arrays:
    shape = len(classes), layers, grid, grid
    return {
        "classes": np.array(classes),
        "counts": np.arange(len(classes)) + 41,
        "median": random.uniform(0, 3, shape),
        "all_median": random.uniform(0, 3, shape[1:]),
        "difference": random.uniform(-0.4, 0.7, shape),
        "p": np.full(shape, 0.06),
        "images": random.uniform(0, 255, (len(classes), 8, 8, 3)),
        "query": np.array("class token"),
    }


def pixels(random: np.random.Generator, images: int = 3, size: int = 16) -> Arrays:
    scale = 10.0 ** -np.arange(images)[:, None, None]
    gradients = {name: random.exponential(size=(images, size, size)) * scale for name in ("gradient", "smooth")}
    return classified(random, images, size) | gradients


def methods(random: np.random.Generator, windows: bool = False) -> Arrays:
    arrays = classified(random, 2, 24) | {
        "methods": np.array(["raw", "local" if windows else "integrated"]),
        "maps": random.normal(0.5, 1, (2, 2, 4, 4)) * np.array([1, 1000])[:, None, None, None],
    }
    if not windows:
        return arrays
    del arrays["actual"], arrays["predicted"]
    return arrays | {"windows": np.array([[6, 0, 12, 6], [12, 18, 18, 24]]), "points": np.array(["eye", "centre"])}


def faithfulness(
    random: np.random.Generator,
    share: tuple[float, ...] = (0, 0.5, 1),
    controls: tuple[str, ...] = ("centre", "edge", "random"),
) -> Arrays:
    """raw is worse than a control, gradient not told apart, integrated better; all maps change with the weights."""
    count = 3 + len(controls)
    gains = np.array([[-0.1, -0.2, -0.05], [0.0, -0.1, 0.1], [0.2, 0.1, 0.3]])
    arrays = {
        "methods": np.array(["raw", "gradient", "integrated"]),
        "controls": np.array(controls),
        "steps": np.array(["head", "block 1"]),
        "share": np.array(share, dtype=float),
        "correlations": np.tile([[0.8, 0.7, 0.9], [0.1, 0, 0.2]], (3, 1, 1)),
        "images": np.array(7),
        "score": np.array("probability of the class; of the whole image"),
    }
    for name in ("deletion", "insertion"):
        arrays[name] = np.sort(random.random((count, 3, len(share))), axis=1)[:, [1, 0, 2]]
        arrays[f"{name}_area"] = np.sort(random.random((count, 3)), axis=1)[:, [1, 0, 2]]
        arrays[f"{name}_gain"] = arrays[f"{name}_over_random"] = gains
    return arrays


def distances(random: np.random.Generator, layers: int = 3, heads: int = 4) -> Arrays:
    trained, untrained = random.uniform(2, 30, (layers, heads)), random.uniform(20, 22, (layers, heads))
    return {"trained": trained, "untrained": untrained, "uniform": np.array(21.0)}


def place(
    random: np.random.Generator, layers: int = 2, heads: int = 3, grid: tuple[int, int] = (9, 9), reach: int = 3
) -> Arrays:
    """The queries lie at row 0, column 1 and at the last row, column 2; all of their attention is nearby."""
    side, of_heads = 2 * reach + 1, (layers, heads)
    boxes = np.array([[6, 0, 12, 6], [12, 6 * grid[0] - 6, 18, 6 * grid[0]]])
    looks, near = np.zeros((2, 2, layers, *grid)), random.dirichlet(np.ones(16), (2, 2, layers))
    looks[0, ..., :4, :4], looks[1, ..., -4:, :4] = near.reshape(2, 2, layers, 4, 4)  # attention and alone of a query
    return {
        "window": random.dirichlet(np.ones(side * side), of_heads).reshape(*of_heads, side, side),
        "centre": random.uniform(-1, 1, (*of_heads, 2)),
        "begun": random.integers(-1, 2, (*of_heads, 2)).astype(float),
        "width": np.where(np.arange(heads) == heads - 1, np.nan, random.uniform(1, 3, of_heads)),
        "content": random.uniform(0, 1, of_heads),
        "by_place": (np.arange(layers * heads) % 2.0).reshape(of_heads),
        "shown": np.arange(layers) % heads,
        "id": np.array("b.png"),
        "image": pictures(random, 6 * grid[0], 6 * grid[1]),
        "queries": np.array(["eye", "mouth"]),
        "boxes": boxes,
        "attention": looks[:, 0],
        "alone": looks[:, 1],
    }


def filters(random: np.random.Generator, count: int = 28, patch: int = 3, reach: int = 2) -> Arrays:
    side, arrays = patch + 2 * reach, {"patch": np.array(patch), "reach": np.array(reach)}
    for name in ("trained", "untrained"):
        arrays[name] = random.normal(size=(count, side, side, 3)).astype(np.float32)
        arrays[f"{name}_explained"] = np.sort(random.dirichlet(np.ones(count + 5))[:count])[::-1]
    return arrays


def positions(
    random: np.random.Generator, grid: tuple[int, int] = (3, 3), token: bool = True, fixed: bool = False
) -> Arrays:
    arrays = {"grid": np.array(grid)}
    for name in ("fixed",) if fixed else ("trained", "untrained"):
        cosine = np.corrcoef(random.normal(size=(grid[0] * grid[1] + 1, 8)))
        arrays[name] = cosine[1:, 1:]
        if token and not fixed:
            arrays[f"cls_token_{name}"] = cosine[0, 1:].reshape(grid)
    return arrays


MAKERS: tuple[Callable[..., Arrays], ...] = (
    curve, gallery, confusion, ranking, patches, maps, place, class_attention, per_class, pixels, methods,
    faithfulness, distances, filters, positions,
)  # fmt: skip


@pytest.fixture(scope="session")
def make() -> Callable[..., Arrays]:
    """Arrays of a kind of figure, with the same random numbers each time: `make("maps", layers=3)`."""
    makers = {maker.__name__: maker for maker in MAKERS}
    return lambda kind, **options: makers[kind](np.random.default_rng(0), **options)


@pytest.fixture(scope="session")
def axes_of() -> Callable[[Figure], dict[str, Any]]:
    """The axes of a figure by label."""
    return lambda figure: {axes.get_label(): axes for axes in figure.axes}


@pytest.fixture(scope="session")
def texts() -> Callable[[Figure], str]:
    """All texts outside the axes, one to a line."""
    return lambda figure: "\n".join(text.get_text() for text in figure.texts)


@pytest.fixture(scope="session")
def inside() -> Callable[[Figure], bool]:
    """Whether all texts outside the axes lie within the figure."""

    def all_inside(figure: Figure) -> bool:
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
        width, height = figure.get_size_inches() * figure.dpi
        return all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in boxes)

    return all_inside
