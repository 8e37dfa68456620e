"""What the document says on a GPU, from the content of that section."""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.encoders_document import PEERS
from studies.tables import table

STEPS = """### Training step

The super-sampler of params.yaml in {dtype}, as `vitpipe.training.loop` takes a step: images, forward pass, loss,
backward pass, clipping, optimisers, averaged weights, and the loss read by the CPU. Recorded means that a CUDA graph
repeats the kernels of gradients and optimisers. The last row of each batch is what a training does; all give the same
weights, bit for bit. Medians of five rounds in which the ways took turns, in brackets the quartiles."""
ENCODERS = """### Encoders

The training step of the section on encoder speed, with batches eight times as large and every kernel launched by
itself. Images a second; a ratio is the median of the ratios within each round."""
QUALITY = """Each network was trained in {dtype} for {seconds:g} seconds on the same {train:,} images, with the learning
rate that was best of {rates} on validation after {tries:g} seconds; one seed. Gains over bicubic are means over {test}
test and {val} validation images."""


def speed(content: dict[str, Any]) -> str:
    parts = [peaks(content["gpu"]), STEPS.format(**content), steps(content["steps"])]
    return "\n\n".join([*parts, ENCODERS, encoders(content["encoders"])])


def quality(content: dict[str, Any]) -> str:
    seconds, tries = content["seconds"]
    rates = ", ".join(f"{rate:g}" for rate in content["rates"])
    told = QUALITY.format(seconds=seconds, tries=tries, rates=rates, dtype=content["dtype"], **content["images"])
    return "\n\n".join([peaks(content["gpu"]), told, networks(content["networks"], content["bicubic"])])


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
        speed = [f"{milliseconds:.2f}", spread(row["images"]), f"{row['ratio']['median']:.2f}"]
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
        images = [f"{found[name]['images']['median']:,.0f}" for name in ("ours", *PEERS)]
        shown = [*(f"{ratio:.2f}" for ratio in ratios), f"**{min(ratios):.2f}**"]
        lines.append([shape, dtype, f"{found['ours']['batch']}", *images, *shown])
    peers = [f"ours / {peer}" for peer in PEERS]
    return "\n".join(table(["shape", "type", "batch", "ours", *PEERS, *peers, "ours / fastest peer"], lines))


def networks(rows: list[dict[str, Any]], bicubic: dict[str, dict[str, float]]) -> str:
    lines = []
    for row in sorted(rows, key=lambda row: -row["test"]["psnr"]):
        test, val = (row[part]["psnr"] - bicubic[part]["psnr"] for part in ("test", "val"))
        scored = [f"{test:+.3f}", f"{row['test']['mse'] / bicubic['test']['mse']:.3f}", f"{val:+.3f}"]
        training = [f"{row['parameters']:,}", f"{row['images']:,}", f"{row['batch']}", f"{row['lr']:g}"]
        lines.append([row["network"], *scored, *training])
    head = ["network", "gain in PSNR, dB", "MSE / bicubic's", "gain on validation, dB", "parameters"]
    return "\n".join(table([*head, "images seen", "batch", "learning rate"], lines))


def spread(value: dict[str, float]) -> str:
    return f"{value['median']:,.0f} ({value['q1']:,.0f}–{value['q3']:,.0f})"
