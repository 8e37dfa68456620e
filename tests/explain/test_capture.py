import pytest
import torch

from vitpipe.errors import InputError
from vitpipe.explain.capture import encode, record_attention
from vitpipe.models.attention import Attention
from vitpipe.models.classifier import Classifier
from vitpipe.models.supersampler import SuperSampler


@pytest.fixture
def model() -> SuperSampler:
    torch.manual_seed(0)
    shape = {"size": 12, "scale": 2, "patch": 3, "dim": 16, "depth": 3, "heads": 2, "mlp": 2.0}
    net = SuperSampler(**shape, position="learned", skip="bicubic", width=8, blocks=1).eval()
    torch.nn.init.normal_(net.last.weight, std=0.1)  # so that attention reaches the output
    return net


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    shape = {"size": 12, "patch": 3, "dim": 16, "depth": 3, "heads": 2, "mlp": 2.0, "position": "none"}
    return Classifier(classes=3, channels=3, readout="token", width=0, blocks=0, **shape).eval()


def recorders(model) -> list:
    return [module.recorder for module in model.modules() if isinstance(module, Attention)]


def test_weights_of_every_image_layer_head_and_query(model):
    with record_attention(model) as record:
        model(torch.randn(5, 3, 12, 12))
    assert record.weights.shape == (5, 3, 2, 16, 16)
    torch.testing.assert_close(record.weights.sum(-1), torch.ones(5, 3, 2, 16))


def test_looking_changes_no_output_and_leaves_nothing_behind(model):
    images = torch.randn(2, 3, 12, 12)
    before = model(images)
    with record_attention(model):
        watched = model(images)
    torch.testing.assert_close(watched, before, rtol=1e-5, atol=1e-5)
    assert torch.equal(model(images), before)
    assert recorders(model) == [None, None, None]


def test_several_calls_are_one_batch(model):
    images = torch.randn(5, 3, 12, 12)
    with record_attention(model) as whole:
        model(images)
    with record_attention(model) as parts:
        model(images[:2])
        model(images[2:])
    torch.testing.assert_close(parts.weights, whole.weights)


def test_layers_are_in_their_order(model):
    for depth, block in enumerate(model.encoder.blocks):
        block.attention.qkv.weight.data *= 0  # uniform in all layers but the second
        if depth == 1:
            block.attention.qkv.weight.data += torch.randn_like(block.attention.qkv.weight)
    with record_attention(model) as record:
        model(torch.randn(1, 3, 12, 12))
    spread = record.weights[0].std(dim=(1, 2, 3))
    assert (spread > 1e-4).tolist() == [False, True, False]


def test_nothing_recorded_is_an_error(model):
    with (
        pytest.raises(InputError, match="no attention was recorded: call the model inside the block"),
        record_attention(model),
    ):
        pass
    assert recorders(model) == [None, None, None]


def test_part_of_the_layers_is_an_error_too(model):
    with pytest.raises(InputError, match="no attention was recorded"), record_attention(model):
        model.encoder.blocks[0](torch.randn(1, 16, 16))


def test_model_without_attention():
    with pytest.raises(InputError, match="Linear has no attention layers"), record_attention(torch.nn.Linear(2, 2)):
        pass


def test_failure_inside_leaves_nothing_behind(model):
    with pytest.raises(RuntimeError, match="normalized_shape"), record_attention(model):
        model.encoder.blocks[0](torch.randn(1, 16, 17))
    assert recorders(model) == [None, None, None]


def test_class_token_is_the_first_query_and_the_first_key(classifier):
    """Patches of one colour, without positions, are all alike; the class token is not."""
    with record_attention(classifier) as record:
        classifier(torch.full((2, 3, 12, 12), 0.7))
    weights = record.weights
    assert weights.shape == (2, 3, 2, 17, 17)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 2, 17))
    patches = weights[..., 1:, :]
    torch.testing.assert_close(patches, patches[..., :1, :].expand_as(patches))
    torch.testing.assert_close(weights[..., 1:], weights[..., 1:2].expand(-1, -1, -1, -1, 16))
    assert (weights[..., 0, :] - weights[..., 1, :]).abs().amax(-1).min() > 1e-4
    assert (weights[..., 0] - weights[..., 1]).abs().amax(-1).min() > 1e-4


def test_looking_changes_nothing_that_a_classifier_says(classifier):
    images = torch.randn(2, 3, 12, 12)
    before = classifier(images)
    with record_attention(classifier):
        torch.testing.assert_close(classifier(images), before, rtol=1e-5, atol=1e-5)
    assert recorders(classifier) == [None, None, None]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_encoder_alone_attends_as_in_the_whole_classifier(channels):
    shape = {"size": 12, "patch": 3, "dim": 16, "depth": 2, "heads": 2, "mlp": 2.0, "position": "none"}
    net = Classifier(classes=3, channels=channels, readout="token", width=8, blocks=1, **shape).eval()
    images = torch.randn(2, 3, 12, 12)
    with record_attention(net) as whole:
        logits = net(images)
    with record_attention(net) as part:
        tokens = encode(net, images)
    assert torch.equal(part.weights, whole.weights)
    assert torch.equal(net.head(tokens[:, 0]), logits)
