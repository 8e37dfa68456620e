"""Heads switched off and outputs recorded, on models whose heads are known."""

import numpy as np
import pytest
import torch

from vitpipe.explain.importance import head_importance, heads_zeroed, recording, stacked


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
    torch.testing.assert_close(blocks[0](whole[0, 0, 0]), whole[0, 0, 1])
    assert not whole.requires_grad
    with recording(blocks, lambda x, output: output) as recorded:
        model(images(5)[:2])
        model(images(5)[2:])
    torch.testing.assert_close(stacked(recorded), whole[0, :, 1].transpose(0, 1), rtol=1e-4, atol=1e-4)
    with pytest.raises(RuntimeError), recording(blocks, lambda x, output: output):
        blocks[0](torch.randn(1, 16, 17))
    assert hooks(model) == 0


def test_zeroing_is_the_same_as_values_of_zero(model, images):
    whole = model(images())
    with heads_zeroed(model, 1, 0):
        without = model(images())
    assert (without - whole).abs().max() > 1e-4
    torch.testing.assert_close(model(images()), whole, rtol=0, atol=0)
    with pytest.raises(RuntimeError), heads_zeroed(model, 0, 0):
        model.encoder.blocks[0](torch.randn(1, 16, 17))
    assert hooks(model) == 0
    qkv = model.encoder.blocks[1].attn.qkv
    qkv.weight.data[32:40], qkv.bias.data[32:40] = 0, 0
    torch.testing.assert_close(model(images()), without)


@pytest.mark.parametrize("name", ["supersample", "classify"])
def test_importance_is_the_score_lost(made, test, unchanged, monkeypatch, name):
    (task, model), rows = made(name), np.arange(9)
    with unchanged(model):
        found = head_importance(task, model, test, rows)
    images = test.images("lr", rows)

    def scores() -> dict[str, float]:
        predictions = task.predict(model, images)
        if name == "supersample":
            error = np.square(predictions.astype(float) - test.images("hr", rows)).mean((1, 2, 3))
            return {"importance": float((10 * np.log10(255**2 / error)).mean())}
        labels = test.labels[rows]
        right = float((predictions.argmax(1) == labels).mean())
        return {"importance": right, "importance_loss": float(np.log(predictions[rows, labels]).mean())}

    whole = scores()
    assert found.keys() == whole.keys()
    for layer in range(2):
        for head in range(2):
            with heads_zeroed(model, layer, head):
                less = scores()
            for key, values in found.items():
                assert values[layer, head] == pytest.approx(whole[key] - less[key], abs=1e-5)
    assert all(abs(values).max() > 1e-4 for values in found.values())
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
    assert all(values.tolist() == [[0, 0], [0, 0]] for values in found.values())
    assert len(found) == 1 + (name == "classify")
