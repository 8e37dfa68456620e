import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitpipe.metrics.grid import token_box
from vitpipe.models.patches import patchify, unpatchify

SIDES = st.integers(1, 5)


@given(batch=SIDES, channels=SIDES, patch=SIDES, rows=SIDES, columns=SIDES)
def test_unpatchify_is_the_exact_inverse(batch, channels, patch, rows, columns):
    images = torch.randn(batch, channels, rows * patch, columns * patch)
    tokens = patchify(images, patch)
    assert tokens.shape == (batch, rows * columns, channels * patch * patch)
    assert torch.equal(unpatchify(tokens.unflatten(1, (rows, columns)), patch), images)
    assert torch.equal(patchify(unpatchify(tokens.unflatten(1, (rows, columns)), patch), patch), tokens)


@given(patch=SIDES, rows=SIDES, columns=SIDES)
def test_a_token_holds_the_pixels_of_its_box_and_no_others(patch, rows, columns):
    """Contiguous squares, not every n-th pixel of the whole image."""
    images = torch.randn(2, 3, rows * patch, columns * patch)
    tokens = patchify(images, patch)
    for token in range(rows * columns):
        left, top, right, bottom = token_box(token, patch, columns)
        square = images[:, :, top:bottom, left:right]
        assert torch.equal(tokens[:, token].reshape(2, 3, patch, patch), square)


def test_patches_leave_channels_last_in_memory() -> None:
    """Sums of images that lie differently take several times as long: features, what was seen, and gradients."""
    last = torch.channels_last
    images = torch.randn(2, 3, 8, 12).to(memory_format=last).requires_grad_()
    tokens = patchify(images, 4)
    assert unpatchify(tokens.unflatten(1, (2, 3)), 4).is_contiguous(memory_format=last)
    (gradient,) = torch.autograd.grad(tokens, images, torch.randn_like(tokens))
    assert gradient.is_contiguous(memory_format=last)


def test_patch_that_does_not_divide():
    with pytest.raises(AssertionError, match="patch 5 must divide the image 12x10"):
        patchify(torch.zeros(1, 3, 12, 10), 5)
