"""The page gets the weights of the images it names, within the error it states, and no more than the budget."""

import numpy as np
import pytest
import torch

from vitpipe.explain import explorer as module
from vitpipe.explain.explorer import ERROR, LEAST, deflated, encode, explorer, values

BOTH = pytest.mark.parametrize("name", ["supersample", "classify"])


def rows_of(arrays: dict[str, np.ndarray], part) -> np.ndarray:
    return part.samples.index.get_indexer(arrays["ids"])


def decoded(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return arrays["values"].astype(np.float64)[arrays["codes"]]


def test_error_of_a_code_is_as_stated():
    weights = torch.logspace(0, np.log10(LEAST), 100_000, dtype=torch.float64)
    found = values().astype(np.float64)[encode(weights).numpy()]
    errors = np.abs(found / weights.numpy() - 1)
    assert 0.99 * ERROR < errors.max() <= ERROR + 1e-6
    assert 0.0246 < ERROR < 0.0248
    below = torch.linspace(0, LEAST, 10_001, dtype=torch.float64)
    found = values().astype(np.float64)[encode(below).numpy()]
    assert np.abs(found - below.numpy()).max() <= LEAST / 2 * (1 + 1e-6)


def test_codes_are_monotone_and_both_ends_exact():
    weights = torch.cat([torch.zeros(1), torch.logspace(-12, 0, 5000)])
    codes = encode(weights).int()
    assert (codes.diff() >= 0).all()
    assert [int(codes[0]), int(codes[-1])] == [0, 255]
    assert [values()[0], values()[255]] == [0, 1]
    assert (np.diff(values()) > 0).all()
    np.testing.assert_array_equal(encode(torch.from_numpy(values())), np.arange(256))


@BOTH
def test_weights_are_those_of_each_image(made, test, attention_of, unchanged, name):
    task, model = made(name)
    with unchanged(model):
        arrays = explorer(task, model, test)
    exact = attention_of(model, test)[rows_of(arrays, test)].numpy()
    prefix = int(name == "classify")
    assert arrays["codes"].shape == exact.shape == (12, 2, 2, 16 + prefix, 16 + prefix)
    assert arrays["codes"].dtype == np.uint8
    np.testing.assert_allclose(decoded(arrays), exact, rtol=ERROR + 1e-5, atol=LEAST / 2)
    assert [int(arrays["heads"]), bool(arrays["averaged"])] == [2, False]
    assert (arrays["grid"].tolist(), int(arrays["prefix_tokens"])) == ([4, 4], prefix)
    assert float(arrays["error"]) == ERROR


@BOTH
def test_the_outcome_is_that_of_the_task_and_needs_no_pickle(made, test, tmp_path, name):
    task, model = made(name)
    np.savez(tmp_path / "explorer.npz", allow_pickle=False, **explorer(task, model, test))
    with np.load(tmp_path / "explorer.npz", allow_pickle=False) as arrays:
        outcome = task.outcome(model, test, rows_of(arrays, test))
        assert list(arrays["pictures"]) == list(outcome.pictures)
        assert list(arrays["readings"]) == list(outcome.readings)
        for kind, found in (("picture", outcome.pictures), ("reading", outcome.readings)):
            for key, expected in found.items():
                np.testing.assert_array_equal(arrays[f"{kind}_{key}"], expected)
        assert tuple(arrays["classes"]) == outcome.classes
        if name == "supersample":
            assert "probabilities" not in arrays
            assert "actual" not in arrays
        else:
            np.testing.assert_array_equal(arrays["actual"], outcome.actual)
            np.testing.assert_allclose(arrays["probabilities"], outcome.probabilities, atol=1e-6)


def test_as_many_images_as_fit(made, test, monkeypatch):
    task, model = made()
    every = explorer(task, model, test)
    sizes = [deflated(image) for image in every["codes"]]
    monkeypatch.setattr(module, "BUDGET", int(5.5 * np.mean(sizes)))
    arrays = explorer(task, model, test)
    assert len(arrays["ids"]) in (4, 5)
    assert not arrays["averaged"]
    assert sum(deflated(image) for image in arrays["codes"]) <= module.BUDGET
    rows = rows_of(arrays, test)
    assert [rows[0], rows[-1]] == [0, 11]
    assert set(np.diff(rows)) <= {2, 3, 4}  # evenly spaced
    np.testing.assert_array_equal(arrays["codes"], every["codes"][rows])
    np.testing.assert_array_equal(arrays["picture_original"], test.images("hr", rows))


def test_means_over_heads_where_one_image_does_not_fit(made, test, attention_of, monkeypatch):
    task, model = made()
    every = explorer(task, model, test)
    monkeypatch.setattr(module, "BUDGET", min(deflated(image) for image in every["codes"]) - 1)
    arrays = explorer(task, model, test)
    assert arrays["averaged"]
    assert int(arrays["heads"]) == 2
    assert arrays["codes"].shape[1:] == (2, 1, 16, 16)
    exact = attention_of(model, test)[rows_of(arrays, test)].mean(2, keepdim=True).numpy()
    np.testing.assert_allclose(decoded(arrays), exact, rtol=ERROR + 1e-5, atol=LEAST / 2)
    monkeypatch.setattr(module, "BUDGET", 1)  # one image whatever its size
    arrays = explorer(task, model, test)
    assert [len(arrays["ids"]), len(arrays["codes"]), len(arrays["picture_input"])] == [1, 1, 1]
