"""Planted truth: what is measured of models whose attention is known by construction.

The images are black, 48x48 with bright eyes in patches of 4x4, so 24x24 and 2x2 as the model sees them: a grid of
12x12 tokens. Each face lies up to one patch off the usual place.
"""

import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.explain.measure import measure
from vitpipe.metrics.regions import regions
from vitpipe.models.classifier import Classifier
from vitpipe.report.format import region_verdict
from vitpipe.sources import LANDMARKS
from vitpipe.tasks.base import scoring_task

GRID = 12
N = GRID**2
E = N + 1  # dimension of a head: one coordinate for each place, and one for brightness
USUAL = np.array([[18, 18], [30, 18], [24, 24], [20, 28], [28, 28]])  # landmarks; eyes in the middle of their patches
EYES = (4 * GRID + 4, 4 * GRID + 7)
IN_PART = {"train": 4, "val": 12, "test": 24}


def offset(sample: str, wander: bool) -> np.ndarray:
    """By how many pixels, whole patches, a face lies off the usual place."""
    return 4 * np.random.default_rng(list(sample.encode())).integers(-1, 2, 2) * wander


class Eyes:
    """Faces that are nothing but two bright eyes; `shuffled` puts these anywhere instead."""

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


@pytest.fixture
def given(request, tmp_path, settings):
    """Measurements of a model on such images: `given(model, untrained)`."""
    images = Eyes(wander=request.param != "still", shuffled=request.param == "shuffled")
    parts = [part for part, count in IN_PART.items() for _ in range(count)]
    index = pd.Index([f"{i:03d}.png" for i in range(len(parts))], name="id")
    points = np.stack([USUAL + offset(sample, images.wander) for sample in index]).reshape(len(parts), -1)
    labels = {"part": parts, "landmarks": "annotated", "odd": [i % 2 * 2 - 1 for i in range(len(parts))]}
    table = pd.DataFrame(points, index, list(LANDMARKS)).astype(float).assign(**labels)
    folder = tmp_path / "packed"
    folder.mkdir()
    checked = settings("classify", **{"data.size": 48})
    pack(table, images, checked.data, folder)
    task = scoring_task(checked, ("not odd", "odd"))
    val, test = (PackedDataset(folder / part, "odd") for part in ("val", "test"))

    def numbers(model: Classifier, untrained: Classifier | None = None) -> dict:
        found, _ = measure(task, model, untrained or planted(checked, ("uniform",)), val, test)
        json.dumps(found, allow_nan=False)
        return found

    numbers.planted = partial(planted, checked)
    return numbers


def on(*kinds: str):
    """The kind of images that a test is about."""
    return pytest.mark.parametrize("given", kinds, indirect=True)


def planted(settings, *layers: tuple[str, ...], pool: str = "avg", place: bool = False) -> Classifier:
    """A classifier whose heads attend as named; one tuple of equal length for each layer. With `place` each has a wide
    place term as well.

    uniform: to all alike; eyes: to the usual place of the eyes; about: to 3x3 patches about these; bright: to bright
    patches, wherever; faint: the same, e^-6 as much as to the upper left corner.
    """
    heads, strong = len(layers[0]), 40.0
    shape = {"patch": 2, "dim": E * heads, "depth": len(layers), "heads": heads, "mlp_ratio": 0.02, "pool": pool}
    shape |= {"place": place}
    model = settings.model.model_copy(update=shape | {"in_chans": 1, "conv_channels": 0, "conv_blocks": 0})
    net = Classifier(model, size=24, classes=2).eval()
    torch.nn.init.zeros_(net.head.weight)  # no head's importance needs a pass
    encoder = net.encoder
    for tensor in (encoder.patch_embed.weight, encoder.patch_embed.bias, encoder.pos_embed):
        torch.nn.init.zeros_(tensor)
    encoder.patch_embed.weight.data[N] = 1 / 4  # mean of the patch
    encoder.pos_embed.data[0, -N:, :N] = torch.eye(N)
    for block, names in zip(encoder.blocks, layers, strict=True):
        block.norm1 = torch.nn.Identity()
        for tensor in (*block.attn.parameters(), *block.mlp.parameters()):
            torch.nn.init.zeros_(tensor)
        if place:
            block.place.sharpness.data.fill_(0.1)
        k = block.attn.qkv.weight.data.unflatten(0, (3, heads, E))[1]
        asked = block.attn.qkv.bias.data.unflatten(0, (3, heads, E))[0]
        for head, name in enumerate(names):
            if name == "faint":
                asked[head, 0] = strong
                k[head, 0, N] = 0.1 * strong
                k[head, 0, 0] = 0.2 * strong + 6 * E**0.5 / strong
            elif name != "uniform":
                asked[head, 0] = strong
                k[head, 0, N if name == "bright" else places(name)] = strong
    return net


def places(name: str) -> list[int]:
    around = range(-1, 2) if name == "about" else range(1)
    return [eye + GRID * row + column for eye in EYES for row in around for column in around]


