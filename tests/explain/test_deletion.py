"""Deletion and insertion on models that read known patches."""

import numpy as np
import pytest
import torch
from torch import nn

from vitpipe.explain import deletion
from vitpipe.explain.deletion import Deletion
from vitpipe.metrics.faithfulness import ranks
from vitpipe.models.vit import ViT
from vitpipe.tasks.base import Questions

ROWS, COLUMNS = 4, 5
N = ROWS * COLUMNS


class Seen(nn.Module):
    """Its output is its input."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ViT(size=(12, 15), patch=3, channels=3, dim=4, depth=1, heads=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


@pytest.fixture
def planted(images):
    """Deletion with a score that is the share of the used patches which are as they were."""

    def make(used: list[list[int]], **options) -> Deletion:
        batch = images(len(used), 15)[..., :12, :]
        spots = np.zeros((len(batch), N), bool)
        for row, patches in enumerate(used):
            spots[row, patches] = True

        def kept(output, of, whole, blank):
            same = ((output == whole[of]) & where[of]).sum((1, 2, 3))
            return same / (3 * where[of].sum((1, 2, 3)))

        made = Deletion(Seen(), batch, Questions(lambda output: output.sum((1, 2, 3)), kept, (), **options))
        where = made.on_pixels(spots)
        return made

    return make


def curves(made: Deletion, maps: list[np.ndarray], at: np.ndarray) -> dict[str, np.ndarray]:
    return made.curves(np.stack([ranks(values, made.fixed, 0) for values in maps]), at)


def truth(used: list[list[int]]) -> np.ndarray:
    maps = np.zeros((len(used), N))
    for row, patches in enumerate(used):
        maps[row, patches] = 1
    return maps.reshape(-1, ROWS, COLUMNS)


def test_curves_of_a_map_that_knows_and_of_one_that_errs(planted, monkeypatch):
    """Two patches count in each image: deleted first, the score falls by a half each; last, it stays to the end."""
    used = [[5, 6], [0, 19], [3, 9]]
    right = truth(used)
    monkeypatch.setattr(deletion, "PIXELS_AT_ONCE", 7 * 12 * 15)  # batches end within images and orders
    found = curves(planted(used), [right, -right], np.arange(N + 1))
    falls = np.array([1, 0.5] + (N - 1) * [0])
    for name, curve in (("deletion", falls), ("insertion", 1 - falls)):
        for row in range(3):
            np.testing.assert_allclose(found[name][0, row], curve)
            np.testing.assert_allclose(found[name][1, row], (1 - curve)[::-1])


def test_patches_that_are_asked_about_are_never_deleted_and_always_there(planted):
    made = planted([[5], [5], [5]], tokens=torch.full((3,), 5))
    assert made.fixed.nonzero()[1].tolist() == [5, 5, 5]
    found = curves(made, [np.ones((3, ROWS, COLUMNS))], np.arange(N))
    assert (found["deletion"] == 1).all()
    assert (found["insertion"] == 1).all()
    covered = made.on_pixels(made.fixed)
    torch.testing.assert_close(made.whole, made.images)
    torch.testing.assert_close(made.blank, torch.where(covered, made.images, made.deleted))


def test_controls_are_by_distance(planted):
    made = planted([[5], [6]], tokens=torch.tensor([7, 19]))
    found = made.controls()
    assert set(found) == {"centre", "edge", "near"}
    assert found["near"].reshape(2, N).argmax(1).tolist() == [7, 19]
    np.testing.assert_array_equal(found["edge"], -found["centre"])
    assert found["centre"][0].max() == found["centre"][0, 1, 2] == found["centre"][0, 2, 2]
    assert set(planted([[5]]).controls()) == {"centre", "edge"}


def test_masks_cover_the_pixels_of_their_patch(planted):
    chosen = np.zeros((1, N), bool)
    chosen[0, 7] = True  # row 1, column 2
    mask = planted([[0]]).on_pixels(chosen)[0, 0]
    assert mask.sum() == 9
    assert mask[3:6, 6:9].all()


def test_deleted_patches_become_the_mean_colour_or_a_blur(planted):
    mean, blur = planted([[0]] * 3), planted([[0]] * 3, fill="blur")
    colour = mean.images.mean((2, 3), keepdim=True)
    assert colour.abs().max() > 0.03  # grey is another colour
    torch.testing.assert_close(mean.deleted, colour.expand_as(mean.images))
    assert torch.equal(blur.deleted, blur.blurred)
    assert blur.deleted.var((2, 3)).max() < 0.1 * blur.images.var((2, 3)).min()
    torch.testing.assert_close(blur.deleted.mean((2, 3)), blur.images.mean((2, 3)), atol=0.1, rtol=0)
