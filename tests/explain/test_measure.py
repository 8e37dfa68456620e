"""The content of reports/attention.json: its numbers are those of the weights, its keys never change, its values are
never NaN, and measuring leaves the model as it was."""

import json
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_input
from vitpipe.explain.importance import head_importance
from vitpipe.explain.measure import PROTOCOL, REGIONS_PROTOCOL, measure
from vitpipe.explain.place import place_weights
from vitpipe.metrics import attention as measures

HEADS = ["self_weight", "entropy", "distance", "content", "importance", "content_importance", "by_place"]
CLASSIFY = [*HEADS[:5], "importance_loss", "content_importance", "content_importance_loss", "by_place"]
IMPORTANCE = [name for name in CLASSIFY if "importance" in name]
LAYERS = ["diversity", "output_diversity", "outliers", "norm_ratio"]
SCORES = {"layer", "head", "mass", "lift", "lift_low", "lift_high", "pointing", "survives", "lift_untrained"}
SCORES |= {"mass_untrained", "pointing_untrained", "lift_content_untrained"}
SCORES |= {"lift_place", "lift_content", "lift_content_low", "lift_content_high"}
CONTENT = {"content_lift", "content_lift_low", "content_lift_high", "content_lift_untrained"}
FACE = {"lefteye": (10, 9), "righteye": (15, 9), "nose": (12.5, 12), "leftmouth": (11, 14), "rightmouth": (14, 14)}


@pytest.fixture
def table(table):
    """Faces in the middle of the images, which have 48 pixels on each side before they are packed."""
    places = {f"{name}_{axis}": 2.0 * at["xy".index(axis)] for name, at in FACE.items() for axis in "xy"}
    return table.assign(**places)


@pytest.fixture
def report(val, test):
    """`report(task, model, untrained)`: the content of attention.json, which must be valid JSON."""

    def make(*models, parts=(val, test)) -> dict:
        found, _ = measure(*models, *parts)
        json.dumps(found, allow_nan=False)
        return found

    return make


@pytest.fixture
def models(made):
    (task, trained), (_, untrained) = made(), made(seed=1, sharp=1)
    return task, trained, untrained


def expected(task, model, part: PackedDataset, attention: torch.Tensor) -> dict[str, np.ndarray]:
    """Every measure by another way: of all images in one pass."""
    images = to_input(part.images("lr", np.arange(len(part))), torch.device("cpu"))
    outputs, norms, prefix = [], [], attention.shape[-1] - 16
    with torch.inference_mode(), ExitStack() as hooks:
        for block in model.encoder.blocks:
            hooks.enter_context(
                block.register_forward_hook(lambda m, x, out: norms.append(out.square().sum(-1).sqrt()))
            )
            hooks.enter_context(block.attn.proj.register_forward_hook(lambda m, x, out: outputs.append(x[0])))
        model(images)
    weights, norms = measures.among_patches(attention, prefix), torch.stack(norms, 1)[..., prefix:]
    alone = measures.among_patches(place_weights(model.encoder), prefix).expand_as(weights)
    heads = torch.stack(outputs)[:, :, prefix:].unflatten(-1, (2, 8))  # l f n h e
    together = heads.permute(0, 3, 1, 2, 4).flatten(2, 3)[None]
    return {
        "self_weight": measures.self_weight(weights).mean((0, 3)).numpy(),
        "entropy": measures.entropy(weights).mean((0, 3)).numpy(),
        "distance": measures.distance(weights, 3, 4).mean((0, 3)).numpy(),
        "content": (jensenshannon(weights.double(), alone.double(), 2, axis=-1) ** 2).mean((0, 3)),
        "diversity": measures.diversity(weights).mean(0).numpy(),
        "output_diversity": measures.output_diversity(together)[0].numpy(),
        "outliers": measures.outliers(norms).numpy(),
        "norm_ratio": measures.norm_ratio(norms).numpy(),
    } | head_importance(task, model, part, np.arange(len(part)))


