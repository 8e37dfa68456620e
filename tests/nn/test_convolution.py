import pytest
import torch
from torch import nn

from vitpipe.nn.convolution import ResidualBlock, stem


@pytest.mark.parametrize("expansion", [1, 4])
def test_a_block_is_as_wide_inside_as_asked_and_adds_to_its_input(expansion):
    torch.manual_seed(0)
    block = ResidualBlock(8, nn.ReLU, expansion)
    assert block.layers[0].weight.shape == (8 * expansion, 8, 3, 3)
    assert block.layers[2].weight.shape == (8, 8 * expansion, 3, 3)
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x) - x, block.layers(x))
    nn.init.zeros_(block.layers[2].weight)
    nn.init.zeros_(block.layers[2].bias)
    assert torch.equal(block(x), x)


def test_a_stem_has_one_convolution_and_its_blocks():
    made = stem(3, 8, 2, 4)
    assert [type(layer) for layer in made] == [nn.Conv2d, ResidualBlock, ResidualBlock]
    assert all(block.layers[0].out_channels == 32 for block in made[1:])
    assert made(torch.randn(1, 3, 6, 6)).shape == (1, 8, 6, 6)
