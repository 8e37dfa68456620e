import pytest
import torch


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("stem", [{}, {"conv_channels": 0, "conv_blocks": 0}])
def test_a_logit_for_each_class_and_every_weight_is_used(classifier, pool, in_chans, stem):
    net, images = classifier(pool=pool, in_chans=in_chans, **stem), torch.randn(2, 3, 12, 12)
    logits = net(images)
    assert logits.shape == (2, 5)
    logits[:, 0].sum().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_the_head_reads_the_class_token(classifier):
    net, images = classifier(pool="token"), torch.randn(2, 3, 12, 12)
    features = net.forward_features(images)
    assert (features.prefix.shape, features.patches.shape) == ((2, 1, 16), (2, 4, 4, 16))
    assert torch.equal(net(images), net.head(features.prefix[:, 0]))


def test_or_the_mean_of_all_patches(classifier):
    net, images = classifier(pool="avg"), torch.randn(2, 3, 12, 12)
    features = net.forward_features(images)
    assert features.prefix.shape == (2, 0, 16)
    torch.testing.assert_close(net(images), net.head(features.patches.sum((1, 2)) / 16))


@pytest.mark.parametrize("stem", [{}, {"conv_channels": 0, "conv_blocks": 0}])
def test_one_channel_is_the_mean_of_three(classifier, stem):
    net, images = classifier(in_chans=1, **stem), torch.randn(2, 3, 12, 12)
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(net(images), net(grey.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(net(images), net.head(net.encoder(net.stem(grey)).prefix[:, 0]))
    torch.testing.assert_close(net(images), net(images[:, [2, 0, 1]]))
    coloured = classifier(**stem)
    assert (coloured(images) - coloured(images[:, [2, 0, 1]])).abs().max() > 1e-3


def test_without_a_stem_patches_are_of_pixels(classifier):
    net = classifier(conv_channels=0, conv_blocks=0)
    assert net.encoder.patch_embed.in_features == 27
    assert not list(net.stem.parameters())
