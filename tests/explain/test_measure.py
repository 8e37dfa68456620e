"""The content of reports/attention.json: its numbers are those of the weights, its keys never change, its values are
never NaN, and looking leaves the model as it was."""

import json

import numpy as np
import pytest
import torch

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import normalize
from vitpipe.errors import InputError
from vitpipe.explain import explanations
from vitpipe.explain.capture import record_attention
from vitpipe.explain.importance import head_importance, record_norms, record_outputs
from vitpipe.explain.measure import FOCUS, PROTOCOL, measure, survives
from vitpipe.metrics import attention as measures
from vitpipe.models.attention import Attention
from vitpipe.tasks import classify, supersample

CPU = torch.device("cpu")
HEADS = ["self_weight", "entropy", "distance", "importance"]
LAYERS = ["diversity", "output_diversity", "outliers", "norm_ratio"]
SCORES = ["layer", "head", "mass", "lift", "lift_low", "lift_high", "pointing", "survives", "lift_untrained"]
SCORES += ["mass_untrained", "pointing_untrained"]
CONTENT = ["content_lift", "content_lift_low", "content_lift_high", "content_lift_untrained"]
FACE = {"lefteye": (10, 9), "righteye": (15, 9), "nose": (12.5, 12), "leftmouth": (11, 14), "rightmouth": (14, 14)}


@pytest.fixture
def table(table):
    """Faces in the middle of the pictures, which have 48 pixels on each side before they are packed."""
    places = {f"{name}_{axis}": 2.0 * at["xy".index(axis)] for name, at in FACE.items() for axis in "xy"}
    return table.assign(odd=2 * table["odd"] - 1, **places)


@pytest.fixture
def parts(packed) -> tuple[PackedDataset, PackedDataset]:
    return PackedDataset(packed / "val", "odd"), PackedDataset(packed / "test", "odd")


def sharpened(net):
    for block in net.encoder.blocks:
        block.attention.qkv.weight.data *= 8
    return net


@pytest.fixture
def models(settings):
    torch.manual_seed(0)
    trained = sharpened(supersample.build(settings()))
    torch.nn.init.normal_(trained.last.weight, std=0.05)
    return trained, supersample.build(settings())


@pytest.fixture
def classifiers(settings):
    torch.manual_seed(0)
    return tuple(sharpened(classify.build(settings(**{"task.name": "classify"}), ("a", "b"))) for _ in range(2))


def report(models, parts, settings, task: str = "supersample") -> dict:
    found, _ = measure(*models, task, *parts, settings(), CPU)
    json.dumps(found, allow_nan=False)
    return found


