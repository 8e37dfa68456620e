"""Heads switched off and outputs recorded, on models whose heads are known."""

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from vitpipe.explain.importance import (
    attention_replaced,
    head_importance,
    heads_by_place,
    heads_zeroed,
    lower_end,
    recording,
    replacement_losses,
    stacked,
)
from vitpipe.models.patches import patchify, unpatchify
from vitpipe.models.supersampler import upsample


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


@pytest.mark.parametrize("name", ["supersample", "classify"])
def test_replaced_attention_is_that_of_a_model_without_and_comes_back(made, images, unchanged, name):
    changes = {"model.pool": "avg"} if name == "classify" else {}
    _, model = made(name, **changes, **{"model.place": True})
    _, control = made(name, 1, **changes, **{"model.attention": "none"})
    control.load_state_dict(model.state_dict(), strict=False)  # it has no place term
    whole = model(images())
    with unchanged(model), attention_replaced(model, "none"):
        assert torch.equal(model(images()), control(images()))
    with pytest.raises(RuntimeError), attention_replaced(model, "uniform"):
        model.encoder.blocks[0](torch.randn(1, 16, 17), (4, 4))
    assert torch.equal(model(images()), whole)
    assert not torch.equal(whole, control(images()))


@pytest.mark.parametrize("name", ["supersample", "classify"])
@pytest.mark.parametrize("place", [True, False])
def test_attention_that_is_not_used_is_no_loss(made, test, unchanged, name, place):
    task, model = made(name, **{"model.place": place})
    rows = np.arange(12)
    used = replacement_losses(task, model, test, rows)
    for block in model.encoder.blocks:
        block.attn.proj.weight.data.zero_()
    with unchanged(model):
        found = replacement_losses(task, model, test, rows)
    names = ["drop"] if name == "supersample" else ["drop", "drop_loss"]
    assert found == {"mean": dict.fromkeys(names, 0.0), "identity": dict.fromkeys(names, 0.0)} | {
        "place": dict.fromkeys(names, 0.0 if place else None)
    }
    assert all(abs(used[kind][names[-1]]) > 1e-4 for kind in ("mean", "identity", "place") if place or kind != "place")


def test_the_loss_of_a_model_that_copies_a_neighbour_is_that_computed_by_hand(made, test):
    """The residual is -0.2137 times the patch and its right neighbour; the last patch of a row copies itself."""
    pure = {"conv_channels": 0, "conv_blocks": 0, "dim": 27, "heads": 1, "depth": 1, "position": "none"}
    pure |= {"final_norm": False, "place": True, "skip": "nearest"}
    task, model = made(**{f"model.{name}": value for name, value in pure.items()})
    block, gain = model.encoder.blocks[0], -0.2137
    block.norm1 = torch.nn.Identity()
    for tensor in (*block.attn.parameters(), *block.mlp.parameters(), model.encoder.patch_embed.bias):
        tensor.data.zero_()
    for weight in (model.encoder.patch_embed.weight, block.attn.qkv.weight[54:], block.attn.proj.weight):
        weight.data.copy_(torch.eye(27))
    block.place.centre.data, block.place.sharpness.data = torch.tensor([[0.0, 1.0]]), torch.tensor([1e4])
    units = upsample(unpatchify(torch.eye(27)[:, None, None], 3), 2, "nearest")
    model.head.weight.data = gain * patchify(units, 6)[:, 0].T

    lr, hr = test.images("lr", np.arange(12)) / 127.5 - 1, test.images("hr", np.arange(12))
    right = np.concatenate([lr[:, :, 3:], lr[:, :, -3:]], axis=2)
    mean = np.tile(lr.reshape(12, 4, 3, 4, 3, 3).mean((1, 3)), (1, 4, 4, 1))

    def psnr(seen: np.ndarray) -> float:
        large = (lr + gain * (lr + seen)).repeat(2, axis=1).repeat(2, axis=2)
        error = np.square(np.clip((large + 1) * 127.5, 0, 255).round() - hr).mean((1, 2, 3))
        return float((10 * np.log10(255**2 / error)).mean())

    found = replacement_losses(task, model, test, np.arange(12))
    for name, seen in (("mean", mean), ("identity", lr), ("place", right)):
        assert found[name]["drop"] == pytest.approx(psnr(right) - psnr(seen), abs=1e-3)
    assert found["place"]["drop"] == 0
    assert abs(found["identity"]["drop"]) > 0.1


def test_one_image_tells_nothing_about_the_mean():
    values = np.array([[0.1, 0.2, 0.4], [0.3, 0.3, 0.3]])
    assert lower_end(values)[0] == pytest.approx(ttest_1samp(values[0], 0).confidence_interval(0.95).low)
    assert lower_end(values)[1] == pytest.approx(0.3)
    assert lower_end(values[:, :1]).tolist() == [-np.inf, -np.inf]
