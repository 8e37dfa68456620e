"""Planted truth: models whose attention is known by construction, measured and asked what they look at.

The pictures are black, 48x48 with bright eyes in patches of 4x4, so 24x24 and 2x2 as the model sees them: a grid of
12x12 tokens. Each face lies up to one patch off the usual place.
"""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.data.pixels import normalize
from vitpipe.sources import LANDMARKS
from vitpipe.explain import measure as measured
from vitpipe.explain.capture import record_attention
from vitpipe.explain.importance import record_norms, record_outputs
from vitpipe.explain.measure import measure
from vitpipe.metrics import attention as measures
from vitpipe.metrics.regions import regions
from vitpipe.models.classifier import Classifier

CPU = torch.device("cpu")
GRID = 12
N = GRID**2
E = N + 1  # width of a head: one coordinate for each place, and one for brightness
USUAL = np.array([[18, 18], [30, 18], [24, 24], [20, 28], [28, 28]])  # landmarks; eyes in the middle of their patches
EYES = (4 * GRID + 4, 4 * GRID + 7)
IN_PART = {"train": 4, "val": 12, "test": 24}


def offset(sample: str, wander: bool) -> np.ndarray:
    """By how many pixels, whole patches, a face lies off the usual place."""
    return 4 * np.random.default_rng(list(sample.encode())).integers(-1, 2, 2) * wander


class Eyes:
    """Faces that are nothing but two bright eyes; `shuffled` strews these anywhere instead."""

    def __init__(self, wander: bool, shuffled: bool = False) -> None:
        self.wander, self.shuffled = wander, shuffled

    def read(self, sample: str) -> Image.Image:
        pixels = np.zeros((48, 48, 3), np.uint8)
        places = (USUAL[:2] + offset(sample, self.wander)) // 4
        if self.shuffled:
            places = np.random.default_rng([1, *sample.encode()]).integers(0, GRID, (2, 2))
        for column, row in places:
            pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
        return Image.fromarray(pixels)


def folder_of(tmp_path, settings, images: Eyes) -> dict[str, PackedDataset]:
    parts = [part for part, count in IN_PART.items() for _ in range(count)]
    index = pd.Index([f"{i:03d}.png" for i in range(len(parts))], name="id")
    points = np.stack([USUAL + offset(sample, images.wander) for sample in index]).reshape(len(parts), -1)
    labels = {"part": parts, "landmarks": "annotated", "odd": [i % 2 * 2 - 1 for i in range(len(parts))]}
    table = pd.DataFrame(points, index, list(LANDMARKS)).astype(float).assign(**labels)
    folder = tmp_path / "packed"
    folder.mkdir()
    pack(table, images, settings(**{"data.size": 48}).data, folder)
    return {part: PackedDataset(folder / part, "odd") for part in ("val", "test")}


@pytest.fixture
def still(tmp_path, settings):
    return folder_of(tmp_path, settings, Eyes(wander=False))


@pytest.fixture
def wandering(tmp_path, settings):
    return folder_of(tmp_path, settings, Eyes(wander=True))


@pytest.fixture
def shuffled(tmp_path, settings):
    return folder_of(tmp_path, settings, Eyes(wander=True, shuffled=True))


def planted(*layers: tuple[str, ...], readout: str = "mean") -> Classifier:
    """A classifier whose heads attend as named; one tuple of equal length for each layer.

    uniform: to all alike; self: to itself; next: to the right neighbour (the last of a row to its left one);
    eyes: to the usual place of the eyes; about: to 3x3 patches about these; bright: to bright patches, wherever;
    faint: the same, e^-6 as much as to the upper left corner.
    """
    heads, strong = len(layers[0]), 40.0
    shape = {"size": 24, "patch": 2, "dim": E * heads, "depth": len(layers), "heads": heads, "mlp": 0.02}
    net = Classifier(classes=2, channels=1, readout=readout, width=0, blocks=0, position="learned", **shape).eval()
    encoder = net.encoder
    for tensor in (encoder.embed.weight, encoder.embed.bias, encoder.position):
        torch.nn.init.zeros_(tensor)
    encoder.embed.weight.data[N] = 1 / 4  # mean of the patch
    encoder.position.data[-N:, :N] = torch.eye(N)
    for block, names in zip(encoder.blocks, layers, strict=True):
        block.norm1 = torch.nn.Identity()
        for tensor in (*block.attention.parameters(), *block.mlp.parameters()):
            torch.nn.init.zeros_(tensor)
        q, k, v = block.attention.qkv.weight.data.unflatten(0, (3, heads, E))
        asked = block.attention.qkv.bias.data.unflatten(0, (3, heads, E))[0]
        for head, name in enumerate(names):
            v[head, :, :E] = torch.eye(E)  # what a head puts out says where it looked
            if name in ("self", "next"):
                q[head, range(N) if name == "self" else neighbours(), range(N)] = strong
                k[head, :N, :N] = strong * torch.eye(N)
            elif name == "faint":
                asked[head, 0] = strong
                k[head, 0, N] = 0.1 * strong
                k[head, 0, 0] = 0.2 * strong + 6 * E**0.5 / strong
            elif name != "uniform":
                asked[head, 0] = strong
                k[head, 0, N if name == "bright" else places(name)] = strong
    return net


