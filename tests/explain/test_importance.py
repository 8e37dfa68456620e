"""Heads switched off and outputs recorded, on models whose heads are known."""

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from vitpipe.explain.importance import head_importance, heads_by_place, heads_zeroed, lower_end, recording, stacked


@pytest.fixture(params=[True, False], ids=["projection", "identity"])
def model(made, request):
    return made(**{"model.proj": request.param})[1]


def hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_inputs_and_outputs_are_recorded_without_changing_them(model, images):
    blocks = model.encoder.blocks
    before = model(images(5))
    with recording(blocks, lambda x, output: torch.stack([x, output])[None]) as recorded:
        assert torch.equal(model(images(5)), before)
    whole = stacked(recorded)  # call, layer, input and output, images, tokens, d
    assert whole.shape == (1, 2, 2, 5, 16, 16)
    torch.testing.assert_close(whole[0, 0, 1], whole[0, 1, 0])
    torch.testing.assert_close(blocks[0](whole[0, 0, 0], (4, 4)), whole[0, 0, 1])
    assert not whole.requires_grad
    with recording(blocks, lambda x, output: output) as recorded:
        model(images(5)[:2])
        model(images(5)[2:])
    torch.testing.assert_close(stacked(recorded), whole[0, :, 1].transpose(0, 1), rtol=1e-4, atol=1e-4)
    with pytest.raises(RuntimeError), recording(blocks, lambda x, output: output):
        blocks[0](torch.randn(1, 16, 17), (4, 4))
    assert hooks(model) == 0


def test_zeroing_is_the_same_as_values_of_zero(model, images):
    whole = model(images())
    with heads_zeroed(model, 1, 0):
        without = model(images())
    assert (without - whole).abs().max() > 1e-4
    torch.testing.assert_close(model(images()), whole, rtol=0, atol=0)
    with pytest.raises(RuntimeError), heads_zeroed(model, 0, 0):
        model.encoder.blocks[0](torch.randn(1, 16, 17), (4, 4))
    assert hooks(model) == 0
    qkv = model.encoder.blocks[1].attn.qkv
    qkv.weight.data[32:40], qkv.bias.data[32:40] = 0, 0
    torch.testing.assert_close(model(images()), without)


@pytest.mark.parametrize("place", [True, False])
def test_looking_by_place_is_the_same_as_leaving_queries_out(made, images, place):
    _, model = made(**{"model.place": place})
    attention, whole = model.encoder.blocks[1].attn, model(images())
    with heads_by_place(model, 1, 0):
        one = model(images())
        with heads_by_place(model, 1, 1):
            both = model(images())
    assert (one - whole).abs().max() > 1e-4
    assert hooks(model) == 0
    attention.kind = "place" if place else "uniform"
    torch.testing.assert_close(model(images()), both)
    attention.kind = "softmax"
    attention.qkv.weight.data[:8], attention.qkv.bias.data[:8] = 0, 0
    torch.testing.assert_close(model(images()), one)


@pytest.mark.parametrize("name", ["supersample", "classify"])
def test_importance_is_the_score_lost(made, test, unchanged, monkeypatch, name):
    (task, model), rows = made(name, **{"model.place": True}), np.arange(9)
    qkv = model.encoder.blocks[0].attn.qkv
    qkv.weight.data[8:16], qkv.bias.data[8:16] = 0, 0  # layer 1, head 2 looks by place
    with unchanged(model):
        found = head_importance(task, model, test, rows)
    images = test.images("lr", rows)

    def scores() -> dict[str, np.ndarray]:
        predictions = task.predict(model, images)
        if name == "supersample":
            error = np.square(predictions.astype(float) - test.images("hr", rows)).mean((1, 2, 3))
            return {"importance": 10 * np.log10(255**2 / error)}
        labels = test.labels[rows]
        right = (predictions.argmax(1) == labels).astype(float)
        return {"importance": right, "importance_loss": np.log(predictions[rows, labels])}

    whole = scores()
    assert found.keys() == {*whole, *(f"content_{key}" for key in whole), "by_place"}
    for layer, head in np.ndindex(2, 2):
        for kind, change in (("", heads_zeroed), ("content_", heads_by_place)):
            with change(model, layer, head):
                drops = {key: whole[key] - values for key, values in scores().items()}
            for key, values in drops.items():
                assert found[f"{kind}{key}"][layer, head] == pytest.approx(values.mean(), abs=1e-5), kind + key
        least = ttest_1samp(drops[[*drops][-1]], 0).confidence_interval(0.95).low if (layer, head) != (0, 1) else 0
        assert found["by_place"][layer, head] == (least <= 0)
    assert all(abs(found[key]).max() > 1e-4 for key in whole)
    assert [found[f"content_{key}"][0, 1] for key in whole] == [0] * len(whole)
    monkeypatch.setattr("vitpipe.tasks.base.scoring_batches", lambda dataset, rows: np.array_split(rows, 3))
    for key, values in head_importance(task, model, test, rows).items():
        np.testing.assert_allclose(values, found[key], atol=1e-5)


@pytest.mark.parametrize("name", ["supersample", "classify"])
def test_a_head_layer_of_zeros_reads_no_attention(made, test, monkeypatch, name):
    """As training of a super-sampler begins: its importance is known without zeroing any head."""
    task, model = made(name)
    torch.nn.init.zeros_(model.head.weight)
    predictions = iter([task.predict(model, test.images("lr", np.arange(6)))])
    monkeypatch.setattr(task, "predict", lambda *_: next(predictions))
    found = head_importance(task, model, test, np.arange(6))
    assert found.pop("by_place").tolist() == [[1, 1], [1, 1]]
    assert all(values.tolist() == [[0, 0], [0, 0]] for values in found.values())
    assert len(found) == 2 * (1 + (name == "classify"))


def test_one_image_tells_nothing_about_the_mean():
    values = np.array([[0.1, 0.2, 0.4], [0.3, 0.3, 0.3]])
    assert lower_end(values)[0] == pytest.approx(ttest_1samp(values[0], 0).confidence_interval(0.95).low)
    assert lower_end(values)[1] == pytest.approx(0.3)
    assert lower_end(values[:, :1]).tolist() == [-np.inf, -np.inf]
