import pytest
import torch

from vitpipe.explain.capture import record_attention
from vitpipe.models.classifier import Classifier


def model(**changes) -> Classifier:
    torch.manual_seed(0)
    shape = {"size": 12, "patch": 3, "dim": 16, "depth": 2, "heads": 2, "mlp": 2.0, "position": "learned"}
    rest = {"classes": 5, "channels": 3, "readout": "token", "width": 8, "blocks": 1}
    return Classifier(**(shape | rest | changes)).eval()


@pytest.mark.parametrize("readout", ["token", "mean"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [0, 8])
def test_a_logit_per_class_and_every_weight_is_used(readout, channels, width):
    net, images = model(readout=readout, channels=channels, width=width), torch.randn(2, 3, 12, 12)
    logits = net(images)
    assert logits.shape == (2, 5)
    logits[:, 0].sum().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_token_readout_is_the_head_of_token_zero():
    net, images = model(readout="token"), torch.randn(2, 3, 12, 12)
    tokens = net.encoder(net.stem(images))
    assert tokens.shape == (2, 17, 16)
    assert torch.equal(net(images), net.head(tokens[:, 0]))


def test_mean_readout_is_the_head_of_the_mean_patch():
    net, images = model(readout="mean"), torch.randn(2, 3, 12, 12)
    assert net.encoder.token is None
    tokens = net.encoder(net.stem(images))
    assert tokens.shape == (2, 16, 16)
    torch.testing.assert_close(net(images), net.head(tokens.sum(1) / 16))


@pytest.mark.parametrize("width", [0, 8])
def test_one_channel_is_the_mean_of_three(width):
    net, images = model(channels=1, width=width), torch.randn(2, 3, 12, 12)
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(net(images), net(grey.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(net(images), net.head(net.encoder(net.stem(grey))[:, 0]))
    torch.testing.assert_close(net(images), net(images[:, [2, 0, 1]]))
    coloured = model(width=width)
    assert (coloured(images) - coloured(images[:, [2, 0, 1]])).abs().max() > 1e-3


def test_without_a_stem_patches_are_of_bare_pixels():
    net = model(width=0)
    assert net.encoder.embed.in_features == 27
    assert not list(net.stem.parameters())


@pytest.mark.parametrize("readout", ["token", "mean"])
@pytest.mark.parametrize("projection", [True, False])
def test_looking_at_attention_changes_no_logit(readout, projection):
    net, images = model(readout=readout, projection=projection, depth=3), torch.randn(4, 3, 12, 12)
    with torch.inference_mode():
        plain = net(images)
        with record_attention(net) as record:
            seen = net(images)
        after = net(images)
    tokens = 17 if readout == "token" else 16
    assert record.weights.shape == (4, 3, 2, tokens, tokens)
    torch.testing.assert_close(record.weights.sum(-1), torch.ones(4, 3, 2, tokens))
    torch.testing.assert_close(seen, plain)
    assert torch.equal(after, plain)