@pytest.mark.parametrize("name", ["supersample", "classify"])
def test_numbers_are_those_of_the_weights(made, report, val, test, attention_of, name):
    (task, trained), (_, untrained) = (made(name, seed, **{"model.place": True}) for seed in (0, 1))
    found, heads = report(task, trained, untrained), CLASSIFY if name == "classify" else HEADS
    assert found["images"] == 12
    assert found["distance_uniform"] == pytest.approx(measures.uniform_distance(16, 3, 4), abs=1e-5)
    numbers = {net: expected(task, net, test, attention_of(net, test)) for net in (trained, untrained)}
    for net, means in ((trained, found), (untrained, found["untrained"])):
        for key, values in numbers[net].items():
            assert means[key] == pytest.approx(float(values.mean()), abs=2e-5), key
    for key, values in numbers[trained].items():
        for layer in range(2):
            if key in LAYERS:
                assert found["layers"][layer][key] == pytest.approx(float(values[layer]), abs=2e-5), key
                continue
            for head in range(2):
                number = found["layers"][layer]["heads"][head][key]
                assert number == pytest.approx(float(values[layer, head]), abs=2e-5), key
    lifts = [f"lift_{region}" for region in found["regions"]]
    assert [list(head) for layer in found["layers"] for head in layer["heads"]] == [heads + lifts] * 4
    assert [list(layer) for layer in found["layers"]] == [[*LAYERS, "heads"]] * 2
    _, reach = measure(task, trained, untrained, val, test)
    np.testing.assert_allclose(reach["trained"], numbers[trained]["distance"], atol=1e-5)
    np.testing.assert_allclose(reach["untrained"], numbers[untrained]["distance"], atol=1e-5)
    assert float(reach["uniform"]) == found["distance_uniform"]


def test_every_number_is_explained(made, report):
    (task, trained), (_, untrained) = made("classify"), made("classify", seed=1)
    found = report(task, trained, untrained)
    protocol = found["protocol"][0]
    assert set(found["regions"]) == {"eyes", "nose", "mouth", "background"}
    for numbers in found["regions"].values():
        assert SCORES <= set(numbers) <= SCORES | CONTENT
    names = set(found) | set(found["layers"][0]) | {"lift"} | set(found["regions"]["eyes"])
    names |= set(found["replaced"]["mean"])
    told = {name.removesuffix("_low").removesuffix("_high") for name in names}
    beside = {f"{name}_untrained" for name in ("mass", "pointing", "lift_content", "content_lift")}  # in lift_untrained
    assert told - set(protocol) - beside == {"images", "protocol", "layers", "layer", "head", "heads"}
    importance = {name: task.explanation_protocol[name] for name in (*IMPORTANCE, "drop", "drop_loss")}
    assert protocol == PROTOCOL | importance | REGIONS_PROTOCOL | {"landmarks": "annotated: those of each image"}
    assert set(found["untrained"]) == set(protocol) & set(found) - {
        "distance_uniform",
        "regions",
        "untrained",
        "replaced",
    }


def test_the_head_is_chosen_on_validation_and_scored_on_test(models, report, val, test):
    found = report(*models)["regions"]
    swapped = report(*models, parts=(test, val))
    for name, numbers in report(*models, parts=(val, val))["regions"].items():
        place = numbers["layer"], numbers["head"]
        assert (found[name]["layer"], found[name]["head"]) == place  # val chose
        own = swapped["layers"][place[0] - 1]["heads"][place[1] - 1][f"lift_{name}"]
        assert numbers["lift"] == own  # of val, where it was chosen
        assert numbers["lift"] == max(head[f"lift_{name}"] for layer in swapped["layers"] for head in layer["heads"])
        assert found[name]["lift_low"] <= found[name]["lift"] <= found[name]["lift_high"]


def test_untrained_stands_beside_and_the_model_stays_as_it_was(models, report, test, unchanged):
    task, model, _ = models
    test.samples["landmarks"] = "mean"
    with unchanged(model):
        same = report(task, model, model)
    assert report(task, model, model) == same
    assert same["protocol"][0]["landmarks"].startswith("mean: ")
    for numbers in same["regions"].values():
        assert numbers["lift_untrained"] == numbers["lift"]
        assert numbers.get("content_lift_untrained") == numbers.get("content_lift")
        assert not numbers["survives"]
    assert same["untrained"] == {name: same[name] for name in same["untrained"]}


@pytest.mark.parametrize("part", ["val", "test"])
def test_no_regions_without_landmarks_in_both_parts(models, report, part, request):
    del request.getfixturevalue(part).samples["nose_x"]
    found = report(*models)
    assert "regions" not in found
    importance = {name: models[0].explanation_protocol[name] for name in ("importance", "content_importance", "drop")}
    missing = {"regions": "not measured: fewer than 8 images have landmarks"}
    assert found["protocol"] == [PROTOCOL | importance | missing]
    assert list(found["layers"][0]["heads"][0]) == HEADS


def test_one_head_has_no_diversity(made, report):
    task, model = made(**{"model.heads": 1})
    found = report(task, model, model)
    assert not {"diversity", "output_diversity"} & {*found, *found["untrained"], *found["layers"][0]}
