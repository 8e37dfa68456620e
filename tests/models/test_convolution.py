import pytest
import torch
from torch import nn

from vitpipe.models.convolution import Convolutions, MirroredConv2d, ResidualBlock, convolution, stem


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


def mirrored(x: torch.Tensor, run: int) -> torch.Tensor:
    """Columns reversed, and channels within each run."""
    return x.unflatten(1, (-1, run)).flip(2, -1).flatten(1, 2)


@pytest.mark.parametrize(("channels", "run_in"), [(3, 1), (8, None), (5, None), (12, 4)])
@pytest.mark.parametrize(("out", "run_out"), [(8, None), (7, None), (12, 2), (12, 1)])
def test_a_mirrored_input_gives_the_mirrored_output(channels, run_in, out, run_out):
    torch.manual_seed(0)
    layer = MirroredConv2d(channels, out, run_in=run_in, run_out=run_out)
    x = torch.randn(2, channels, 6, 5)
    found = layer(mirrored(x, run_in or channels))
    torch.testing.assert_close(found, mirrored(layer(x), run_out or out), rtol=0, atol=1e-5)
    assert not torch.allclose(found, layer(x), atol=0.01)


def test_weights_that_are_mirrored_already_are_taken_as_they_are():
    layer = MirroredConv2d(3, 2, run_in=1)
    nn.init.constant_(layer.bias, 0.5)
    layer.weight.data[1] = layer.weight.data[0].flip(-1)
    x = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias, padding=1))


def test_a_mirrored_stem_and_block_have_the_weights_of_plain_ones():
    plain, own = stem(3, 8, 1, 2, nn.ReLU), stem(3, 8, 1, 2, nn.ReLU, mirrored=True)
    assert {name: w.shape for name, w in own.named_parameters()} == {n: w.shape for n, w in plain.named_parameters()}
    x = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(own(x.flip(-1)), mirrored(own(x), 8), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("first", "blocks"), [(True, 0), (True, 3), (False, 3), (False, 0)])
def test_convolutions_compute_what_their_layers_would_one_by_one(first, blocks, mirrored, order, dtype):
    torch.manual_seed(0)
    layers = [convolution(4, 4, mirrored)] * first
    layers += [ResidualBlock(4, nn.GELU, 2, mirrored) for _ in range(blocks)]
    made = Convolutions(*layers).to(memory_format=order)
    x = torch.randn(2, 4, 6, 5).to(memory_format=order)
    results = []
    for run in (made, nn.Sequential(*layers)):
        given = x.clone().requires_grad_()
        made.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            out = run(given * 1)
        if blocks:
            assert out.dtype is dtype or not first
        out.float().square().sum().backward()
        results.append([out.float(), given.grad, *(weight.grad for weight in made.parameters())])
    tolerance = 1e-5 if dtype is torch.float32 else 0.05
    assert len(results[0]) == 2 + 2 * first + 4 * blocks
    for found, expected in zip(*results, strict=True):
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()
