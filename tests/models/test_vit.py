import math

import pytest
import torch

from vitpipe.models.vit import Encoder, resize_position, sincos_position
from vitpipe.models.patches import patchify, unpatchify


def encoder(**changes) -> Encoder:
    torch.manual_seed(0)
    shape = {"size": 12, "patch": 3, "channels": 3, "dim": 16, "depth": 2, "heads": 2, "mlp": 2.0, "position": "none"}
    return Encoder(**(shape | changes)).eval()


@pytest.mark.parametrize("patch", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("position", ["none", "learned", "sincos"])
def test_one_vector_per_patch(patch, position):
    out = encoder(patch=patch, position=position)(torch.randn(2, 3, 12, 12))
    assert out.shape == (2, (12 // patch) ** 2, 16)
    assert out.isfinite().all()


def permuted(images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return unpatchify(patchify(images, 3)[:, order], 3, 4)


def test_without_positions_shuffled_patches_give_shuffled_tokens():
    model, images, order = encoder(), torch.randn(2, 3, 12, 12), torch.randperm(16)
    torch.testing.assert_close(model(permuted(images, order)), model(images)[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", ["learned", "sincos"])
def test_with_positions_they_do_not(position):
    model, images, order = encoder(position=position), torch.randn(2, 3, 12, 12), torch.arange(16).flip(0)
    assert (model(permuted(images, order)) - model(images)[:, order]).abs().max() > 1e-3


def test_every_token_reaches_every_other():
    model, images = encoder(), torch.randn(1, 3, 12, 12, requires_grad=True)
    model(images)[0, 0].square().sum().backward()
    assert (patchify(images.grad, 3).abs().sum(-1) > 0).all()


def test_sincos_has_known_values():
    """dim 8: sin and cos of the row at frequencies 1 and 1/100, then the same of the column."""
    position = sincos_position(3, 8)
    assert position.shape == (9, 8)
    row, column = 2, 1
    expected = [f(p * w) for p in (row, column) for f in (math.sin, math.cos) for w in (1.0, 0.01)]
    torch.testing.assert_close(position[row * 3 + column], torch.tensor(expected))


def test_sincos_is_different_everywhere_and_not_learned():
    position = sincos_position(16, 32)
    assert torch.cdist(position, position).fill_diagonal_(1).min() > 0.1
    names = dict(encoder(position="sincos").named_parameters())
    assert "position" not in names
    assert "position" in dict(encoder(position="learned").named_parameters())
    assert encoder(position="sincos").state_dict().keys() == encoder().state_dict().keys()


def test_sincos_wants_a_multiple_of_four():
    with pytest.raises(AssertionError, match="dim 18 must be a multiple of 4"):
        sincos_position(3, 18)


def test_positions_stay_as_they_are_on_their_own_grid():
    position = torch.randn(16, 8)
    assert torch.equal(resize_position(position, 4), position)


def test_resized_positions_keep_their_place():
    """A ramp along the rows and one along the columns stay ramps, in the same direction."""
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    position = torch.stack([rows.flatten(), columns.flatten(), torch.full((36,), 7.0)], dim=1)
    resized = resize_position(position, 12).unflatten(0, (12, 12))
    assert torch.equal(resized[..., 2], torch.full((12, 12), 7.0))
    torch.testing.assert_close(resized[1:-1, :, 0].diff(dim=0), torch.full((9, 12), 0.5))
    torch.testing.assert_close(resized[:, 1:-1, 1].diff(dim=1), torch.full((12, 9), 0.5))
    assert resized[..., 0].diff(dim=1).abs().max() == 0


def entering(model: Encoder, images: torch.Tensor) -> torch.Tensor:
    """The tokens that the first block gets."""
    seen: list[torch.Tensor] = []
    handle = model.blocks[0].register_forward_pre_hook(lambda block, args: seen.append(args[0]))
    model(images)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("position", ["none", "learned", "sincos"])
def test_class_token_goes_before_the_patches(position):
    model, images = encoder(position=position, token=True), torch.randn(2, 3, 12, 12)
    places = torch.zeros(17, 16) if model.position is None else model.position
    tokens = entering(model, images)
    assert tokens.shape == model(images).shape == (2, 17, 16)
    assert torch.equal(tokens[:, 0], (model.token + places[0]).expand(2, 16))
    assert torch.equal(tokens[:, 1:], model.embed(patchify(images, 3)) + places[1:])


def test_class_token_has_no_fixed_position_and_the_patches_keep_theirs():
    position = encoder(position="sincos", token=True).position
    assert torch.equal(position[0], torch.zeros(16))
    assert torch.equal(position[1:], sincos_position(4, 16))


@pytest.mark.parametrize("grid", [4, 2, 7, 12])
def test_positions_are_resized_with_the_token_apart(grid):
    position = torch.randn(17, 8)
    resized = resize_position(position, grid, token=True)
    assert resized.shape == (1 + grid**2, 8)
    assert torch.equal(resized[0], position[0])
    assert torch.equal(resized[1:], resize_position(position[1:], grid))


def test_parts_that_are_left_out_have_no_weights():
    def names(**changes):
        return {name.split(".", 2)[-1] for name in encoder(depth=1, **changes).state_dict()}

    whole = names()
    assert whole - names(projection=False) == {"attention.project.weight", "attention.project.bias"}
    assert whole - names(bias=False) == {"attention.qkv.bias"}
    assert set(encoder().state_dict()) - set(encoder(norm=False).state_dict()) == {"norm.weight", "norm.bias"}
    assert set(encoder(token=True).state_dict()) - set(encoder().state_dict()) == {"token"}


def test_larger_images_than_trained_on():
    model = encoder(position="learned")
    assert model(torch.randn(1, 3, 24, 24)).shape == (1, 64, 16)
    assert encoder(position="learned", token=True)(torch.randn(1, 3, 24, 24)).shape == (1, 65, 16)


def test_patch_that_does_not_divide():
    with pytest.raises(AssertionError, match="patch 5 must divide the input size 12"):
        encoder(patch=5)