def neighbours() -> list[int]:
    return [token + (1 if token % GRID < GRID - 1 else -1) for token in range(N)]


def places(name: str) -> list[int]:
    around = range(-1, 2) if name == "about" else range(1)
    return [eye + GRID * row + column for eye in EYES for row in around for column in around]


def numbers(model, parts, settings, untrained=None) -> dict:
    found, _ = measure(
        model, untrained or planted(("uniform",)), "classify", parts["val"], parts["test"], settings(), CPU
    )
    json.dumps(found, allow_nan=False)
    return found


def heads_of(found: dict, name: str) -> list[float]:
    return [head[name] for layer in found["layers"] for head in layer["heads"]]


def usual_area(index: int) -> float:
    return float(regions(USUAL[None].astype(float), 48, GRID)[0, index].mean())


def test_each_measure_of_each_head_is_the_planted_one(still, settings):
    found = numbers(planted(("self", "uniform", "next", "eyes")), still, settings)
    assert heads_of(found, "self_weight") == pytest.approx([1, 1 / N, 0, 1 / N], abs=1e-6)  # eyes: half, for two
    assert heads_of(found, "entropy") == pytest.approx([0, 1, 0, math.log(2) / math.log(N)], abs=1e-5)
    x, y = np.divmod(np.arange(N), GRID)
    to_eyes = np.mean([2 * np.hypot(x - eye // GRID, y - eye % GRID) for eye in EYES])
    assert heads_of(found, "distance") == pytest.approx([0, found["distance_uniform"], 2, to_eyes], abs=1e-5)
    area = usual_area(0)
    assert heads_of(found, "lift_eyes") == pytest.approx([0, 1, 1, 1 / area], abs=1e-4)
    assert heads_of(found, "lift_mouth")[3] == heads_of(found, "lift_background")[3] == 0
    eyes = found["focus"]["eyes"]
    assert (eyes["layer"], eyes["head"]) == (1, 4)
    assert (eyes["mass"], eyes["pointing"]) == (pytest.approx(1), pytest.approx(1))
    assert eyes["lift"] == eyes["lift_low"] == eyes["lift_high"] == pytest.approx(1 / area, abs=1e-4)
    assert eyes["lift_untrained"] == pytest.approx(1, abs=1e-5)
    assert found["protocol"][0]["landmarks"].startswith("annotated")


def test_the_diversity_of_heads_is_the_planted_one(still, settings):
    found = numbers(planted(("eyes", "eyes"), ("self", "next"), ("uniform", "uniform")), still, settings)
    assert [layer["diversity"] for layer in found["layers"]] == pytest.approx([0, 1, 0], abs=1e-5)
    equal, neighbour, uniform = (layer["output_diversity"] for layer in found["layers"])
    assert equal == uniform == 0
    assert neighbour > 0.1
    assert found["diversity"] == pytest.approx(1 / 3, abs=1e-5)


def test_heads_whose_output_is_not_used_have_no_importance_and_no_token_stands_out(still, settings):
    found = numbers(planted(("uniform", "eyes")), still, settings)
    assert heads_of(found, "importance") == heads_of(found, "importance_loss") == [0, 0]
    model = planted(("uniform", "eyes"))
    with torch.no_grad():
        model.encoder.position[3] *= 50  # and only this token: of length 50, the others of 1 and the eyes of sqrt(2)
    found = numbers(model, still, settings)
    assert found["outliers"] == pytest.approx(1 / N, abs=1e-6)
    assert found["norm_ratio"] == pytest.approx(math.sqrt(50**2 + 1) / math.sqrt(2), rel=1e-3)


def test_a_head_that_only_knows_places_does_not_survive_the_shift(wandering, settings):
    found = numbers(planted(("uniform", "about")), wandering, settings)
    eyes = found["focus"]["eyes"]
    assert (eyes["layer"], eyes["head"]) == (1, 2)
    assert eyes["lift_low"] > 5  # it does lie on the eyes, in every picture
    assert eyes["content_lift"] == eyes["content_lift_low"] == eyes["content_lift_high"] == 1
    assert eyes["survives"] == 0
    assert all(region["survives"] == 0 for region in found["focus"].values())


def test_nor_does_it_on_shuffled_content(shuffled, settings):
    eyes = numbers(planted(("uniform", "about")), shuffled, settings)["focus"]["eyes"]
    assert eyes["lift_low"] > 5
    assert (eyes["content_lift"], eyes["survives"]) == (1, 0)


def test_a_head_that_follows_the_content_survives(wandering, settings):
    found = numbers(planted(("about", "bright")), wandering, settings)
    eyes = found["focus"]["eyes"]
    assert (eyes["layer"], eyes["head"]) == (1, 2)
    assert eyes["mass"] == eyes["pointing"] == pytest.approx(1, abs=1e-3)
    assert eyes["lift"] == pytest.approx(1 / usual_area(0), rel=1e-3)
    assert eyes["content_lift_low"] > 5
    assert eyes["survives"] == 1


def test_a_head_that_follows_content_which_is_no_eye_does_not_survive(shuffled, settings):
    eyes = numbers(planted(("bright",)), shuffled, settings)["focus"]["eyes"]
    assert eyes["lift_low"] < 1
    assert eyes["survives"] == 0


def test_a_head_that_follows_the_eyes_but_hardly_looks_at_them_does_not_survive(wandering, settings):
    eyes = numbers(planted(("faint",)), wandering, settings)["focus"]["eyes"]
    assert eyes["content_lift_low"] > 1.5
    assert 0.1 < eyes["lift"] < 0.9
    assert eyes["survives"] == 0


def test_the_class_token_is_asked_where_there_is_one(wandering, settings):
    """All but the class token look at the usual place; the class token looks at what is bright."""
    model = planted(("bright",), readout="token")
    attention = model.encoder.blocks[0].attention
    with torch.no_grad():
        model.encoder.token.zero_()
        attention.qkv.weight[1, :N] = 80  # every patch asks for the usual place as well, and more
        attention.qkv.weight[E + 1, places("eyes")] = 80
    eyes = numbers(model, wandering, settings, planted(("uniform",), readout="token"))["focus"]["eyes"]
    assert eyes["mass"] == pytest.approx(1, abs=1e-3)
    assert eyes["survives"] == 1


def test_looking_changes_nothing(wandering):
    model = planted(("about", "bright"), ("next", "self"))
    model.head.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    model.encoder.blocks[0].attention.project.weight.data.fill_diagonal_(0.1)
    images = normalize(torch.from_numpy(wandering["test"].images("lr", np.arange(24))).permute(0, 3, 1, 2))
    with torch.inference_mode():
        before = model(images)
        with record_attention(model) as record, record_outputs(model), record_norms(model):
            torch.testing.assert_close(model(images), before, rtol=1e-5, atol=1e-5)
        assert torch.equal(model(images), before)
    torch.testing.assert_close(measures.self_weight(record.weights)[:, 1, 1], torch.ones(24, N))
    assert before.std() > 0


def test_without_landmarks_there_is_no_focus(still, settings, monkeypatch):
    monkeypatch.setattr(measured.focus, "LANDMARKS", ("no_x", "no_y"))
    found = numbers(planted(("uniform", "eyes")), still, settings)
    assert "focus" not in found
    assert "lift" not in found["protocol"][0]
    assert set(found["layers"][0]["heads"][0]) == {
        "self_weight",
        "entropy",
        "distance",
        "importance",
        "importance_loss",
    }
