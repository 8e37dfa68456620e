"""The six-step picture against numbers worked out by hand and against Pillow; views of the classifier itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from vitpipe.data.pixels import normalize
from vitpipe.explain import class_token
from vitpipe.explain.capture import record_attention
from vitpipe.explain.class_token import query_row, six_steps, view
from vitpipe.models.attention import Attention
from vitpipe.models.classifier import Classifier


def classifier(readout: str, depth: int = 3) -> Classifier:
    torch.manual_seed(0)
    shape = {"size": 12, "patch": 3, "dim": 16, "depth": depth, "heads": 2, "mlp": 2.0, "position": "learned"}
    net = Classifier(classes=5, channels=3, readout=readout, width=0, blocks=0, **shape)
    for block in net.encoder.blocks:
        block.attention.qkv.weight.data *= 8  # attention that differs from image to image
    return net


def pictures(count: int, size: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def test_row_of_the_class_token_or_mean_of_the_patches():
    weights = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.5, 0.5, 0.0]])
    torch.testing.assert_close(query_row(weights, token=True), torch.tensor([0.2, 0.7]))
    torch.testing.assert_close(query_row(weights, token=False), torch.tensor([0.3, 1 / 3, 1.1 / 3]))
    assert query_row(weights.expand(4, 2, 3, 3), token=True).shape == (4, 2, 2)


def test_six_steps_by_hand():
    """Two heads average to the grid [[0.1, 0.2], [0.3, 0.4]], which is [[0, 1/3], [2/3, 1]] from min to max.

    Enlarged from 2 to 4, the new pixels' centres lie at -1/4, 1/4, 3/4 and 5/4 of the old ones, and those outside
    take the border: weights 0, 1/4, 3/4, 1 of the second row and column. So the map is (2 r + c) / 3.
    """
    row = torch.tensor([[[0.2, 0.0, 0.4, 0.4], [0.0, 0.4, 0.2, 0.4]]])
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[..., 0], images[..., 1], images[..., 2] = 255, 102, 51  # 1, 0.4 and 0.2
    found = six_steps(row, images, 2)

    np.testing.assert_allclose(found["raw"], [[[0.1, 0.2], [0.3, 0.4]]], rtol=1e-6)
    step = np.array([0, 0.25, 0.75, 1])
    expected = (2 * step[:, None] + step[None, :]) / 3
    np.testing.assert_allclose(found["resized"][0], expected, atol=1e-6)
    np.testing.assert_allclose(found["attended"][0, ..., 0], np.minimum(2 * expected, 1), atol=1e-6)
    np.testing.assert_allclose(found["attended"][0, ..., 1], 0.8 * expected, atol=1e-6)
    np.testing.assert_allclose(found["attended"][0, ..., 2], 0.4 * expected, atol=1e-6)
    assert found["attended"][0, 3, 3].tolist() == pytest.approx([1, 0.8, 0.4], abs=1e-6)
    assert {name: values.dtype for name, values in found.items()} == dict.fromkeys(
        ("raw", "resized", "attended"), np.dtype("float32")
    )


@pytest.mark.parametrize(("grid", "size"), [(4, 32), (7, 28), (3, 10)])
def test_six_steps_as_pillow_does_them(grid, size):
    row = torch.randn(5, 3, grid**2, generator=torch.Generator().manual_seed(1)).softmax(-1)
    images = pictures(5, size)
    found = six_steps(row, images, grid)
    for i in range(5):
        mean = row[i].numpy().mean(0).reshape(grid, grid)
        np.testing.assert_allclose(found["raw"][i], mean, rtol=1e-5)
        large = np.asarray(Image.fromarray(mean).resize((size, size), Image.Resampling.BILINEAR))
        normal = (large - large.min()) / (large.max() - large.min())
        np.testing.assert_allclose(found["resized"][i], normal, atol=1e-5)
        attended = np.clip(normal[..., None] * (images[i] / 255) * 2, 0, 1)
        np.testing.assert_allclose(found["attended"][i], attended, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1 / 17, 1.0])
def test_a_constant_map_is_zero_not_rounding_and_not_nan(weight):
    row = torch.full((2, 3, 49), weight)
    row[1, :, 5] += 0.01  # the other image's map stays
    found = six_steps(row, pictures(2, 30), 7)
    assert np.all(found["resized"][0] == 0)
    assert np.all(found["attended"][0] == 0)
    assert found["resized"][1].min() == 0
    assert found["resized"][1].max() == 1


def test_an_image_needs_its_own_row():
    with pytest.raises(AssertionError, match="2 rows of attention for 3 images"):
        six_steps(torch.ones(2, 1, 4), pictures(3), 2)


@pytest.mark.parametrize(("readout", "tokens"), [("token", 17), ("mean", 16)])
def test_view_is_what_the_model_computes(readout, tokens):
    model, images = classifier(readout), pictures(6)
    found = view(model, images)
    with torch.inference_mode(), record_attention(model) as record:
        probabilities = model(normalize(channels_first(images))).softmax(-1).numpy()
    np.testing.assert_array_equal(found["predicted"], probabilities.argmax(1))
    np.testing.assert_allclose(found["probability"], probabilities.max(1), rtol=1e-5)

    last = record.weights[:, -1].numpy()  # f h n n
    row = last[:, :, 0, 1:] if readout == "token" else last.mean(-2)
    np.testing.assert_allclose(found["heads"], row.reshape(6, 2, 4, 4) * tokens, rtol=1e-4)
    np.testing.assert_allclose(found["raw"], row.mean(1).reshape(6, 4, 4), rtol=1e-4)
    steps = six_steps(torch.from_numpy(row), images, 4)
    for name in ("resized", "attended"):
        np.testing.assert_allclose(found[name], steps[name], atol=1e-4)

    through = np.eye(tokens)
    for layer in range(3):
        through = (record.weights[:, layer].numpy().mean(1) / 2 + np.eye(tokens) / 2) @ through
    expected = through[:, 0, 1:] if readout == "token" else through.mean(1)
    np.testing.assert_allclose(found["rollout"], expected.reshape(6, 4, 4) * tokens, rtol=1e-4)


@pytest.mark.parametrize("readout", ["token", "mean"])
def test_attention_that_sees_all_tokens_equally_is_one(readout):
    model = classifier(readout, depth=1)
    torch.nn.init.zeros_(model.encoder.blocks[0].attention.qkv.weight)
    found = view(model, pictures(2))
    np.testing.assert_allclose(found["heads"], 1, rtol=1e-5)
    assert not found["attended"].any()


def test_batches_change_nothing_and_the_model_stays(monkeypatch):
    model, images = classifier("token").train(), pictures(5)
    model.head.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole = view(model, images)
    monkeypatch.setattr(class_token, "WEIGHTS_AT_ONCE", 2 * 3 * 2 * 17 * 17)  # two images at a time
    parts = view(model, images)
    assert set(whole) == {"heads", "raw", "resized", "attended", "rollout", "probability", "predicted"}
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=1e-3, atol=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert model.encoder.blocks[0].training
    assert not model.head.training
    assert all(module.recorder is None for module in model.modules() if isinstance(module, Attention))
