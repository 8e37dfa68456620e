"""Random changes of training images: each image by itself, together with its target."""

import numpy as np
import pytest
import torch
from PIL import Image

from vitpipe.data.augment import augment, mix, shift
from vitpipe.sources.images import resize


def noise(count: int = 8, size: int = 12) -> torch.Tensor:
    """Images without black, the colour that a shift fills in."""
    return torch.randint(1, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def shift_of(image: torch.Tensor, moved: torch.Tensor, most: int) -> tuple[int, int] | None:
    """The shift (down, right) of at most `most` pixels that makes `moved` of `image`, if there is one."""
    size = image.shape[-1]
    padded = torch.nn.functional.pad(image, [most] * 4)
    for down in range(-most, most + 1):
        for right in range(-most, most + 1):
            top, left = most - down, most - right
            if torch.equal(padded[:, top : top + size, left : left + size], moved):
                return down, right
    return None


@pytest.mark.parametrize(("crop", "randaugment"), [(2, 0), (0, 2), (2, 1), (11, 0)])
def test_uint8_of_the_same_shape_and_the_argument_is_left_alone(crop, randaugment):
    images = noise()
    before = images.clone()
    made = augment(images, crop=crop, randaugment=randaugment)
    assert (made.shape, made.dtype) == (images.shape, torch.uint8)
    assert not torch.equal(made, images)
    assert torch.equal(images, before)


def test_off_is_the_very_same_tensor():
    images = noise()
    assert augment(images, crop=0, randaugment=0) is images


def test_each_image_is_shifted_by_itself_as_far_as_is_set_and_no_further():
    torch.manual_seed(0)
    images = noise(300)
    found = [shift_of(*pair, 2) for pair in zip(images, augment(images, crop=2, randaugment=0), strict=True)]
    assert set(found) == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_randaugment_draws_for_each_image():
    torch.manual_seed(0)
    made = augment(noise(1).expand(16, -1, -1, -1), crop=0, randaugment=2)
    assert len({image.numpy().tobytes() for image in made}) > 8


@pytest.mark.parametrize(
    "change",
    [
        lambda: augment(noise(), crop=2, randaugment=0),
        lambda: augment(noise(), crop=0, randaugment=2),
        lambda: mix(*one_hot(), 3, "mixup")[1],
    ],
    ids=["crop", "randaugment", "mix"],
)
def test_changes_depend_on_torchs_generator(change):
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(change())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def mirrored_move(image: np.ndarray, most: int, down: int, right: int) -> np.ndarray:
    """By numpy: (h, w, 3) moved down and to the right, mirrored at its borders."""
    padded = np.pad(image, [(most, most), (most, most), (0, 0)], mode="reflect")
    top, left = most - down, most - right
    return padded[top : top + len(image), left : left + len(image)]


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_shifted_pair_is_a_mirrored_move_of_whole_hr_pixels(channels_last):
    hr = noise(6).contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    before = hr.clone()
    moves = [(0, 0), (1, -2), (-3, 0), (0, 4), (11, -11), (2, 2)]
    lr, moved = shift(hr, torch.tensor(moves), scale=2)
    assert torch.equal(hr, before)
    assert (lr.shape, lr.dtype) == ((6, 3, 6, 6), torch.uint8)
    assert (moved.shape, moved.dtype) == (hr.shape, torch.uint8)
    for image, own, move in zip(*(images.permute(0, 2, 3, 1).numpy() for images in (hr, moved)), moves, strict=True):
        np.testing.assert_array_equal(mirrored_move(image, 11, *move), own)


@pytest.mark.parametrize("size", [24, 192])
def test_a_shifted_image_is_reduced_as_the_downsample_stage_does(size):
    lr, hr = shift(noise(4, size), torch.tensor([(0, 0), (1, 2), (-3, 4), (-8, -1)]), scale=4)
    for small, large in zip(*(images.permute(0, 2, 3, 1).numpy() for images in (lr, hr)), strict=True):
        expected = np.asarray(resize(Image.fromarray(large), size // 4, "stretch"))
        difference = np.abs(small.astype(int) - expected)
        assert difference.max() <= 2
        assert difference.mean() < 0.2


def one_hot(count: int = 12, classes: int = 3, size: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose channel k is 1 everywhere where their class is k, else 0: a mean over pixels tells the shares."""
    labels = torch.arange(count) % classes
    shares = torch.nn.functional.one_hot(labels, classes).float()
    return shares[:, :, None, None].expand(-1, -1, size, size).contiguous(), labels


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "both"])
@pytest.mark.parametrize("seed", range(5))
def test_shares_sum_to_one_and_are_what_the_image_holds(kind, seed):
    torch.manual_seed(seed)
    images, labels = one_hot()
    mixed, shares = mix(images, labels, 3, kind)
    assert (mixed.shape, shares.shape) == (images.shape, (12, 3))
    torch.testing.assert_close(shares.sum(1), torch.ones(12))
    torch.testing.assert_close(mixed.mean((2, 3)), shares)


def test_mixup_blends_cutmix_pastes_and_both_does_either():
    def blended(kind: str, seed: int) -> bool | None:
        """Whether there are values between those of the two images; None where both images are as they were."""
        torch.manual_seed(seed)
        images, labels = one_hot()
        mixed, _ = mix(images, labels, 3, kind)
        between = bool(((mixed > 0) & (mixed < 1)).any())
        return None if not between and torch.equal(mixed, images) else between

    assert {blended("mixup", seed) for seed in range(9)} - {None} == {True}
    assert {blended("cutmix", seed) for seed in range(9)} - {None} == {False}
    assert {blended("both", seed) for seed in range(9)} - {None} == {True, False}


@pytest.mark.parametrize(("count", "kind"), [(12, "none"), (1, "mixup")])
def test_nothing_to_mix_is_the_very_same(count, kind):
    images, labels = one_hot(count)
    made, same = mix(images, labels, 3, kind)
    assert made is images
    assert same is labels
