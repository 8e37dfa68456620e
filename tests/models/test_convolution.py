import pytest
import torch
from torch import nn

from vitpipe.models.convolution import ResidualBlock


@pytest.mark.parametrize("expansion", [1, 4])
def test_a_block_adds_two_convolutions_to_its_input(expansion):
    torch.manual_seed(0)
    block = ResidualBlock(8, expansion, nn.ReLU)
    assert block.layers[0].weight.shape == (8 * expansion, 8, 3, 3)
    assert block.layers[2].weight.shape == (8, 8 * expansion, 3, 3)
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x) - x, block.layers[2](block.layers[0](x).clamp(min=0)))
    nn.init.zeros_(block.layers[2].weight)
    nn.init.zeros_(block.layers[2].bias)
    assert torch.equal(block(x), x)


def test_stem_and_tail_have_the_blocks_of_the_settings_and_hooks_on_them_fire(supersampler, classifier):
    net = supersampler(conv_blocks=2, conv_expansion=4)
    assert [type(layer) for layer in net.stem] == [nn.Conv2d, ResidualBlock, ResidualBlock]
    assert [type(layer) for layer in net.tail] == [ResidualBlock, ResidualBlock]
    assert all(block.layers[0].out_channels == 32 for block in [*net.stem[1:], *net.tail])
    called: list[nn.Module] = []
    for module in net.modules():
        module.register_forward_hook(lambda module, args, out: called.append(module))
    net(torch.randn(1, 3, 12, 12))
    assert set(called) == set(net.modules()) - {net.encoder.blocks}
    assert [type(layer) for layer in classifier(conv_blocks=2).stem] == [nn.Conv2d, ResidualBlock, ResidualBlock]
