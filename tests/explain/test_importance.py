"""Heads switched off and outputs recorded, on models whose heads are known."""

import numpy as np
import pytest
import torch

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import normalize
from vitpipe.errors import InputError
from vitpipe.explain import importance
from vitpipe.explain.capture import record_attention
from vitpipe.explain.importance import head_importance, heads_zeroed, record_norms, record_outputs
from vitpipe.models.attention import Attention
from vitpipe.tasks import classify, supersample

CPU = torch.device("cpu")


@pytest.fixture
def table(table):
    return table.assign(odd=2 * table["odd"] - 1)  # an attribute: has it or has it not


@pytest.fixture(params=[True, False], ids=["projection", "identity"])
def model(settings, request):
    torch.manual_seed(0)
    net = supersample.build(settings(**{"model.projection": request.param})).eval()
    torch.nn.init.normal_(net.last.weight, std=0.05)  # so that attention reaches the output
    return net


@pytest.fixture
def classifier(settings):
    torch.manual_seed(0)
    return classify.build(settings(**{"task.name": "classify"}), ("-1", "1")).eval()


def pictures(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_outputs_are_attention_times_values(model):
    with record_outputs(model) as outputs, record_attention(model) as record:
        model(pictures())
    assert outputs.values.shape == (3, 2, 2, 16, 8)
    first = model.encoder.blocks[0]
    tokens = {}
    handle = first.norm1.register_forward_hook(lambda module, args, out: tokens.update(x=out))
    model(pictures())
    handle.remove()
    values = first.attention.qkv(tokens["x"])[..., 32:].unflatten(-1, (2, 8)).transpose(1, 2)
    torch.testing.assert_close(outputs.values[:, 0], record.weights[:, 0] @ values)


def test_norms_are_those_after_each_block(model):
    with record_norms(model) as norms:
        model(pictures())
    assert norms.values.shape == (3, 2, 16)
    seen = []
    handles = [
        block.register_forward_hook(lambda module, args, out: seen.append(out)) for block in model.encoder.blocks
    ]
    model(pictures())
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(norms.values, torch.stack([out.square().sum(-1).sqrt() for out in seen], 1))


def test_recording_changes_nothing_and_leaves_nothing(model):
    before = model(pictures())
    with record_outputs(model), record_norms(model):
        assert torch.equal(model(pictures()), before)
    assert hooks(model) == 0


def test_several_calls_are_one_batch(model):
    with record_outputs(model) as whole, record_norms(model) as norms:
        model(pictures(5))
    with record_outputs(model) as parts, record_norms(model) as lengths:
        model(pictures(5)[:2])
        model(pictures(5)[2:])
    torch.testing.assert_close(parts.values, whole.values)
    torch.testing.assert_close(lengths.values, norms.values)


@pytest.mark.parametrize("recorder", [record_outputs, record_norms])
def test_nothing_recorded_is_an_error(model, recorder):
    with pytest.raises(InputError, match="nothing was recorded: call the model inside the block"), recorder(model):
        pass
    assert hooks(model) == 0


@pytest.mark.parametrize("recorder", [record_outputs, record_norms])
def test_failure_inside_leaves_nothing_behind(model, recorder):
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


def test_zeroed_head_puts_out_zeros_and_the_others_what_they_did(model):
    with record_outputs(model) as before:
        model(pictures())
    with heads_zeroed(model, 0, 1):
        joined = []
        handle = model.encoder.blocks[0].attention.project.register_forward_hook(
            lambda m, args, out: joined.append(args)
        )
        model(pictures())
        handle.remove()
    heads = joined[0][0].unflatten(-1, (2, 8)).transpose(1, 2)
    assert not heads[:, 1].any()
    torch.testing.assert_close(heads[:, 0], before.values[:, 0, 0])


def test_zeroing_is_the_same_as_values_of_zero(model):
    attention = model.encoder.blocks[1].attention
    whole = model(pictures())
    with heads_zeroed(model, 1, 0):
        without = model(pictures())
    assert (without - whole).abs().max() > 1e-4
    torch.testing.assert_close(model(pictures()), whole, rtol=0, atol=0)
    assert hooks(model) == 0
    attention.qkv.weight.data[32:40], attention.qkv.bias.data[32:40] = 0, 0
    torch.testing.assert_close(model(pictures()), without)


def test_zeroing_ends_with_a_failure_too(model):
    with pytest.raises(RuntimeError), heads_zeroed(model, 0, 0):
        model.encoder.blocks[0](torch.randn(1, 16, 17))
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("layer", "head", "message"),
    [
        (2, 0, "there is no layer 2: the model has layers 0 to 1"),
        (-1, 0, "there is no layer -1: the model has layers 0 to 1"),
        (0, 2, "there is no head 2 in layer 0: it has heads 0 to 1"),
        (1, -1, "there is no head -1 in layer 1: it has heads 0 to 1"),
    ],
)
def test_unknown_layer_or_head(model, layer, head, message):
    with pytest.raises(InputError, match=f"^{message}$"), heads_zeroed(model, layer, head):
        pass
    assert hooks(model) == 0


