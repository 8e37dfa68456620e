"""What the document says on a GPU, from the content of that section."""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.encoders_document import PEERS, number, evenly_spaced
from studies.tables import table

STEPS = """### Training step

The super-sampler of params.yaml in {dtype}, as `vitpipe.training.loop` takes a step: images, forward pass, loss,
backward pass, clipping, optimisers, averaged weights, and the loss read by the CPU. Recorded means that a CUDA graph
repeats the kernels of gradients and optimisers. The last row of each batch is what a training does; all give the same
weights, bit for bit. Medians of five rounds in which the ways took turns, in brackets the quartiles."""
ENCODERS = """### Encoders

The training step of the section on encoder speed, with batches eight times as large and every kernel launched by
itself. Images a second; a ratio is the median of the ratios within each round."""


def markdown(content: dict[str, Any]) -> str:
    parts = [peaks(content["gpu"]), STEPS.format(**content), steps(content["steps"])]
    return "\n\n".join([*parts, ENCODERS, encoders(content["encoders"])])


def peaks(gpu: dict[str, Any]) -> str:
    shown = " and ".join(f"{value:,} TFLOP/s in {name}" for name, value in gpu["peak"].items())
    return f"{gpu['name']}, whose fastest product of two large matrices reached {shown}."


def figures(content: dict[str, Any]) -> dict[str, Figure]:
    """None: the tables are short."""
    return {}


def steps(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        milliseconds = 1000 * row["batch"] / row["images"]["median"]
        speed = [f"{milliseconds:.2f}", evenly_spaced(row["images"]), f"{row['ratio']['median']:.2f}"]
        lines.append([f"{row['batch']}", row["name"], *speed])
    head = [
        "batch",
        "launched",
        "ms a step",
        "images a second",
        "recorded, images on the GPU, is so many times as fast",
    ]
    return "\n".join(table(head, lines))


def encoders(rows: list[dict[str, Any]]) -> str:
    lines = []
    for shape, dtype in dict.fromkeys((row["shape"], row["dtype"]) for row in rows):
        found = {row["name"]: row for row in rows if (row["shape"], row["dtype"]) == (shape, dtype)}
        ratios = [found[peer]["ratio"]["median"] for peer in PEERS]
        images = [number(found[name]["images"]["median"]) for name in ("ours", *PEERS)]
        shown = [*(f"{ratio:.2f}" for ratio in ratios), f"**{min(ratios):.2f}**"]
        lines.append([shape, dtype, f"{found['ours']['batch']}", *images, *shown])
    peers = [f"ours / {peer}" for peer in PEERS]
    return "\n".join(table(["shape", "type", "batch", "ours", *PEERS, *peers, "ours / fastest peer"], lines))
