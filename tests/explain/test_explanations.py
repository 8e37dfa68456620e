"""All that the explain stage writes: which arrays there are, and that the stage writes these."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitpipe.errors import InputError
from vitpipe.explain import per_class
from vitpipe.explain.explanations import explain
from vitpipe.explain.per_class import attention_per_class
from vitpipe.figures import draw
from vitpipe.training.checkpoint import save_weights

CLASSES = ("east", "north", "south", "west")
LABEL = {"task.target": "label", "classes": CLASSES}
ALWAYS = {"filters", "methods", "faithfulness"}
GENERAL = ALWAYS | {"maps", "distances", "explorer"}
SINGLE = {"class_attention", "pixels"}
AVERAGE = LABEL | {"model.pool": "avg"}


@pytest.fixture
def table(table):
    """Of the 12 test images 4 are north, 4 south, 3 west and 1 is east."""
    label = [CLASSES[i % 4] for i in range(48)] + [*["north", "south", "west"] * 3, "north", "south", "east"]
    return table.assign(label=label)


@pytest.fixture
def given(made, val, test):
    """What `explain` takes, with a task that takes little time."""

    def make(name: str, **changes):
        task, model = made(name, **changes)
        task.effort = replace(task.effort, curve_images=2, curve_points=2, randomised_images=1, head_images=4)
        ask = task.questions
        task.questions = lambda *about: replace(ask(*about), samples=1, steps=1)
        untrained, other = (made(name, seed, **changes)[1] for seed in (1, 2))
        target = task.settings.target
        return task, model, untrained, other, replace(val, target=target), replace(test, target=target)

    return make


@pytest.mark.parametrize(
    ("name", "changes", "more"),
    [
        ("supersample", {"model.place": True}, {"positions", "place"}),
        ("classify", LABEL, SINGLE | {"positions", "per_class"}),
        ("classify", AVERAGE | {"model.position": "none"}, SINGLE | {"per_class"}),
        ("classify", LABEL | {"model.attention": "uniform"}, SINGLE | {"positions", "per_class"}),
        ("supersample", {"model.attention": "place", "model.place": True}, {"positions", "place"}),
    ],
)
def test_arrays_are_those_that_there_is_something_to_show_of(given, unchanged, name, changes, more):
    models = given(name, **changes)
    with unchanged(models[1]):
        attention, faithfulness, arrays = explain(*models)
    assert set(arrays) == GENERAL | more
    assert attention["images"] == 12
    json.dumps([attention, faithfulness], allow_nan=False)
    for found in arrays.values():
        assert all(isinstance(values, np.ndarray) and values.dtype.kind != "O" for values in found.values())
    if "pixels" in more:
        assert list(arrays["class_attention"]["ids"]) == list(arrays["pixels"]["ids"])
        assert len(arrays["pixels"]["ids"]) == 6
    again = explain(*models)
    assert (again[0], again[1]) == (attention, faithfulness)


@pytest.mark.parametrize("changes", [{"model.attention": "none"}, {"model.depth": 0}], ids=str)
@pytest.mark.parametrize(("name", "more"), [("supersample", {}), ("classify", AVERAGE)])
def test_what_needs_attention_is_null_where_there_is_none(given, unchanged, tmp_path, name, more, changes):
    measured, trusted, _ = explain(*given(name, **more))
    models = given(name, **more, **changes)
    with unchanged(models[1]):
        attention, faithfulness, arrays = explain(*models)
    json.dumps([attention, faithfulness], allow_nan=False)
    assert set(arrays) == ALWAYS | {"positions"} | ({"pixels"} if name == "classify" else set())

    kept = {"distance_uniform", "images"}
    norms = {"outliers", "norm_ratio"} if "model.attention" in changes else set()  # of blocks, which there are
    assert attention.keys() == measured.keys()
    assert {key for key, value in attention.items() if isinstance(value, int | float)} == kept | norms
    assert {key for key, value in attention["untrained"].items() if value is not None} == norms
    assert attention["untrained"].keys() == measured["untrained"].keys()
    assert attention["replaced"] == {kind: dict.fromkeys(drops) for kind, drops in measured["replaced"].items()}
    assert (attention["layers"], attention["regions"]) == ([], None)
    assert attention["protocol"][0]["attention"].startswith("null: the model computes no attention")

    assert faithfulness.keys() == trusted.keys()
    for method in ("raw", "rollout", "relevance"):
        assert faithfulness[method] == dict.fromkeys(trusted[method])
        assert faithfulness["protocol"][0][method].startswith("null: the model computes no attention")
    names = [entry["method"] for entry in faithfulness["methods"]]
    assert names == [entry["method"] for entry in trusted["methods"]][3:] == list(arrays["methods"]["methods"])
    assert all(isinstance(faithfulness[method]["deletion"], float) for method in [*names, "random", "centre"])

    draw(arrays, tmp_path)
    pictures = {"filters", "positions", "position_matrix", "methods", "faithfulness"}
    pictures |= {"pixels"} if name == "classify" else set()
    assert json.loads((tmp_path / "captions.json").read_text()).keys() == {f"{picture}.png" for picture in pictures}


def test_nothing_is_compared_where_every_class_has_one_image(given, monkeypatch):
    monkeypatch.setattr(per_class, "IMAGES", 1)
    assert "per_class" not in explain(*given("classify", **LABEL))[2]


@pytest.mark.parametrize(
    ("show", "chosen"), [(None, ["north", "south", "west"]), (("west", "north"), ["west", "north"])]
)
def test_attention_per_class_is_of_the_first_three_or_of_those_asked_for(given, attention_of, show, chosen):
    _, model, *_, test = given("classify", **LABEL)
    found = attention_per_class(model, test, show, seed=0)
    assert list(found["classes"]) == chosen
    rows = attention_of(model, test).mean(2)[:, :, 0, 1:].reshape(12, 2, 4, 4).numpy() * 17
    labels, images = test.samples["label"].to_numpy(), test.images("lr", np.arange(12))
    np.testing.assert_allclose(found["all_median"], np.median(rows, axis=0), rtol=1e-4)
    for i, name in enumerate(chosen):
        assert found["counts"][i] == (labels == name).sum()
        np.testing.assert_allclose(found["median"][i], np.median(rows[labels == name], axis=0), rtol=1e-4)
        np.testing.assert_allclose(found["difference"][i], found["median"][i] - found["all_median"], atol=1e-6)
        np.testing.assert_allclose(found["images"][i], images[labels == name].mean(0), rtol=1e-5)
    assert found["p"].shape == (len(chosen), 2, 4, 4)
    assert found["query"] == "class token"


@pytest.mark.parametrize(
    ("show", "told"),
    [
        (("north", "up"), "task.show names 'up', but the classes are east, north, south, west"),
        (("east", "north"), "task.show names 'east', but fewer than 2 of the 12 test images show it"),
    ],
)
def test_classes_that_cannot_be_shown(given, show, told):
    _, model, *_, test = given("classify", **LABEL)
    with pytest.raises(InputError) as error:
        attention_per_class(model, test, show, seed=0)
    assert str(error.value) == told


def test_the_stage_compares_with_the_weights_that_training_began_with(packed, stage, made, tmp_path):
    """Of a model that learned nothing the two are the same; and others are put in to see whether maps change."""
    task, _ = made("classify", **LABEL)
    torch.manual_seed(task.settings.seed)
    begun = task.build()
    metadata = {"settings": task.settings.model_dump(), "classes": list(CLASSES)}
    save_weights(tmp_path / "models" / "model.safetensors", begun.state_dict(), metadata)
    done = stage("explain", task="classify", **{"task.target": "label"})
    assert done.returncode == 0, done.stderr
    reports = tmp_path / "reports"
    attention = json.loads((reports / "attention.json").read_text(encoding="utf-8"))
    assert attention["untrained"] == {name: attention[name] for name in attention["untrained"]}
    methods = json.loads((reports / "faithfulness.json").read_text(encoding="utf-8"))["methods"]
    assert max(method["randomised"][-1]["correlation"] for method in methods) < 0.9
    names = GENERAL | SINGLE | {"positions", "per_class"}
    assert {path.name for path in (reports / "explanations").iterdir()} == {f"{name}.npz" for name in names}
    with np.load(reports / "explanations" / "positions.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["trained"], saved["untrained"])
