"""The page is given the weights of the images it names, within the error it states, and no more than the budget."""

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import normalize
from vitpipe.explain import explorer as explained
from vitpipe.explain.capture import record_attention
from vitpipe.explain.explorer import ERROR, LEAST, deflated, encode, evenly, explorer, values
from vitpipe.metrics.image_quality import image_quality
from vitpipe.tasks import classify, supersample

CPU = torch.device("cpu")
CLASSIFY = {"task.name": "classify", "task.target": "label"}


@pytest.fixture
def table(table) -> pd.DataFrame:
    return table.assign(label=[("round", "square")[i % 2] for i in range(len(table))])


@pytest.fixture
def supersampled(packed, settings) -> tuple[Any, PackedDataset, Any]:
    torch.manual_seed(0)
    made = settings()
    model = supersample.build(made)
    torch.nn.init.normal_(model.last.weight, std=0.05)  # else it gives bicubic
    return sharp(model), PackedDataset(packed / "test", "label"), made


@pytest.fixture
def classified(packed, settings) -> tuple[Any, PackedDataset, Any]:
    torch.manual_seed(0)
    made, part = settings(**CLASSIFY), PackedDataset(packed / "test", "label")
    return sharp(classify.build(made, part.classes)), part, made


def sharp(model: Any) -> Any:
    """The model with attention that differs from image to image."""
    for block in model.encoder.blocks:
        block.attention.qkv.weight.data *= 8
    return model


def rows_of(arrays: dict[str, np.ndarray], packed: PackedDataset) -> np.ndarray:
    return packed.samples.index.get_indexer(arrays["ids"])


def weights_of(model: Any, packed: PackedDataset, rows: np.ndarray) -> np.ndarray:
    lr = torch.from_numpy(packed.images("lr", rows)).permute(0, 3, 1, 2)
    with torch.inference_mode(), record_attention(model) as record:
        model(normalize(lr))
    return record.weights.numpy()


def decoded(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return arrays["values"].astype(np.float64)[arrays["codes"]]


def test_error_of_a_code_is_as_stated():
    weights = torch.logspace(0, np.log10(LEAST), 100_000, dtype=torch.float64)
    found = values().astype(np.float64)[encode(weights).numpy()]
    errors = np.abs(found / weights.numpy() - 1)
    assert errors.max() <= ERROR + 1e-6
    assert errors.max() > 0.99 * ERROR  # the statement is no looser than need be
    assert 0.0246 < ERROR < 0.0248


def test_weights_below_the_least_code():
    weights = torch.linspace(0, LEAST, 10_001, dtype=torch.float64)
    found = values().astype(np.float64)[encode(weights).numpy()]
    assert np.abs(found - weights.numpy()).max() <= LEAST / 2 * (1 + 1e-6)


def test_codes_are_monotone_and_both_ends_exact():
    weights = torch.cat([torch.zeros(1), torch.logspace(-12, 0, 5000)])
    codes = encode(weights).int()
    assert (codes.diff() >= 0).all()
    assert [int(codes[0]), int(codes[-1])] == [0, 255]
    assert [values()[0], values()[255]] == [0, 1]
    assert (np.diff(values()) > 0).all()
    np.testing.assert_array_equal(encode(torch.from_numpy(values())), np.arange(256))


@pytest.mark.parametrize("kind", ["supersampled", "classified"])
def test_weights_are_those_of_each_image(request, kind):
    model, packed, settings = request.getfixturevalue(kind)
    arrays = explorer(model, packed, settings, CPU)
    rows = rows_of(arrays, packed)
    exact = weights_of(model, packed, rows)
    tokens = 16 + (kind == "classified")
    assert arrays["codes"].shape == exact.shape == (12, 2, 2, tokens, tokens)
    assert arrays["codes"].dtype == np.uint8
    np.testing.assert_allclose(decoded(arrays), exact, rtol=ERROR + 1e-5, atol=LEAST / 2)
    assert [int(arrays["heads"]), bool(arrays["averaged"])] == [2, False]
    assert bool(arrays["token"]) == (kind == "classified")
    assert int(arrays["grid"]) ** 2 + bool(arrays["token"]) == tokens
    assert float(arrays["error"]) == ERROR


def test_pictures_are_what_evaluate_scores(supersampled):
    model, packed, settings = supersampled
    arrays = explorer(model, packed, settings, CPU)
    rows = rows_of(arrays, packed)
    lr, hr = packed.images("lr", rows), packed.images("hr", rows)
    expected = {
        "lr": lr,
        "hr": hr,
        "bicubic": supersample.interpolated(lr, 2, "bicubic"),
        "model": supersample.predict(model, lr, CPU),
    }
    for name, images in expected.items():
        np.testing.assert_array_equal(arrays[name], images, err_msg=name)
    assert (arrays["model"] != arrays["bicubic"]).any()
    for name in ("bicubic", "model"):
        np.testing.assert_allclose(arrays[f"psnr_{name}"], image_quality(expected[name], hr, 2)["psnr"])


def test_predictions_are_those_of_evaluate(classified):
    model, packed, settings = classified
    arrays = explorer(model, packed, settings, CPU)
    rows = rows_of(arrays, packed)
    np.testing.assert_array_equal(arrays["images"], packed.images("lr", rows))
    np.testing.assert_allclose(arrays["probabilities"], classify.predict(model, packed, CPU)[rows], atol=1e-6)
    names = np.array(packed.classes)
    np.testing.assert_array_equal(arrays["actual"], names[packed.labels[rows]])
    np.testing.assert_array_equal(arrays["predicted"], names[arrays["probabilities"].argmax(1)])
    assert len(set(arrays["actual"])) == 2


@pytest.mark.parametrize("kind", ["supersampled", "classified"])
def test_arrays_need_no_pickle(request, kind):
    arrays = explorer(*request.getfixturevalue(kind), CPU)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as back:
        assert set(back) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[name], array)


