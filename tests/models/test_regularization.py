"""Drop path, dropout and checkpointing do what they say, and nothing in evaluation mode."""

import pytest
import torch

from vitpipe.models.block import Drop


@pytest.mark.parametrize(("drop_path", "dropout"), [(0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_drop_keeps_the_mean_and_leaves_out_whole_images_or_values(drop_path, dropout):
    torch.manual_seed(0)
    drop, x = Drop(drop_path, dropout), torch.ones(4000, 8, 10)
    made = drop(x)
    assert made.mean() == pytest.approx(1, abs=0.03)
    assert made.max() == pytest.approx(1 / (1 - drop_path) / (1 - dropout))
    gone = (made == 0).flatten(1)
    assert gone.all(1).float().mean() == pytest.approx(drop_path, abs=0.03)
    assert gone[~gone.all(1)].float().mean() == pytest.approx(dropout, abs=0.01)
    assert drop.eval()(x) is x


def test_drop_path_rises_linearly_to_the_last_block(vit):
    model = vit(depth=4, drop_path=0.3)
    assert [getattr(block.drop, "drop_path", 0.0) for block in model.blocks] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_both_residual_branches_drop(vit):
    """With all branches dropped a block is the identity."""
    model = vit(drop_path=0.5).train()
    block, x = model.blocks[-1], torch.randn(64, 5, 16)
    torch.manual_seed(1)
    same = (block(x) == x).flatten(1).all(1).float().mean()
    assert same == pytest.approx(0.25, abs=0.15)
    assert not torch.equal(block(x), block(x))
    assert torch.equal(block.eval()(x), vit().blocks[-1](x))


def test_checkpointing_gives_equal_gradients_with_less_memory(vit):
    images, gradients, saved = torch.randn(4, 3, 12, 12), [], []
    for checkpointing in (False, True):
        model = vit(depth=6, drop_path=0.3, dropout=0.2, grad_checkpointing=checkpointing).train()
        kept = {}
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, kept=kept: (kept.update({tensor.data_ptr(): tensor.nbytes}), tensor)[1],
            lambda tensor: tensor,
        ):
            loss = model(images).patches.square().mean()
        loss.backward()
        gradients.append([weight.grad for weight in model.parameters()])
        saved.append(sum(kept.values()))
    assert all(torch.equal(plain, again) for plain, again in zip(*gradients, strict=True))
    inputs = 6 * 4 * 16 * 16 * 4  # bytes of what enters the blocks, which checkpointing keeps
    assert saved[1] + inputs < saved[0] / 3


@pytest.mark.parametrize(("training", "calls"), [(True, 4), (False, 2)])
def test_blocks_are_computed_again_in_training_alone(vit, training, calls):
    """Whatever looks into a model sees each block once."""
    model, seen = vit(grad_checkpointing=True).train(training), []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda *_: seen.append(1))
    model(torch.randn(1, 3, 12, 12)).patches.sum().backward()
    assert len(seen) == calls
