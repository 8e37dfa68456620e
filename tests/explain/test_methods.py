"""Every method's map over the patches of its own image, from planted models and bad input."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitpipe.explain.encoders import query_row
from vitpipe.explain.methods import attribution_maps, passes, protocol
from vitpipe.explain.relevance import relevance, rollout, weights_and_gradients
from vitpipe.models.vit import ViT
from vitpipe.tasks.base import Questions

CLASSIFY = ("raw", "rollout", "relevance", "gradient", "gradient_input", "smooth", "integrated")
WINDOW = ("raw", "rollout", "relevance", "gradient", "smooth", "local")
CASES = [("classify", {}, CLASSIFY), ("classify", {"model.pool": "avg"}, CLASSIFY), ("supersample", {}, WINDOW)]


@pytest.mark.parametrize(("task", "changes", "names"), CASES)
def test_maps_lie_on_one_grid_and_belong_to_their_image(made, images, unchanged, task, changes, names):
    task, model = made(task, sharp=2, **changes)
    questions = task.questions(model, images())
    with unchanged(model):
        together = attribution_maps(model, questions, images())
    assert tuple(together.patches) == names
    assert tuple(together.pixels) == names[3:]
    alone = attribution_maps(model, task.questions(model, images()[1:2]), images()[1:2])
    for name, values in together.patches.items():
        assert values.shape == (3, 4, 4)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values[1:2], alone.patches[name], rtol=2e-3, atol=1e-5)
    for name, values in together.pixels.items():
        sums = values.unfold(1, 3, 3).unfold(2, 3, 3).sum((3, 4))
        torch.testing.assert_close(together.patches[name], sums, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tokens", [None, torch.tensor([5, 0, 15])], ids=["head", "patch"])
@pytest.mark.parametrize(("task", "changes", "names"), CASES)
def test_attention_maps_are_the_row_of_the_token_that_asks(made, images, task, changes, names, tokens):
    (task, model), every_layer = made(task, **changes), task == "supersample"
    changes = {"methods": names[:3], "tokens": tokens, "every_layer": every_layer}
    questions = replace(task.questions(model, images()), **changes)
    found = attribution_maps(model, questions, images()).patches
    weights, slopes = weights_and_gradients(model, images(), questions.output_score)
    for name, matrix in {
        "raw": weights.mean((1, 2)) if every_layer else weights[:, -1].mean(1),
        "rollout": rollout(weights),
        "relevance": relevance(weights, slopes) - torch.eye(weights.shape[-1]),
    }.items():
        prefix = model.encoder.num_prefix_tokens
        row = query_row(matrix, model) if tokens is None else matrix[range(3), tokens + prefix, prefix:]
        torch.testing.assert_close(found[name].flatten(1), row)


class Reader(nn.Module):
    """Two classes by the mean colour of one patch each; its encoder attends, and nothing comes of it.

    The grid has 4 rows and 5 columns.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = ViT(size=(12, 15), patch=3, channels=3, dim=16, depth=2, heads=2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        one, other = batch[..., 3:6, 6:9].mean((1, 2, 3)), batch[..., 9:12, 0:3].mean((1, 2, 3))
        return torch.stack([one, other], 1) + 0 * self.encoder(batch).patches.sum((1, 2, 3))[:, None]


def test_planted_patches_are_found_with_their_sign():
    """On grey, patch (1, 2) is bright and speaks for class 0, patch (3, 0) is bright and speaks against it."""
    batch = torch.zeros(1, 3, 12, 15)
    batch[..., 3:6, 6:9], batch[..., 9:12, 0:3] = 0.9, 0.4
    questions = Questions(lambda logits: logits[:, 0] - logits[:, 1], lambda *_: torch.zeros(0), CLASSIFY)
    found = attribution_maps(Reader(), questions, batch).patches
    for name in ("gradient", "smooth"):
        used = found[name][0] > 1e-6
        assert used.nonzero().tolist() == [[1, 2], [3, 0]]
    for name in ("gradient_input", "integrated"):
        assert int(found[name][0].argmax()) == 1 * 5 + 2
        assert int(found[name][0].argmin()) == 3 * 5 + 0
    assert not found["relevance"].any()


def test_local_attribution_is_a_sum_of_absolute_values():
    batch = torch.zeros(1, 3, 12, 15)
    batch[..., 3:6, 6:9] = 0.9
    questions = Questions(lambda logits: F.relu(logits[:, 0] - logits[:, 1]), lambda *_: torch.zeros(0), ("local",))
    found = attribution_maps(Reader(), questions, batch)
    assert (found.pixels["local"] >= 0).all()
    assert (found.patches["local"][0] > 0.1 * found.patches["local"].max()).nonzero().tolist() == [[1, 2]]


def test_what_the_maps_are_is_said_of_the_methods_that_apply(made, images):
    for name, _, methods in CASES[1:]:
        task, model = made(name)
        questions = task.questions(model, images())
        told = protocol(questions)
        assert tuple(told) == methods
        assert f"{questions.samples} noisy copies" in told["smooth"]
        assert f"{questions.steps} steps" in told[methods[-1]]
        assert ("all layers" in told["raw"]) == ("class token" not in told["raw"]) == (name == "supersample")


def test_passes_fit_pixels_and_weights(made, images, monkeypatch):
    _, model = made()
    monkeypatch.setattr("vitpipe.explain.methods.PIXELS_AT_ONCE", 5 * 12**2 + 1)
    assert passes(model, images()) == 5
    monkeypatch.setattr("vitpipe.explain.methods.WEIGHTS_AT_ONCE", 2 * 4 * 16**2)
    assert passes(model, images()) == 2