def test_importance_is_the_psnr_lost(model, packed):
    test = PackedDataset(packed / "test")
    found = head_importance(model, "supersample", test, np.arange(6), CPU)
    assert set(found) == {"importance"}
    lr, hr = test.images("lr", np.arange(6)), test.images("hr", np.arange(6)).astype(float)

    def psnr() -> float:
        error = np.square(supersample.predict(model, lr, CPU).astype(float) - hr).mean((1, 2, 3))
        return float((10 * np.log10(255**2 / error)).mean())

    whole = psnr()
    for layer in range(2):
        for head in range(2):
            with heads_zeroed(model, layer, head):
                assert found["importance"][layer, head] == pytest.approx(whole - psnr(), abs=1e-6)
    assert abs(found["importance"]).max() > 1e-4


def test_super_sampler_as_training_begins_needs_no_head(settings, packed):
    fresh = supersample.build(settings())
    found = head_importance(fresh, "supersample", PackedDataset(packed / "test"), np.arange(6), CPU)
    assert found["importance"].tolist() == [[0, 0], [0, 0]]


def test_importance_is_the_accuracy_lost_and_the_loss_gained(classifier, packed):
    test = PackedDataset(packed / "test", "odd")
    for block in classifier.encoder.blocks:
        block.attention.project.weight.data *= 20
    found = head_importance(classifier, "classify", test, np.arange(12), CPU)
    images = normalize(torch.from_numpy(test.images("lr", np.arange(12))).permute(0, 3, 1, 2))
    labels = torch.from_numpy(test.labels.copy())

    def scores() -> tuple[float, float]:
        with torch.inference_mode():
            probability = classifier(images).softmax(-1)
        right = float((probability.argmax(1) == labels).double().mean())
        return right, float(-probability.gather(1, labels[:, None]).log().mean())

    accuracy, loss = scores()
    for layer in range(2):
        for head in range(2):
            with heads_zeroed(classifier, layer, head):
                less, more = scores()
            assert found["importance"][layer, head] == pytest.approx(accuracy - less, abs=1e-6)
            assert found["importance_loss"][layer, head] == pytest.approx(more - loss, abs=1e-5)
    assert abs(found["importance_loss"]).max() > 1e-3


def test_heads_that_are_not_read_have_no_importance(classifier, packed):
    test, images = PackedDataset(packed / "test", "odd"), np.arange(12)
    torch.nn.init.zeros_(classifier.head.weight)
    torch.nn.init.zeros_(classifier.head.bias)
    found = head_importance(classifier, "classify", test, images, CPU)
    assert not found["importance"].any()
    assert not found["importance_loss"].any()
    for block in classifier.encoder.blocks:
        block.attention.project.weight.data[:, :8] = 0  # head 0 is not read
    torch.nn.init.normal_(classifier.head.weight)
    found = head_importance(classifier, "classify", test, images, CPU)
    assert not found["importance_loss"][:, 0].any()
    assert found["importance_loss"][:, 1].all()


def test_batches_change_nothing_and_the_model_stays(model, packed, monkeypatch):
    test = PackedDataset(packed / "test")
    model.train()
    model.tail.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole = head_importance(model, "supersample", test, np.arange(7), CPU)["importance"]
    monkeypatch.setattr(importance, "BATCH", 3)
    np.testing.assert_allclose(
        head_importance(model, "supersample", test, np.arange(7), CPU)["importance"], whole, atol=1e-6
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert not model.tail.training
    assert hooks(model) == 0
    assert all(module.recorder is None for module in model.modules() if isinstance(module, Attention))
