import numpy as np
import pytest
import torch
from PIL import Image

from vitpipe.models.consistency import Consistency, reduction


@pytest.mark.parametrize(("size", "scale"), [(12, 2), (12, 3), (48, 4), (7, 5)])
def test_the_reduction_is_pillows(size, scale):
    image = np.random.default_rng(0).normal(size=(size * scale, size * scale)).astype(np.float32)
    theirs = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    matrix = reduction(size, scale).numpy()
    assert np.abs(matrix @ image @ matrix.T - theirs).max() < 1e-5


@pytest.mark.parametrize(("size", "scale"), [(12, 2), (12, 3), (48, 4), (7, 5)])
def test_it_gives_the_nearest_image_that_agrees(size, scale):
    """The reduced image is the LR image; and what was added is orthogonal to all that reduces to nothing."""
    torch.manual_seed(0)
    side = size * scale
    consistency = Consistency(size, scale)
    image, lr, other = torch.randn(2, 3, side, side), torch.randn(2, 3, size, size), torch.randn(2, 3, side, side)
    found = consistency(image, lr)
    reduce = reduction(size, scale).float()
    torch.testing.assert_close(reduce @ found @ reduce.mT, lr, rtol=0, atol=1e-5)
    lost = consistency(other, torch.zeros_like(lr))  # its reduction is black
    product = ((found - image).double() * lost.double()).sum()
    assert abs(product) < 1e-5 * (found - image).norm() * lost.norm()


def test_an_image_that_agrees_stays():
    torch.manual_seed(0)
    image = torch.randn(1, 3, 24, 24)
    reduce = reduction(12, 2).float()
    torch.testing.assert_close(Consistency(12, 2)(image, reduce @ image @ reduce.mT), image, rtol=0, atol=1e-5)


def test_float64_stays_float64():
    torch.manual_seed(0)
    image, lr = torch.randn(1, 3, 24, 24), torch.randn(1, 3, 12, 12)
    found = Consistency(12, 2)(image.double(), lr.double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), Consistency(12, 2)(image, lr), rtol=0, atol=1e-5)


def test_another_size_is_told():
    with pytest.raises(AssertionError, match=r"LR images must have 12x12 pixels, not \(6, 6\)"):
        Consistency(12, 2)(torch.zeros(1, 3, 12, 12), torch.zeros(1, 3, 6, 6))


def test_it_is_as_precise_in_mixed_precision_and_has_no_weights():
    torch.manual_seed(0)
    consistency = Consistency(12, 2)
    image, lr = torch.randn(1, 3, 24, 24), torch.randn(1, 3, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        found = consistency(image, lr)
    assert torch.equal(found, consistency(image, lr))
    assert found.dtype == torch.float32
    assert not consistency.state_dict()
    assert not list(consistency.parameters())


def test_gradients_pass_through():
    torch.manual_seed(0)
    image, lr = torch.randn(1, 1, 6, 6).double().requires_grad_(), torch.randn(1, 1, 3, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(Consistency(3, 2), (image, lr))
