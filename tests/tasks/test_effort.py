"""How many images explanations of large encoders take."""

import pytest

from vitpipe.models.vit import ViT
from vitpipe.tasks.base import Effort

EFFORT = Effort(curve_images=96, curve_points=16, randomised_images=24, head_images=512, local=False)


@pytest.mark.parametrize(
    ("shape", "images"),
    [
        ({"size": 48, "patch": 3, "dim": 160, "depth": 4, "heads": 5}, (96, 24, 512)),  # the default
        ({"size": 224, "patch": 16, "dim": 192, "depth": 12, "heads": 3}, (35, 9, 105)),  # ViT-Ti
        ({"size": 384, "patch": 32, "dim": 1024, "depth": 24, "heads": 16}, (4, 4, 4)),  # ViT-L/32
    ],
)
def test_large_encoders_are_explained_on_fewer_images(shape, images):
    spent = EFFORT.spent_on(ViT(channels=3, **shape))
    assert (spent.curve_images, spent.randomised_images, spent.head_images) == images
    assert spent.curve_points == 16