def seen(model, part: PackedDataset) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attention, outputs of heads and norms of all images in one go."""
    images = normalize(torch.from_numpy(part.images("lr", np.arange(len(part)))).permute(0, 3, 1, 2))
    with (
        torch.inference_mode(),
        record_attention(model) as weights,
        record_outputs(model) as outputs,
        record_norms(model) as norms,
    ):
        model(images)
    return weights.weights, outputs.values, norms.values


def expected(model, part: PackedDataset, task: str, token: bool) -> dict[str, np.ndarray]:
    weights, outputs, norms = seen(model, part)
    if token:
        weights, outputs, norms = measures.among_patches(weights), outputs[..., 1:, :], norms[..., 1:]
    together = outputs.permute(1, 2, 0, 3, 4).flatten(2, 3)[None]
    return {
        "self_weight": measures.self_weight(weights).mean((0, 3)).numpy(),
        "entropy": measures.entropy(weights).mean((0, 3)).numpy(),
        "distance": measures.distance(weights, 3, 4).mean((0, 3)).numpy(),
        "diversity": measures.diversity(weights).mean(0).numpy(),
        "output_diversity": measures.output_diversity(together)[0].numpy(),
        "outliers": measures.outliers(norms).numpy(),
        "norm_ratio": measures.norm_ratio(norms).numpy(),
    } | head_importance(model, task, part, np.arange(len(part)), CPU)


@pytest.mark.parametrize("task", ["supersample", "classify"])
def test_numbers_are_those_of_the_weights(models, classifiers, parts, settings, task):
    pair, token = (models, False) if task == "supersample" else (classifiers, True)
    found, names = report(pair, parts, settings, task), HEADS + ["importance_loss"] * token
    assert found["images"] == 12
    assert found["distance_uniform"] == pytest.approx(measures.uniform_distance(16, 3, 4), abs=1e-5)
    for net, means in ((pair[0], found), (pair[1], found["untrained"])):
        for name, values in expected(net, parts[1], task, token).items():
            assert means[name] == pytest.approx(float(values.mean()), abs=2e-5), name
    for name, values in expected(pair[0], parts[1], task, token).items():
        for layer in range(2):
            if name in LAYERS:
                assert found["layers"][layer][name] == pytest.approx(float(values[layer]), abs=2e-5), name
                continue
            for head in range(2):
                number = found["layers"][layer]["heads"][head][name]
                assert number == pytest.approx(float(values[layer, head]), abs=2e-5), name
    lifts = [f"lift_{name}" for name in found["focus"]]
    assert [list(head) for layer in found["layers"] for head in layer["heads"]] == [names + lifts] * 4
    assert [list(layer) for layer in found["layers"]] == [[*LAYERS, "heads"]] * 2


def test_every_number_is_explained(classifiers, parts, settings):
    found = report(classifiers, parts, settings, "classify")
    protocol = found["protocol"][0]
    regions = {"eyes", "nose", "mouth", "background"}
    assert set(found["focus"]) == regions
    for numbers in found["focus"].values():
        assert set(SCORES) <= set(numbers) <= {*SCORES, *CONTENT}
    names = set(found) | set(found["layers"][0]) | {"lift"} | set(found["focus"]["eyes"])
    told = {name.removesuffix("_low").removesuffix("_high") for name in names}
    beside = {"mass_untrained", "pointing_untrained", "content_lift_untrained"}  # told under lift_untrained
    assert told - set(protocol) - beside == {"images", "protocol", "layers", "layer", "head", "heads"}
    assert protocol == PROTOCOL | explanations("classify").IMPORTANCE | FOCUS | {
        "landmarks": "annotated: those of each image"
    }
    assert set(found["untrained"]) == set(protocol) & set(found) - {"distance_uniform", "focus", "untrained"}


def test_the_head_is_chosen_on_validation_and_scored_on_test(models, parts, settings):
    val, test = parts
    found = report(models, parts, settings)["focus"]
    swapped = report(models, (test, val), settings)
    for name, numbers in report(models, (val, val), settings)["focus"].items():
        place = numbers["layer"], numbers["head"]
        assert (found[name]["layer"], found[name]["head"]) == place  # val chose
        own = swapped["layers"][place[0] - 1]["heads"][place[1] - 1][f"lift_{name}"]
        assert numbers["lift"] == own  # of val, where it was chosen
        assert numbers["lift"] == max(head[f"lift_{name}"] for layer in swapped["layers"] for head in layer["heads"])
        assert found[name]["lift_low"] <= found[name]["lift"] <= found[name]["lift_high"]


def test_untrained_stands_beside(models, parts, settings):
    same = report((models[0], models[0]), parts, settings)
    for numbers in same["focus"].values():
        assert numbers["lift_untrained"] == numbers["lift"]
        assert numbers.get("content_lift_untrained") == numbers.get("content_lift")
        assert not numbers["survives"]
    assert same["untrained"] == {name: same[name] for name in same["untrained"]}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"lift_low": 0.9}, False),
        ({"content_lift_low": 1.0}, False),
        ({"lift_untrained": 1.6}, False),
        ({"content_lift_untrained": 1.3}, False),
        ({"content_lift_untrained": 0.4}, True),
        ({"content_lift_low": None}, False),
    ],
)
def test_a_focus_survives_above_one_and_above_the_untrained_model(changed, expected):
    numbers = {"lift_low": 1.5, "lift_untrained": 1.1, "content_lift_low": 1.2, "content_lift_untrained": 1.0} | changed
    assert survives({name: value for name, value in numbers.items() if value is not None}) is expected


def test_reach_is_the_distance_of_each_head(models, parts, settings):
    found, reach = measure(*models, "supersample", *parts, settings(), CPU)
    own = [[head["distance"] for head in layer["heads"]] for layer in found["layers"]]
    np.testing.assert_allclose(reach["trained"], own, atol=1e-6)
    assert reach["untrained"].shape == (2, 2)
    assert reach["untrained"].mean() == pytest.approx(found["untrained"]["distance"], abs=1e-6)
    assert float(reach["uniform"]) == found["distance_uniform"]


def test_mean_landmarks_are_said_so(models, parts, settings):
    parts[1].samples["landmarks"] = "mean"
    assert report(models, parts, settings)["protocol"][0]["landmarks"].startswith("mean: ")


@pytest.mark.parametrize("part", [0, 1])
def test_no_focus_without_landmarks_in_both_parts(models, parts, settings, part):
    del parts[part].samples["nose_x"]
    found = report(models, parts, settings)
    assert "focus" not in found
    assert found["protocol"] == [
        PROTOCOL
        | explanations("supersample").IMPORTANCE
        | {"focus": "not measured: fewer than 8 images have landmarks"}
    ]
    assert list(found["layers"][0]["heads"][0]) == HEADS


def test_one_head_has_no_diversity(settings, parts):
    models = [supersample.build(settings(**{"model.heads": 1})) for _ in range(2)]
    found = report(models, parts, settings)
    assert not {"diversity", "output_diversity"} & {*found, *found["untrained"], *found["layers"][0]}


def test_same_numbers_again_and_the_model_as_it_was(models, parts, settings):
    before = {name: tensor.clone() for name, tensor in models[0].state_dict().items()}
    models[0].train()
    models[0].tail.eval()
    assert report(models, parts, settings) == report(models, parts, settings)
    assert all(torch.equal(before[name], tensor) for name, tensor in models[0].state_dict().items())
    assert models[0].training
    assert not models[0].tail.training
    for module in models[0].modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not isinstance(module, Attention) or module.recorder is None


def test_model_without_attention(parts, settings):
    with pytest.raises(InputError, match=r"^Linear has no encoder, so no attention to look at$"):
        report((torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), parts, settings)