def heads_of(found: dict, name: str) -> list[float]:
    return [head[name] for layer in found["layers"] for head in layer["heads"]]


@on("still")
def test_the_head_that_looks_at_the_eyes_is_found(given):
    found = given(given.planted(("uniform", "eyes")))
    assert heads_of(found, "entropy") == pytest.approx([1, math.log(2) / math.log(N)], abs=1e-5)
    x, y = np.divmod(np.arange(N), GRID)
    to_eyes = np.mean([2 * np.hypot(x - eye // GRID, y - eye % GRID) for eye in EYES])
    assert heads_of(found, "distance") == pytest.approx([found["distance_uniform"], to_eyes], abs=1e-5)
    area = float(regions(USUAL[None].astype(float), 48, GRID)[0, 0].mean())
    assert heads_of(found, "lift_eyes") == pytest.approx([1, 1 / area], abs=1e-4)
    assert heads_of(found, "lift_mouth")[1] == heads_of(found, "lift_background")[1] == 0
    eyes = found["regions"]["eyes"]
    assert (eyes["layer"], eyes["head"]) == (1, 2)
    assert (eyes["mass"], eyes["pointing"]) == (pytest.approx(1), pytest.approx(1))
    assert eyes["lift"] == eyes["lift_low"] == eyes["lift_high"] == pytest.approx(1 / area, abs=1e-4)
    assert eyes["lift_untrained"] == pytest.approx(1, abs=1e-5)
    assert found["protocol"][0]["landmarks"].startswith("annotated")


PLACES = {"lift_low": (5, 100), "content_lift": (1, 1), "content_lift_low": (1, 1), "content_lift_high": (1, 1)}
FOLLOWS = {"mass": (0.999, 1.001), "pointing": (0.999, 1.001), "content_lift_low": (5, 100)}


@pytest.mark.parametrize(
    ("given", "heads", "expected"),
    [
        ("wandering", ("uniform", "about"), PLACES | {"head": (2, 2), "survives": (0, 0)}),  # knows only places
        ("shuffled", ("uniform", "about"), PLACES | {"survives": (0, 0)}),
        ("wandering", ("about", "bright"), FOLLOWS | {"head": (2, 2), "survives": (1, 1)}),
        ("shuffled", ("bright",), {"lift_low": (0, 1), "survives": (0, 0)}),  # follows content that is no eye
        ("wandering", ("faint",), {"content_lift_low": (1.5, 100), "lift": (0.1, 0.9), "survives": (0, 0)}),
    ],
    indirect=["given"],
)
def test_a_head_survives_only_if_it_looks_at_the_eyes_and_follows_them(given, heads, expected):
    eyes = given(given.planted(heads))["regions"]["eyes"]
    for name, (low, high) in expected.items():
        assert low <= eyes[name] <= high, name
    assert eyes["lift_place"] == pytest.approx(1, abs=1e-5)  # there is no place term
    for end in ("", "_low", "_high"):
        assert eyes[f"lift_content{end}"] == pytest.approx(eyes[f"lift{end}"], rel=1e-5, abs=1e-5)


@on("wandering")
def test_content_is_what_a_head_adds_to_its_place_term(given):
    """Of the heads with a place term one has nothing else, the other finds what is bright."""
    term = given.planted(("uniform",), place=True)
    found = given(term, term)
    alone = found["regions"]["eyes"]
    assert (found["content"], found["content_importance"], found["by_place"]) == (0, 0, 1)
    assert alone["lift"] == alone["lift_place"] > 1.05  # the eyes lie where windows overlap
    assert [alone[f"lift_content{end}"] for end in ("", "_low", "_high", "_untrained")] == [1, 1, 1, 1]
    assert (alone["content_lift"], alone["survives"]) == (1, 0)
    assert region_verdict(alone) == "looks by place"
    found = given(given.planted(("uniform", "bright"), place=True), given.planted(("uniform",) * 2, place=True))
    eyes = found["regions"]["eyes"]
    assert heads_of(found, "content")[0] == 0
    assert heads_of(found, "content")[1] > 0.5
    assert (eyes["head"], eyes["survives"]) == (2, 1)
    assert eyes["lift_content_low"] > 5
    assert eyes["lift_content"] * alone["lift_place"] == pytest.approx(eyes["lift"], rel=0.05)
    assert region_verdict(eyes) == "looks at it and follows it when it moves"


@on("wandering")
def test_the_class_token_is_asked_where_there_is_one(given):
    """All but the class token look at the usual place; the class token looks at what is bright."""
    model = given.planted(("bright",), pool="token")
    attention = model.encoder.blocks[0].attn
    with torch.no_grad():
        model.encoder.cls_token.zero_()
        attention.qkv.weight[1, :N] = 80  # every patch asks for the usual place as well, and more
        attention.qkv.weight[E + 1, places("eyes")] = 80
    eyes = given(model, given.planted(("uniform",), pool="token"))["regions"]["eyes"]
    assert eyes["mass"] == pytest.approx(1, abs=1e-3)
    assert eyes["survives"] == 1
