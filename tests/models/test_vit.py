import math

import pytest
import torch

from vitpipe.models.patches import patchify, unpatchify
from vitpipe.models.position import resize_pos_embed, sincos_position
from vitpipe.models.vit import ViT


@pytest.mark.parametrize("patch", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("position", ["none", "learned", "sincos"])
def test_one_vector_for_each_patch(vit, patch, position):
    features = vit(patch=patch, position=position)(torch.randn(2, 3, 12, 12))
    assert features.patches.shape == (2, 12 // patch, 12 // patch, 16)
    assert features.prefix.shape == (2, 0, 16)
    assert features.patches.isfinite().all()


@pytest.mark.parametrize("size", [(24, 12), (9, 15), (24, 24)])
@pytest.mark.parametrize("position", ["none", "learned", "sincos"])
@pytest.mark.parametrize(("class_token", "registers"), [(False, 0), (True, 0), (True, 3), (False, 2)])
def test_any_height_and_width_that_the_patch_divides(vit, size, position, class_token, registers):
    model = vit(position=position, class_token=class_token, registers=registers)
    features = model(torch.randn(2, 3, *size))
    assert features.patches.shape == (2, size[0] // 3, size[1] // 3, 16)
    assert features.prefix.shape == (2, class_token + registers, 16)
    assert len(model.prefix_names) == model.num_prefix_tokens == class_token + registers
    assert model.prefix_names[:1] == (("class token",) if class_token else ("register 1",) if registers else ())


def test_an_encoder_of_oblong_images(vit):
    model = vit(size=(12, 18), position="sincos")
    assert model.grid == (4, 6)
    assert torch.equal(model.pos_embed[0], sincos_position(4, 6, 16))


def permuted(images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return unpatchify(patchify(images, 3)[:, order].unflatten(1, (4, 4)), 3)


def tokens(model: ViT, images: torch.Tensor) -> torch.Tensor:
    return model(images).patches.flatten(1, 2)


def test_without_positions_shuffled_patches_give_shuffled_tokens(vit):
    model, images, order = vit(position="none"), torch.randn(2, 3, 12, 12), torch.randperm(16)
    found = tokens(model, permuted(images, order))
    torch.testing.assert_close(found, tokens(model, images)[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", ["learned", "sincos"])
def test_with_positions_they_do_not(vit, position):
    model, images, order = vit(position=position), torch.randn(2, 3, 12, 12), torch.arange(16).flip(0)
    assert (tokens(model, permuted(images, order)) - tokens(model, images)[:, order]).abs().max() > 1e-3


@pytest.mark.parametrize("of_prefix", [False, True])
def test_every_token_reaches_every_other(vit, of_prefix):
    model, images = vit(class_token=True, registers=1), torch.randn(1, 3, 12, 12, requires_grad=True)
    features = model(images)
    (features.prefix[0, 1] if of_prefix else features.patches[0, 0, 0]).square().sum().backward()
    assert (patchify(images.grad, 3).abs().sum(-1) > 0).all()


def entering(model: ViT, images: torch.Tensor) -> torch.Tensor:
    """The tokens that the first block gets."""
    seen: list[torch.Tensor] = []
    handle = model.blocks[0].register_forward_pre_hook(lambda block, args: seen.append(args[0]))
    model(images)
    handle.remove()
    return seen[0]


def test_features_are_the_tokens_after_the_last_norm_in_their_order(vit):
    model, last = vit(class_token=True, registers=2), []
    model.norm.register_forward_hook(lambda module, args, out: last.append(out))
    features = model(torch.randn(2, 3, 12, 12))
    assert torch.equal(torch.cat([features.prefix, features.patches.flatten(1, 2)], dim=1), last[0])


@pytest.mark.parametrize("position", ["none", "learned", "sincos"])
def test_class_token_and_registers_precede_the_patches(vit, position):
    model, images = vit(position=position, class_token=True, registers=2), torch.randn(2, 3, 12, 12)
    places = torch.zeros(19, 16) if model.pos_embed is None else model.pos_embed[0]
    found = entering(model, images)
    assert found.shape == (2, 19, 16)
    assert torch.equal(found[:, 0], (model.cls_token[0, 0] + places[0]).expand(2, 16))
    assert torch.equal(found[:, 1:3], (model.reg_token[0] + places[1:3]).expand(2, 2, 16))
    assert torch.equal(found[:, 3:], model.patch_embed(patchify(images, 3)) + places[3:])


def test_sincos_has_known_values():
    """dim 8: sin and cos of the row at frequencies 1 and 1/100, then the same of the column."""
    position = sincos_position(3, 4, 8)
    assert position.shape == (12, 8)
    row, column = 2, 1
    expected = [f(p * w) for p in (row, column) for f in (math.sin, math.cos) for w in (1.0, 0.01)]
    torch.testing.assert_close(position[row * 4 + column], torch.tensor(expected))


def test_sincos_is_different_everywhere_fixed_and_zero_for_prefix_tokens(vit):
    position = sincos_position(16, 16, 32)
    assert torch.cdist(position, position).fill_diagonal_(1).min() > 0.1
    model = vit(position="sincos", class_token=True)
    assert "pos_embed" not in dict(model.named_parameters())
    assert model.state_dict().keys() == vit(position="none", class_token=True).state_dict().keys()
    assert torch.equal(model.pos_embed[0], torch.cat([torch.zeros(1, 16), sincos_position(4, 4, 16)]))


def test_sincos_needs_a_multiple_of_four():
    with pytest.raises(AssertionError, match="dim 18 must be a multiple of 4"):
        sincos_position(3, 3, 18)


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_position_embeddings_are_resized_with_prefix_tokens_left_as_they_are(prefix):
    """A ramp along the rows and one along the columns stay ramps, in the same direction."""
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(4.0), indexing="ij")
    grid = torch.stack([rows.flatten(), columns.flatten(), torch.full((24,), 7.0)], dim=1)
    position = torch.cat([torch.randn(prefix, 3), grid])[None]
    assert torch.equal(resize_pos_embed(position, (6, 4), (6, 4), prefix), position)
    found = resize_pos_embed(position, (6, 4), (12, 8), prefix)[0]
    assert torch.equal(found[:prefix], position[0, :prefix])
    resized = found[prefix:].unflatten(0, (12, 8))
    assert torch.equal(resized[..., 2], torch.full((12, 8), 7.0))
    torch.testing.assert_close(resized[1:-1, :, 0].diff(dim=0), torch.full((9, 8), 0.5))
    torch.testing.assert_close(resized[:, 1:-1, 1].diff(dim=1), torch.full((12, 5), 0.5))
    assert resized[..., 0].diff(dim=1).abs().max() == 0


def test_parts_that_are_left_out_have_no_weights(vit):
    def names(**changes):
        return set(vit(depth=1, **changes).state_dict())

    whole = names()
    assert whole - names(proj=False) == {"blocks.0.attn.proj.weight", "blocks.0.attn.proj.bias"}
    assert whole - names(qkv_bias=False) == {"blocks.0.attn.qkv.bias"}
    assert whole - names(final_norm=False) == {"norm.weight", "norm.bias"}
    assert names(class_token=True) - whole == {"cls_token"}
    assert names(registers=2) - whole == {"reg_token"}
    terms = {"blocks.0.place.centre", "blocks.0.place.sharpness"}
    kinds = {"softmax": terms, "place": terms, "uniform": set(), "none": set()}
    for attention, more in kinds.items():
        assert names(attention=attention, place=True) - whole == more
        assert names(attention=attention) == whole


@pytest.mark.parametrize("size", [(12, 12), (9, 15)])
@pytest.mark.parametrize(("class_token", "registers"), [(False, 0), (True, 2)])
def test_blocks_look_by_place_on_the_grid_of_the_image(vit, size, class_token, registers):
    """The place term is added to the logits of queries and keys, with prefix tokens before the patches."""
    model = vit(place=True, class_token=class_token, registers=registers)
    seen: list[torch.Tensor] = []
    model.blocks[1].attn.register_forward_pre_hook(lambda m, args, kw: seen.append(kw["mask"]), with_kwargs=True)
    images = torch.randn(1, 3, *size)
    before = tokens(model, images)
    assert torch.equal(seen[0], model.blocks[1].place((size[0] // 3, size[1] // 3), class_token + registers))
    for block in model.blocks:
        block.place.sharpness.data.zero_()
    plain = vit(class_token=class_token, registers=registers)
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "place" not in name})
    torch.testing.assert_close(tokens(model, images), tokens(plain, images))
    assert (tokens(model, images) - before).abs().max() > 1e-3


def test_without_blocks_each_token_is_its_embedding(vit):
    model, images = vit(depth=0), torch.randn(2, 3, 12, 12)
    expected = model.norm(model.patch_embed(patchify(images, 3)) + model.pos_embed)
    assert torch.equal(tokens(model, images), expected)


def test_patch_that_does_not_divide(vit):
    with pytest.raises(AssertionError, match="patch 5 must divide the input size 12x12"):
        vit(patch=5)
    with pytest.raises(AssertionError, match="patch 3 must divide the image 12x10"):
        vit()(torch.zeros(1, 3, 12, 10))
