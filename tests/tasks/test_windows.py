"""What is asked about a super-sampler: the right window of the output, and how much of it is kept."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from vitpipe.tasks.supersample.windows import EPSILON, crop, detail, query_patches, window_questions

TOKENS = np.array([0, 3, 12, 15, 6])  # the corners, and row 1, column 2


@pytest.fixture
def asked(settings):
    """Questions about five images of 12x12 pixels in patches of 3, enlarged to 24x24."""
    names = np.array(["eye"] * len(TOKENS))
    return window_questions(torch.zeros(5, 3, 12, 12), (TOKENS, names), settings().model.patch, settings().data.scale)


def outputs(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 3, 24, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_score_is_the_detail_of_the_patchs_place_in_the_output(asked):
    output = outputs()
    padded = F.pad(output, (0, 1, 0, 1), mode="replicate")
    found = asked.output_score(output)
    for i, token in enumerate(TOKENS):
        y, x = 6 * (token // 4), 6 * (token % 4)
        torch.testing.assert_close(found[i], detail(padded[i : i + 1, :, y : y + 7, x : x + 7])[0])
    assert asked.shown["windows"].tolist() == [
        [0, 0, 6, 6],
        [18, 0, 24, 6],
        [0, 18, 6, 24],
        [18, 18, 24, 24],
        [12, 6, 18, 12],
    ]
    assert asked.tokens is not None
    assert asked.tokens.tolist() == TOKENS.tolist()


def test_windows_are_explained_as_the_protocol_says(asked):
    """By all layers, patches deleted into a blur, with local attribution in place of paths from the mean colour."""
    assert (asked.every_layer, asked.fill, asked.samples, asked.steps) == (True, "blur", 10, 12)
    assert asked.methods == ("raw", "rollout", "relevance", "gradient", "smooth", "local")


def test_what_is_kept_is_one_without_change_and_zero_where_the_window_is_gone(asked):
    whole, blank = outputs(), torch.zeros(5, 3, 24, 24)
    of = torch.tensor([4, 0, 4, 2])
    made = whole[of].clone()
    made[0] = 0
    made[1] /= 2
    made[2, :, :, :12] = 9  # outside the window of image 4
    made[3] *= -1  # further off than a blank image
    torch.testing.assert_close(asked.kept(made, of, whole, blank), torch.tensor([0, 0.5, 1, 0]))


def test_patches_that_ask_lie_at_the_eye_or_in_the_centre(settings):
    images = torch.zeros(3, 3, 12, 12)
    samples = pd.DataFrame({"lefteye_x": [13.0, 99, np.nan], "lefteye_y": [7.0, 99, 1], "leftmouth_x": 1.0})
    samples = samples.assign(
        **dict.fromkeys(["leftmouth_y", "rightmouth_x", "rightmouth_y"], 1.0), landmarks="annotated"
    )
    tokens, names = query_patches(images, settings().model.patch, settings(), samples)
    assert tokens.tolist() == [6, 15, 10]
    assert names.tolist() == ["eye", "eye", "centre"]
    tokens, names = query_patches(images, settings().model.patch, settings(), None)
    assert (tokens.tolist(), names.tolist()) == ([10] * 3, ["centre"] * 3)


def test_detail_of_a_ramp():
    """Every pixel is 0.2 more than its left neighbour and 0.1 more than that above it."""
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    ramp = (0.2 * x + 0.1 * y).expand(2, 3, 5, 5)
    expected = 3 * 16 * (0.05 + EPSILON) ** 0.5
    torch.testing.assert_close(detail(ramp), torch.full((2,), expected))


def test_crop_takes_columns_by_x_and_rows_by_y():
    image = torch.arange(20.0).reshape(1, 1, 4, 5)
    assert crop(image, torch.tensor([[2, 1]]), 2).tolist() == [[[[7, 8], [12, 13]]]]
