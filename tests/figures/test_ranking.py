"""Every image of the ranking stands over its own id, classes, probability and loss."""

from itertools import pairwise

import numpy as np
import pytest

from vitpipe.figures.ranking import BANDS, nats, ranking
from vitpipe.figures.style import BLUE, ORANGE, enlarge, save


def groups(count: int, side: int, name: str = "class") -> dict[str, dict]:
    random = np.random.default_rng(0)
    return {
        band: {
            "images": random.integers(0, 256, (count, side, side, 3), dtype=np.uint8),
            "ids": [f"{band}{i}.png" for i in range(count)],
            "predicted": [f"{name} {i % 2}" for i in range(count)],
            "actual": [f"{name} 1"] * count,
            "probability": random.uniform(0.1, 1, count),
            "loss": np.sort(random.uniform(0.1, 9, count))[::-1],
        }
        for band in BANDS
    }


def panels(figure) -> dict:
    return {axes.get_label(): axes for axes in figure.axes}


def test_panels_hold_the_image_of_their_id():
    given = groups(3, 8)
    shown = panels(ranking(given))
    assert len(shown) == 9
    for band, name in BANDS.items():
        for i, sample in enumerate(given[band]["ids"]):
            drawn = shown[f"{name}: {sample}"].images[0].get_array()
            np.testing.assert_array_equal(drawn, enlarge(given[band]["images"][i], drawn.shape[0]))


def test_bands_are_rows_in_order():
    shown = panels(ranking(groups(3, 8)))
    places = {name: axes.get_position() for name, axes in shown.items()}
    assert len({places[f"highest loss: worst{i}.png"].y0 for i in range(3)}) == 1
    across = [places[f"highest loss: worst{i}.png"].x0 for i in range(3)]
    assert across == sorted(across)
    down = [places[name].y0 for name in ("highest loss: worst0.png", "lowest loss: best0.png", "random: random0.png")]
    assert down == sorted(down, reverse=True)


def test_texts_stand_under_their_own_image():
    given = groups(4, 8)
    figure = ranking(given)
    figure.canvas.draw()
    boxes = [(text, text.get_window_extent()) for text in figure.texts]
    for band, name in BANDS.items():
        group = given[band]
        for i, sample in enumerate(group["ids"]):
            panel = panels(figure)[f"{name}: {sample}"].get_window_extent()
            below = [text for text, box in boxes if abs(box.x0 - panel.x0) < 6 and panel.y0 - 110 < box.y1 < panel.y0]
            below.sort(key=lambda text: -text.get_position()[1])
            mark = "✓" if i % 2 else "✗"
            assert [text.get_text() for text in below] == [
                f"{mark} class {i % 2}",
                "real class 1",
                f"{100 * group['probability'][i]:.1f} %",
                f"loss {group['loss'][i]:.2f}",
                sample,
            ]
            assert below[0].get_color() == (BLUE if i % 2 else ORANGE)


def test_title_says_what_is_shown():
    texts = {text.get_text() for text in ranking(groups(4, 8)).texts}
    assert "Test images by loss: 4 with the highest, 4 with the lowest, 4 at random" in texts
    assert {"Highest loss", "Lowest loss", "Random"} <= texts


@pytest.mark.parametrize(("loss", "text"), [(4.126, "4.13"), (0.01, "0.01"), (3.24e-6, "3.2e-06"), (0, "0")])
def test_small_losses_keep_their_digits(loss, text):
    assert nats(loss) == text


@pytest.mark.parametrize(("count", "side"), [(1, 28), (10, 8), (10, 192)])
def test_panels_are_large_whole_pixels_and_texts_apart(count, side, tmp_path):
    figure = ranking(groups(count, side, "staffordshire bull terrier $x$ or american"))
    save(figure, tmp_path / "a.png")
    width, height = figure.get_size_inches() * figure.dpi
    for axes in figure.axes:
        box = axes.get_window_extent()
        assert 96 <= round(box.width) == round(box.height) <= 200
        if side < 96:
            assert round(box.width) % side == 0
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in boxes)
    lines: dict[int, list] = {}
    for text, box in zip(figure.texts, boxes, strict=True):
        lines.setdefault(round(text.get_position()[1] * height), []).append(box)
    for line in lines.values():
        line.sort(key=lambda box: box.x0)
        assert all(one.x1 < other.x0 for one, other in pairwise(line))
