"""The report of both tasks, and the order in which weights become random."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vitpipe.explain.faithfulness import cascade, faithfulness

TASKS = pytest.mark.parametrize("name", ["classify", "supersample"])


@pytest.fixture
def given(made, test):
    """A task that takes little time, a model and one with other weights, and images."""

    def make(name: str):
        (task, model), (_, other) = (made(name, seed, sharp=1) for seed in (0, 1))
        task.effort = replace(task.effort, curve_images=4, curve_points=4, randomised_images=3)
        ask = task.questions
        task.questions = lambda *about: replace(ask(*about), samples=2, steps=2)
        return task, model, other, test

    return make


@TASKS
def test_report_and_arrays_of_both_tasks(given, unchanged, name):
    task, model, other, test = given(name)
    with unchanged(model):
        report, arrays = faithfulness(task, model, other, test)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    figure, summary = arrays["methods"], arrays["faithfulness"]
    rows = [list(test.samples.index).index(sample) for sample in figure["ids"]]
    size = "lr" if name == "classify" else "hr"  # as the model sees them; the window lies in its output
    np.testing.assert_array_equal(figure["images"], test.images(size, np.array(rows)))
    names = list(figure["methods"])
    assert names == [entry["method"] for entry in report["methods"]] == list(summary["methods"])
    assert figure["maps"].shape == (len(names), 4, 4, 4)
    assert figure["pixels"].shape == (len(figure["pixel_methods"]), 4, 12, 12)
    assert list(summary["steps"]) == ["head", "block 2", "block 1", "embedding"]
    assert set(summary["controls"]) == {"random", "centre", "edge"} | ({"near"} if name == "supersample" else set())
    assert report["relevance"]["deletion"] == round(summary["deletion_area"][names.index("relevance"), 0], 4)
    assert (report["images"], summary["images"], report["images_randomised"]) == (4, 4, 3)
    deleted = [0, 1, 4, 9, 16] if name == "classify" else [0, 1, 2, 6, 15]
    assert summary["share"].tolist() == [count / deleted[-1] for count in deleted]
    for curve in ("deletion", "insertion"):
        means = summary[curve][:, 0]
        assert np.ptp(means[:, [0, -1]], axis=0).max() < 1e-6, "all orders begin and end alike"
        assert ((summary[curve] >= 0) & (summary[curve] <= 1 + 1e-6)).all()
    protocol = report["protocol"][0]
    assert protocol.keys() >= {"deletion", "insertion", "random", "deleted", *names}
    assert protocol["score"] == summary["score"] == task.explanation_protocol["score"]
    if name == "supersample":
        assert 0 < report["diffusion_index"] < 100
        assert figure["windows"].shape == (4, 4)
        assert summary["deletion"][0, 0, [0, -1]] == pytest.approx([1, 0], abs=1e-6)
        assert (np.diff(figure["windows"][:, [0, 2]]) == 6).all()
    else:
        assert figure["predicted"].shape == figure["actual"].shape == (4,)
    again, _ = faithfulness(task, model, other, test)
    assert again == report


def test_memory_sized_parts_change_nothing(given, monkeypatch):
    task, model, other, test = given("supersample")
    monkeypatch.setattr("vitpipe.explain.methods.PIXELS_AT_ONCE", 12**2)
    _, parts = faithfulness(task, model, other, test)
    monkeypatch.undo()
    _, whole = faithfulness(task, model, other, test)
    np.testing.assert_allclose(parts["methods"]["maps"], whole["methods"]["maps"], rtol=2e-3, atol=1e-5)
    for curve in ("deletion", "correlations"):
        np.testing.assert_allclose(parts["faithfulness"][curve], whole["faithfulness"][curve], atol=0.05)


def test_raw_attention_does_not_see_the_head_but_the_gradient_does(given):
    _, arrays = faithfulness(*given("classify"))
    found = dict(zip(arrays["faithfulness"]["methods"], arrays["faithfulness"]["correlations"][:, 0, 0], strict=True))
    assert found["raw"] == pytest.approx(1, abs=1e-6)
    assert found["gradient"] < 0.999


def same(one: nn.Module, other: nn.Module) -> set[str]:
    pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
    return {name for (name, tensor), other in pairs if torch.equal(tensor, other)}


@pytest.fixture
def models(made):
    """A model all of whose parameters differ from those of the other, whose head may be as training begins."""

    def pair(name: str):
        task, trained = made(name)
        for parameter in trained.parameters():
            parameter.data += 0.01 + 0.1 * torch.rand(parameter.shape)
        return trained, task.build()

    return pair


def test_weights_become_random_from_the_head_down_to_the_embedding(models):
    trained, fresh = models("classify")
    before, names = copy.deepcopy(trained), set(trained.state_dict())
    starts = {
        "head": ("head.", "encoder.norm."),
        "block 2": ("encoder.blocks.1.",),
        "block 1": ("encoder.blocks.0.",),
        "embedding": ("stem", "encoder.patch_embed", "encoder.cls_token", "encoder.pos_embed"),
    }
    done: set[str] = set()
    steps = []
    for step, mixed in cascade(trained, fresh, seed=0):
        steps.append(step)
        done |= {name for name in names if name.startswith(starts[step])}
        assert same(mixed, fresh) == done
        assert same(mixed, trained) == names - done
    assert steps == list(starts)
    assert done == same(trained, before) == names


def test_weights_that_start_at_zero_are_shuffled(models):
    trained, fresh = models("supersample")
    assert not fresh.head.weight.any()
    shuffled = []
    for seed in (0, 0, 1):
        _, mixed = next(cascade(trained, fresh, seed))
        assert not torch.equal(mixed.head.weight, trained.head.weight)
        assert torch.equal(mixed.head.weight.flatten().sort()[0], trained.head.weight.flatten().sort()[0])
        assert torch.equal(mixed.patch_unembed.weight, fresh.patch_unembed.weight)
        shuffled.append(mixed.head.weight)
    assert torch.equal(shuffled[0], shuffled[1])
    assert not torch.equal(shuffled[0], shuffled[2])
