"""What the document says on the data path, and its charts, from the content of that section."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from studies.tables import table
from vitpipe.figures.style import BLUE, GREEN, ORANGE, Sheet, styled

MAKING = """From {images} JPEGs to HR ({size} px) and LR ({small} px) images. `downsample` is
`vitpipe.data.packing.pack` as the stage calls it: it reads the JPEGs from their zip, decodes and resizes them, and
writes arrays, once. The DataLoader is the usual way, a torchvision-like data set of loose JPEG files with Pillow,
`Resize` (bicubic) twice and `ToTensor`, batches of 32: the same decoding and resizing, but in every epoch. Each way
has a fresh process on so many cores; they take turns. Medians of {rounds} rounds, in brackets the quartiles; a ratio is
`downsample` on as many cores to that way in the same round."""
READING = """Batches of {batch} for training, from the arrays that `downsample` wrote: LR and HR, half of them mirrored,
as float32 on [-1, 1]. Beside it a DataLoader over the same arrays, mapped, and one over the JPEGs (not mirrored).
Processes and rounds as above, all on all cores."""
STEP = """A training step with the settings of params.yaml, in {dtype}, takes {step} ms; reading its input takes
{input} ms before that, **{share:.1%}** of it."""
MEMORY = """Peak memory of each process in MB; pictures are repeated under new names, 178 x 218 JPEGs of some 7 kB.
`training input` is the process that reads an epoch of batches (torch is most of it)."""
COLOURS = {"split": GREEN, "downsample": BLUE, "training input": ORANGE}
OURS, BOTH, THEIRS = (
    ("read from the zip", "pixels as arrays", "digest", "write"),
    ("decode", "resize to HR", "resize to LR"),
    ("ToTensor", "collate"),
)


def markdown(content: dict[str, Any]) -> str:
    small = content["size"] // content["scale"]
    parts = ["### From JPEGs to images", MAKING.format(**content | {"small": small})]
    parts += [rates(content["downsample"]), floor(content["pieces"])]
    parts += ["### Training input", READING.format(**content), rates(content["input"])]
    step = content["step"]
    numbers = {name: f"{step[name]['median']:.3g}" for name in ("step", "input")}
    parts.append(STEP.format(**numbers, share=step["share"]["median"], dtype=step["dtype"]))
    parts += ["### Memory", "![Peak memory against images](benchmarks/data_path_memory.png)", MEMORY]
    rows = content["memory"]["rows"]
    parts.append(
        "\n".join(
            table(
                ["images", "HR, LR side", *COLOURS],
                [
                    [f"{row['images']:,}", f"{row['size']}, {row['size'] // row['scale']}"]
                    + [f"{row[name]:.0f}" for name in COLOURS]
                    for row in rows
                ],
            )
        )
    )
    return "\n\n".join([*parts, flatness(rows)])


def rates(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        speed, ratio = row["images"], row["ratio"]
        workers = "" if row["workers"] is None else str(row["workers"])
        images = f"{speed['median']:.0f} ({speed['q1']:.0f}–{speed['q3']:.0f})"
        lines.append([row["way"], str(row["cores"]), workers, images, f"{ratio['median']:.2f}"])
    return "\n".join(
        table(["", "cores", "workers", "images a second", "ours on as many cores is so many times as fast"], lines)
    )


def floor(pieces: dict[str, float]) -> str:
    """The pieces that both ways consist of."""

    def listed(names: tuple[str, ...]) -> str:
        return (
            ", ".join(f"{name} {pieces[name]:.0f}" for name in names) + f": {sum(pieces[name] for name in names):.0f}"
        )

    ours, theirs = (sum(pieces[name] for name in (*BOTH, *own)) for own in (OURS, THEIRS))
    return (
        f"Microseconds an image in one thread. Both ways: {listed(BOTH)}. `downsample` alone: {listed(OURS)}. The "
        f"DataLoader alone: {listed(THEIRS)}, and the way from its workers to the training process. So on one core "
        f"`downsample` can't do more than {1e6 / ours:.0f} images a second, and a DataLoader without workers not more "
        f"than {1e6 / theirs:.0f}."
    )


def flatness(rows: list[dict[str, Any]]) -> str:
    """How much more memory the most images take than the fewest, of equal size."""
    few, many = rows[0], max((row for row in rows if row["size"] == rows[0]["size"]), key=lambda row: row["images"])
    changes = ", ".join(f"{name} {many[name] / few[name] - 1:+.0%}" for name in COLOURS)
    row = 1000 * (many["split"] - few["split"]) / (many["images"] - few["images"])
    return (
        f"From {few['images']:,} to {many['images']:,} images at {few['size']} px: {changes}. `split` reads no "
        f"picture, but holds the whole annotation, {row:.2g} kB an image."
    )


def figures(content: dict[str, Any]) -> dict[str, Figure]:
    return {"data_path_memory": chart(content["memory"]["rows"])}


@styled
def chart(rows: list[dict[str, Any]]) -> Figure:
    """Peak memory of each process against images, these on a logarithmic axis; full-size images as hollow marks."""
    sheet = Sheet(640, 430)
    smallest = min(row["size"] for row in rows)
    largest = max(row["size"] for row in rows)
    sheet.title(70, 14, "Memory against images", f"Lines: {smallest} px; hollow marks: {largest} px.")
    axes = sheet.axes(70, 84, 440, 280, "memory")
    for name, colour in COLOURS.items():
        lines = {size: [row for row in rows if row["size"] == size] for size in {smallest, largest}}
        for size, own in lines.items():
            x, y = [row["images"] for row in own], [row[name] for row in own]
            style = "o-" if size == smallest else "o"
            axes.plot(x, y, style, color=colour, markerfacecolor=colour if size == smallest else "none")
            if size == smallest:
                axes.annotate(name, (x[-1], y[-1]), (8, 0), textcoords="offset points", color=colour, va="center")
    finish(axes, sorted({row["images"] for row in rows}))
    return sheet.figure


def finish(axes: Axes, counts: list[int]) -> None:
    """Plain numbers, and a vertical axis from zero, on which flat looks flat."""
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("images")
    axes.set_ylabel("peak memory, MB")