def test_as_many_images_as_fit(supersampled, monkeypatch):
    model, packed, settings = supersampled
    every = explorer(model, packed, settings, CPU)
    sizes = [deflated(image) for image in every["codes"]]
    monkeypatch.setattr(explained, "BUDGET", int(5.5 * np.mean(sizes)))
    arrays = explorer(model, packed, settings, CPU)
    assert len(arrays["ids"]) in (4, 5)
    assert not arrays["averaged"]
    assert sum(deflated(image) for image in arrays["codes"]) <= explained.BUDGET
    rows = rows_of(arrays, packed)
    assert [rows[0], rows[-1]] == [0, 11] if len(rows) > 1 else [0]
    assert set(np.diff(rows)) <= {2, 3, 4}  # evenly_spaced
    np.testing.assert_array_equal(arrays["codes"], every["codes"][rows])
    np.testing.assert_array_equal(arrays["hr"], packed.images("hr", rows))


def test_means_over_heads_where_one_image_does_not_fit(supersampled, monkeypatch):
    model, packed, settings = supersampled
    every = explorer(model, packed, settings, CPU)
    monkeypatch.setattr(explained, "BUDGET", min(deflated(image) for image in every["codes"]) - 1)
    arrays = explorer(model, packed, settings, CPU)
    assert arrays["averaged"]
    assert int(arrays["heads"]) == 2
    assert arrays["codes"].shape[1:] == (2, 1, 16, 16)
    exact = weights_of(model, packed, rows_of(arrays, packed)).mean(2, keepdims=True)
    np.testing.assert_allclose(decoded(arrays), exact, rtol=ERROR + 1e-5, atol=LEAST / 2)


def test_one_image_whatever_its_size(supersampled, monkeypatch):
    monkeypatch.setattr(explained, "BUDGET", 1)
    arrays = explorer(*supersampled, CPU)
    assert [len(arrays["ids"]), len(arrays["codes"]), len(arrays["hr"])] == [1, 1, 1]
    assert arrays["averaged"]


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(supersampled, training):
    model, packed, settings = supersampled
    model.train(training)
    explorer(model, packed, settings, CPU)
    assert all(module.training == training for module in model.modules())
    assert all(block.attention.recorder is None for block in model.encoder.blocks)


def test_even_places():
    assert [list(evenly(12, count)) for count in (1, 2, 4, 12)] == [[0], [0, 11], [0, 4, 7, 11], list(range(12))]
