"""Heads switched off and outputs recorded, on models whose heads are known."""

import numpy as np
import pytest
import torch

from vitpipe.errors import InputError
from vitpipe.explain.capture import capture
from vitpipe.explain.importance import head_importance, heads_zeroed, record_norms, record_outputs, stacked

RECORDERS = pytest.mark.parametrize("recorder", [record_outputs, record_norms])


@pytest.fixture(params=[True, False], ids=["projection", "identity"])
def model(made, request):
    return made(**{"model.proj": request.param})[1]


def hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_outputs_are_attention_times_values(model, images):
    first, tokens = model.encoder.blocks[0], {}
    handle = first.norm1.register_forward_hook(lambda module, args, out: tokens.update(x=out))
    with record_outputs(model) as outputs, capture(model) as seen:
        model(images())
    handle.remove()
    assert stacked(outputs).shape == (3, 2, 2, 16, 8)
    values = first.attn.qkv(tokens["x"])[..., 32:].unflatten(-1, (2, 8)).transpose(1, 2)
    torch.testing.assert_close(stacked(outputs)[:, 0], seen["encoder.blocks.0.attn"] @ values)


def test_norms_are_those_after_each_block(model, images):
    seen = []
    handles = [
        block.register_forward_hook(lambda module, args, out: seen.append(out)) for block in model.encoder.blocks
    ]
    with record_norms(model) as norms:
        model(images())
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(stacked(norms), torch.stack([out.square().sum(-1).sqrt() for out in seen], 1))


@RECORDERS
def test_recording_changes_nothing_and_several_calls_are_one_batch(model, images, recorder):
    before = model(images(5))
    with recorder(model) as whole:
        assert torch.equal(model(images(5)), before)
    with recorder(model) as parts:
        model(images(5)[:2])
        model(images(5)[2:])
    torch.testing.assert_close(stacked(parts), stacked(whole), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError), recorder(model):
        model.encoder.blocks[0](torch.randn(1, 16, 17))
    assert hooks(model) == 0


def test_model_without_attention():
    plain = torch.nn.Linear(2, 2)
    for block in (record_outputs(plain), heads_zeroed(plain, 0, 0)):
        with pytest.raises(InputError, match=r"^Linear has no attention layers$"), block:
            pass
    with pytest.raises(InputError, match=r"^Linear has no block layers$"), record_norms(plain):
        pass


def test_zeroed_head_outputs_zeros_and_the_others_what_they_did(model, images):
    with record_outputs(model) as before:
        model(images())
    joined = []
    with heads_zeroed(model, 0, 1):
        handle = model.encoder.blocks[0].attn.proj.register_forward_hook(lambda m, args, out: joined.append(args))
        model(images())
        handle.remove()
    heads = joined[0][0].unflatten(-1, (2, 8)).transpose(1, 2)
    assert not heads[:, 1].any()
    torch.testing.assert_close(heads[:, 0], stacked(before)[:, 0, 0])


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
    monkeypatch.setattr("vitpipe.explain.importance.scoring_batches", lambda dataset, rows: np.array_split(rows, 3))
    for key, values in head_importance(task, model, test, rows).items():
        np.testing.assert_allclose(values, found[key], atol=1e-5)


def test_heads_that_are_not_read_have_no_importance(made, test):
    (task, model), rows = made("classify"), np.arange(12)
    for block in model.encoder.blocks:
        block.attn.proj.weight.data[:, :8] = 0  # head 0 is not read
    found = head_importance(task, model, test, rows)
    assert not found["importance_loss"][:, 0].any()
    assert found["importance_loss"][:, 1].all()


@pytest.mark.parametrize("name", ["supersample", "classify"])
def test_a_head_layer_of_zeros_reads_no_attention(made, test, monkeypatch, name):
    """As training of a super-sampler begins: its importance is known without zeroing any head."""
    task, model = made(name)
    torch.nn.init.zeros_(model.head.weight)
    monkeypatch.setattr("vitpipe.explain.importance.heads_zeroed", None)
    found = head_importance(task, model, test, np.arange(6))
    assert all(values.tolist() == [[0, 0], [0, 0]] for values in found.values())
    assert len(found) == 1 + (name == "classify")
