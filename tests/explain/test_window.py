"""A window is the same as cut out of the whole output, and its place is checked."""

import pytest
import torch
import torch.nn.functional as F

from vitpipe.errors import InputError
from vitpipe.explain.window import Window, crop
from vitpipe.models.supersampler import SuperSampler


def supersampler(size: int = 24, scale: int = 2) -> SuperSampler:
    torch.manual_seed(0)
    shape = {"size": size, "scale": scale, "patch": 3, "dim": 16, "depth": 2, "heads": 2, "mlp": 2.0}
    net = SuperSampler(**shape, position="learned", skip="bicubic", width=8, blocks=1, consistent=True).eval()
    torch.nn.init.normal_(net.last.weight, std=0.1)
    return net


@pytest.mark.parametrize(
    ("size", "scale"),
    [(24, 2), (24, 3), (27, 4), (6, 2)],
)
def test_a_window_is_the_part_of_the_whole_output(size, scale):
    net = supersampler(size, scale)
    last = size - 3
    corners = torch.tensor([[0, 0], [last, 0], [0, last], [last, last], [last // 2, last // 3]])
    images = torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        whole = F.pad(net(images), (0, 1, 0, 1), mode="replicate")
        found = Window(net, corners, 3)(images)
    assert found.shape == (5, 3, 3 * scale + 1, 3 * scale + 1)
    for i, (x, y) in enumerate((corners * scale).tolist()):
        expected = whole[i, :, y : y + 3 * scale + 1, x : x + 3 * scale + 1]
        assert torch.equal(found[i], expected)


def test_windows_repeat_for_more_images():
    net, corners = supersampler(), torch.tensor([[0, 3], [9, 6]])
    images = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    window = Window(net, corners, 3)
    with torch.inference_mode():
        torch.testing.assert_close(window(images)[2:], window(images[2:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("corner", [(22, 0), (0, -1)])
def test_a_window_outside_the_image(corner):
    with pytest.raises(InputError, match=r"3x3 pixels with its corner at \(.*outside the image of 24x24.* 0 to 21"):
        Window(supersampler(), torch.tensor([(0, 0), corner]), 3)


def test_crop_takes_columns_by_x_and_rows_by_y():
    image = torch.arange(20.0).reshape(1, 1, 4, 5)
    assert crop(image, torch.tensor([[2, 1]]), 2).tolist() == [[[[7, 8], [12, 13]]]]
