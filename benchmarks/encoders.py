"""Encoder speed: forward pass and training step of our encoder beside those of timm, torchvision and vit-pytorch."""

from pathlib import Path
from typing import Any

import yaml

from benchmarks.encoders_document import figures, markdown
from benchmarks.machine import SIDE, product, types
from benchmarks.peers import ENCODERS, PEERS, Shape, make, parameters, path
from benchmarks.timing import TURN, measure, quartiles
from vitpipe.config import Model, Settings
from vitpipe.progress import progress

__all__ = ["TITLE", "figures", "markdown", "run"]

TITLE = "Encoder speed"
ROUNDS = 10  # as many as competitors, so each comes once after each of the others
KINDS = ("training", "forward")
CONF = Path("conf")


def shapes(settings: Settings) -> dict[str, Shape]:
    """What is compared, by name: four shapes to span the range, and the encoders of three models."""
    content = [yaml.safe_load((CONF / name).read_text()) for name in ("config.yaml", "recipe/cifar10.yaml")]
    cifar = Model.model_validate(content[0]["model"] | content[1]["model"])
    data = content[0]["data"] | content[1]["data"]
    return {
        "64 tokens": Shape(64, 256, 4, 8),
        "65 tokens": Shape(65, 192, 6, 6),
        "256 tokens": Shape(256, 256, 6, 16),
        "narrow heads": Shape(256, 128, 4, 16),
        "super-sampler": shape_of(settings.model, settings.data.input_size),
        "CIFAR-10": shape_of(cifar, data["size"] // data["scale"]),
        "ViT-S": Shape(197, 384, 12, 6, batch=8),
    }


def shape_of(model: Model, side: int) -> Shape:
    """The shape of a model's encoder for inputs of this side in pixels."""
    return Shape((side // model.patch) ** 2, model.dim, model.depth, model.heads, model.mlp)


def run(settings: Settings, *, quick: bool = False, root: Path | None = None) -> dict[str, Any]:
    """Times all encoders at all shapes, in the types that the processor multiplies.

    Returns:
        `shapes`: sizes, FLOPs of a forward pass of one image and numbers of weights, by shape. `peaks`: GFLOP/s of
        the fastest matrix product of the rounds, by shape, kind and type. `rows`: for each shape, kind (training,
        forward), type, encoder and allocator (kept: with our setting): images a second, `ratio`, ours to its own in
        the same round, and `unbiased`, ours without bias to its own (median, quartiles), share of that peak, peak
        memory in MB; of ours the attention `path` that its rule takes.
    """
    compared = {"tiny": Shape(16, 32, 1, 2, batch=2)} if quick else shapes(settings)
    rounds, least = (2, 0.01) if quick else (ROUNDS, TURN)
    rows: list[dict[str, Any]] = []
    peaks: list[dict[str, Any]] = []
    combinations = [(name, kind, dtype) for name in compared for kind in KINDS for dtype in types()]
    with progress(len(combinations), "encoders", "comparison") as bar:
        for name, kind, dtype in combinations:
            found, peak = compare(compared[name], kind, dtype, rounds, least)
            where = {"shape": name, "kind": kind, "dtype": dtype}
            rows += [where | row for row in found]
            peaks.append(where | {"peak": round(peak, 1)})
            bar.update()
    facts = {
        name: shape.facts() | {"parameters": {peer: parameters(peer, shape) for peer in ("ours", *PEERS)}}
        for name, shape in compared.items()
    }
    return {"rounds": rounds, "shapes": facts, "peaks": peaks, "rows": rows}


def compare(shape: Shape, kind: str, dtype: str, rounds: int, least: float) -> tuple[list[dict[str, Any]], float]:
    """Rows of all encoders at one shape, and the peak in GFLOP/s. The matrix product takes turns with them."""
    entries = [(name, kept) for name in ENCODERS for kept in (False, True) if kept or name in PEERS]
    wanted: dict[str, Any] = {f"{name} {kept}": (make, (name, shape, kind, dtype), kept) for name, kept in entries}
    seconds, memory = measure(wanted | {"peak": (product, (dtype,), True)}, rounds, least)
    peak = 2 * SIDE**3 / min(seconds["peak"]) / 1e9
    flops = shape.flops * (3 if kind == "training" else 1) * shape.batch
    rows = []
    for name, kept in entries:
        own = seconds[f"{name} {kept}"]
        images = quartiles([shape.batch / value for value in own])
        share = round(flops / quartiles(own)["median"] / 1e9 / peak, 4)
        row = {"encoder": name, "kept": kept, "images": images, "share": share}
        row |= {"ratio": over(own, seconds["ours True"]), "unbiased": over(own, seconds["unbiased True"])}
        row |= {"memory": round(memory[f"{name} {kept}"] / 1e6, 1)}
        rows.append(row | ({"path": path(shape, kind, dtype)} if name == "ours" else {}))
    return rows, peak


def over(theirs: list[float], mine: list[float]) -> dict[str, float]:
    """Quartiles of how many times as fast mine is, round by round, from seconds."""
    return quartiles([their / my for their, my in zip(theirs, mine, strict=True)])
