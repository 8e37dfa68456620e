"""Every image of the ranking stands over its own id, classes, probability and loss."""

from itertools import pairwise

import numpy as np
import pytest

from vitpipe.figures.ranking import BANDS, nats, ranking
from vitpipe.figures.style import BLUE, ORANGE


def test_texts_stand_under_their_own_image(make, axes_of, texts):
    arrays = make("ranking")
    figure = ranking(arrays)
    figure.canvas.draw()
    axes, boxes = axes_of(figure), [(text, text.get_window_extent()) for text in figure.texts]
    assert len(axes) == 12
    for band, name in BANDS.items():
        for i, sample in enumerate(arrays[f"{band}_ids"]):
            np.testing.assert_array_equal(axes[f"{name}: {sample}"].images[0].get_array(), arrays[f"{band}_images"][i])
            panel = axes[f"{name}: {sample}"].get_window_extent()
            below = [text for text, box in boxes if abs(box.x0 - panel.x0) < 6 and panel.y0 - 110 < box.y1 < panel.y0]
            below.sort(key=lambda text: -text.get_position()[1])
            assert [text.get_text() for text in below] == [
                f"{'✓' if i % 2 else '✗'} class {i % 2}",
                "real class 1",
                f"{100 * arrays[f'{band}_probability'][i]:.1f} %",
                f"loss {arrays[f'{band}_loss'][i]:.2f}",
                sample,
            ]
            assert below[0].get_color() == (BLUE if i % 2 else ORANGE)
    places = {name: box.get_position() for name, box in axes.items()}
    across = [places[f"highest loss: worst{i}.png"] for i in range(4)]
    assert len({place.y0 for place in across}) == 1
    assert [place.x0 for place in across] == sorted(place.x0 for place in across)
    down = [places[name].y0 for name in ("highest loss: worst0.png", "lowest loss: best0.png", "random: random0.png")]
    assert down == sorted(down, reverse=True)
    title = "Test images by loss: 4 with the highest, 4 with the lowest, 4 at random"
    assert {title, "Highest loss", "Lowest loss", "Random"} <= set(texts(figure).split("\n"))


@pytest.mark.parametrize(("loss", "text"), [(4.126, "4.13"), (0.01, "0.01"), (3.24e-6, "3.2e-06"), (0, "0")])
def test_small_losses_keep_their_digits(loss, text):
    assert nats(loss) == text


@pytest.mark.parametrize(("count", "side"), [(1, 28), (10, 8), (10, 192)])
def test_panels_are_large_whole_pixels_and_texts_apart(make, inside, count, side):
    name = "staffordshire bull terrier $x$ or american"
    figure = ranking(make("ranking", count=count, side=side, name=name))
    assert inside(figure)
    for axes in figure.axes:
        box = axes.get_window_extent()
        assert 96 <= round(box.width) == round(box.height) <= 200
        if side < 96:
            assert round(box.width) % side == 0
    lines: dict[float, list] = {}
    for text in figure.texts:
        lines.setdefault(round(text.get_position()[1], 6), []).append(text.get_window_extent())
    for line in lines.values():
        line.sort(key=lambda box: box.x0)
        assert all(one.x1 < other.x0 for one, other in pairwise(line))
