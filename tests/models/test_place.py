"""Attention by place is a Gaussian window about an offset of each head, whatever the grid."""

import pytest
import torch

from vitpipe.models.attention import attention_weights
from vitpipe.models.place import Place


def moved(heads: int = 3) -> Place:
    """With centres between patches and sharpness of either sign."""
    torch.manual_seed(0)
    place = Place(heads)
    place.centre.data, place.sharpness.data = torch.randn(heads, 2) * 2, torch.randn(heads)
    return place


@pytest.mark.parametrize("grid", [(4, 4), (1, 5), (3, 2)])
@pytest.mark.parametrize("prefix", [0, 2])
def test_logits_fall_with_the_squared_distance_to_the_centre(grid, prefix):
    place = moved()
    logits = place(grid, prefix)
    rows, columns = grid
    assert logits.shape == (3, prefix + rows * columns, prefix + rows * columns)
    for head in range(3):
        (down, right), sharpness = place.centre[head].tolist(), float(place.sharpness[head])
        for query in range(rows * columns):
            for key in range(rows * columns):
                y, x = key // columns - query // columns, key % columns - query % columns
                expected = -sharpness / 2 * ((y - down) ** 2 + (x - right) ** 2)
                assert float(logits[head, prefix + query, prefix + key]) == pytest.approx(expected, abs=1e-4)
    assert not logits[:, :prefix].any()
    assert not logits[:, :, :prefix].any()
    logits.sum().backward()
    assert place.centre.grad.all()
    assert place.sharpness.grad.all()


def test_heads_begin_at_the_patch_and_its_neighbours_and_repeat_them():
    def most(heads: int) -> list[tuple[int, int]]:
        """The offset, rows and columns, at which the patch in the middle of 5x5 looks most with each head."""
        weights = attention_weights(torch.zeros(heads, 25, 1), torch.zeros(heads, 25, 1), Place(heads)((5, 5)))
        peaks = weights[:, 12].argmax(-1).tolist()
        return [(peak // 5 - 2, peak % 5 - 2) for peak in peaks]

    nine = most(9)
    assert set(nine) == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert nine[0] == (0, 0)
    assert {abs(y) + abs(x) for y, x in nine[1:5]} == {1}
    assert most(4) == nine[:4]
    assert most(21) == [*nine, *nine, *nine[:3]]
