"""Every method's map over the patches of its own image, from planted models and bad input."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitpipe.errors import InputError
from vitpipe.explain import gradients, methods
from vitpipe.explain.class_token import query_row
from vitpipe.explain.local_attribution import edges
from vitpipe.explain.relevance import relevance, weights_and_gradients
from vitpipe.explain.rollout import rollout
from vitpipe.models.classifier import Classifier
from vitpipe.models.supersampler import SuperSampler

CLASSIFY = ["raw", "rollout", "relevance", "gradient", "gradient_input", "smooth", "integrated"]
WINDOW = ["raw", "rollout", "relevance", "gradient", "smooth", "local"]
SHAPE = {"size": 12, "patch": 3, "dim": 16, "heads": 2, "mlp": 2.0, "position": "learned"}


def classifier(readout: str = "token", depth: int = 2) -> Classifier:
    torch.manual_seed(0)
    net = Classifier(classes=3, channels=3, readout=readout, width=0, blocks=0, depth=depth, **SHAPE)
    for block in net.encoder.blocks:
        block.attention.qkv.weight.data *= 4
    return net.eval()


def supersampler(depth: int = 2) -> SuperSampler:
    torch.manual_seed(0)
    net = SuperSampler(scale=2, skip="bicubic", width=8, blocks=1, depth=depth, **SHAPE)
    torch.nn.init.normal_(net.last.weight, std=0.1)
    return net.eval()


def images(count: int = 3, side: int = 12) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


LABELS, TOKENS = torch.tensor([2, 0, 1]), torch.tensor([5, 0, 15])


@pytest.fixture(params=["token", "mean", "window"])
def explained(request):
    if request.param == "window":
        net = supersampler()
        return net, WINDOW, lambda batch, rows: methods.supersampler(net, batch, TOKENS[rows])
    net = classifier(request.param)
    return net, CLASSIFY, lambda batch, rows: methods.classifier(net, batch, LABELS[rows])


def test_maps_lie_on_one_grid_and_belong_to_their_image(explained):
    _, names, explain = explained
    batch, every = images(), torch.arange(3)
    together = explain(batch, every)
    assert list(together.patches) == names
    for name, values in together.patches.items():
        assert values.shape == (3, 4, 4)
        assert values.dtype == torch.float32
        alone = explain(batch[1:2], every[1:2]).patches[name]
        torch.testing.assert_close(values[1:2], alone, rtol=2e-3, atol=1e-5)
    for name, values in together.pixels.items():
        sums = values.unfold(1, 3, 3).unfold(2, 3, 3).sum((3, 4))
        torch.testing.assert_close(together.patches[name], sums, rtol=1e-4, atol=1e-6)


def test_parts_of_a_memory_size_change_nothing(explained, monkeypatch):
    _, names, explain = explained
    whole = explain(images(), torch.arange(3))
    monkeypatch.setattr(methods, "PIXELS_AT_ONCE", 2 * 12**2)
    parts = explain(images(), torch.arange(3))
    for name in names:
        torch.testing.assert_close(parts.patches[name], whole.patches[name], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("readout", ["token", "mean"])
def test_attention_maps_are_the_readouts_own(readout):
    net = classifier(readout)
    found, token = methods.classifier(net, images(), LABELS).patches, readout == "token"
    score = methods.log_odds(LABELS)
    weights, slopes = weights_and_gradients(net, images(), score)
    eye = torch.eye(weights.shape[-1])
    for name, matrix in {
        "raw": weights[:, -1].mean(1),
        "rollout": rollout(weights),
        "relevance": relevance(weights, slopes) - eye,
    }.items():
        torch.testing.assert_close(found[name].flatten(1), query_row(matrix, token))


def test_attention_maps_of_a_window_are_its_tokens():
    net = supersampler()
    found = methods.supersampler(net, images(), TOKENS).patches
    weights, slopes = weights_and_gradients(methods.window_of(net, TOKENS), images(), edges)
    for i, token in enumerate(TOKENS.tolist()):
        torch.testing.assert_close(found["raw"][i].flatten(), weights[i, :, :, token].mean((0, 1)))
        torch.testing.assert_close(found["rollout"][i].flatten(), rollout(weights)[i, token])
        row = relevance(weights, slopes)[i, token] - torch.eye(16)[token]
        torch.testing.assert_close(found["relevance"][i].flatten(), row)


def test_log_odds_follow_the_loss():
    logits = torch.tensor([[2.0, 0.5, -1.0], [6.0, -6.0, 0.0], [0.0, 1.0, 2.0]])
    p = logits.double().softmax(1)[torch.arange(3), LABELS]
    torch.testing.assert_close(methods.log_odds(LABELS)(logits).double(), p.logit(), rtol=1e-5, atol=1e-5)
    net, batch = classifier(), images()
    by_loss, by_odds = (gradients.importance(net, batch, target) for target in (LABELS, methods.log_odds(LABELS)))
    sure = F.softmax(net(batch), 1).detach()[torch.arange(3), LABELS]
    torch.testing.assert_close(by_loss, by_odds * (1 - sure)[:, None, None], rtol=1e-4, atol=1e-7)


class Reader(nn.Module):
    """Two classes by the mean colour of one patch each; its encoder attends, and nothing comes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = classifier().encoder

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        one, other = batch[..., 3:6, 6:9].mean((1, 2, 3)), batch[..., 9:12, 0:3].mean((1, 2, 3))
        return torch.stack([one, other], 1) + 0 * self.encoder(batch).sum((1, 2))[:, None]


def test_planted_patches_are_found_with_their_sign():
    """On grey, patch (1, 2) is bright and speaks for class 0, patch (3, 0) is bright and speaks against it."""
    batch = torch.zeros(1, 3, 12, 12)
    batch[..., 3:6, 6:9], batch[..., 9:12, 0:3] = 0.9, 0.4
    found = methods.classifier(Reader(), batch, torch.tensor([0])).patches
    for name in ("gradient", "smooth"):
        used = found[name][0] > 1e-6
        assert used.nonzero().tolist() == [[1, 2], [3, 0]]
    for name in ("gradient_input", "integrated"):
        assert found[name][0].argmax() == 1 * 4 + 2
        assert found[name][0].argmin() == 3 * 4 + 0
    assert not found["relevance"].any()


def test_windows_outside_the_image_and_models_without_attention():
    with pytest.raises(InputError, match="outside the image of 12x12"):
        methods.supersampler(supersampler(), images(1), torch.tensor([16]))
    with pytest.raises(InputError, match="no attention"):
        methods.classifier(classifier(depth=0), images(), LABELS)
    with pytest.raises(InputError, match="no attention"):
        methods.supersampler(supersampler(depth=0), images(), TOKENS)
