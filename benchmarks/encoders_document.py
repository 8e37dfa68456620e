"""What the document says on encoder speed, and its chart, from the content of that section."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.tables import table
from vitpipe.figures.style import BLUE, GREEN, MUTED, ORANGE, Sheet, styled

PEERS = ("timm", "torchvision", "vit-pytorch")
COLOURS = {"ours": BLUE, "timm": ORANGE, "torchvision": GREEN, "vit-pytorch": "#CC79A7"}
TITLES = {"training": "Training step", "forward": "Forward pass"}
KINDS = ("training", "forward")
INTRO = """What is timed is the stack of transformer blocks and the last layer norm on random tokens, without patches,
positions and heads: `vitpipe.models.vit.Encoder` (its `blocks` and `norm`), `timm.models.vision_transformer.Block`
and `torchvision.models.vision_transformer.EncoderBlock`, each with a layer norm after the last, and
`vit_pytorch.vit.Transformer`. A training step is a forward pass, the backward pass of a random gradient of the output
and a step of fused AdamW; the forward pass alone runs in inference mode. bfloat16 means torch's autocast. Every
encoder has a process of its own that takes turns with the others for {rounds} rounds
after one that warms up; a turn takes as many steps as begin within 0.3 s. Numbers are medians over the rounds, in
brackets the quartiles; a ratio is the median of the ratios within each round.

vitpipe has the allocator keep freed memory (`vitpipe.training.compute.keep_memory`). Ours runs so; each peer both as it comes
and so, and the faster of the two is compared. The super-sampler is that of params.yaml, CIFAR-10 the model of
conf/recipe/cifar10.yaml, ViT-S the usual one for images of 224 px.

Queries, keys and values have a bias in ours, timm's and torchvision's, and none in vit-pytorch's. So ours without it
(`model.bias: false`) is compared with vit-pytorch's, too: "no bias / vit-pytorch". "ours / fastest peer" is with it."""
SHARE = """Share of the peak: operations of the matrix products, n (8 + 4 m) d² + 4 n² d for each block and image with n
tokens of width d and an MLP of m d (three times as many in training), over seconds, over what the fastest product of
two 2048 x 2048 matrices of the same type reached in the same rounds. It may differ much between the rows, with AMX
most of all, so it stands beside the share."""
ALLOCATOR = "With freed memory kept peers are {} to {} times as fast as they come (median {})."
PATHS = """Ours has two paths of attention, torch's fused kernel, and softmax and products written out. It takes one by
device, type and shape (`vitpipe.models.attention.written_out`). Images a second of each, the faster in bold; `*` marks
what the rule took when this was measured."""
MEMORY = """Peak memory of a training step in MB: the process's resident memory above what it was with libraries and
threads ready and no model made yet. Peers as they come."""


def markdown(content: dict[str, Any]) -> str:
    """Text and tables; the shortest answer first."""
    rows, shapes = pd.DataFrame(content["rows"]), content["shapes"]
    parts = [summary(rows), "![Encoder speed relative to the fastest peer](benchmarks/encoders.png)"]
    parts += [INTRO.format(rounds=content["rounds"]), sizes(shapes)]
    for kind in KINDS:
        for dtype in rows["dtype"].unique():
            parts += [f"**{TITLES[kind]}, {dtype}**, images a second", speeds(rows, content["peaks"], kind, dtype)]
    parts += [SHARE, allocator(rows), PATHS, paths(rows), MEMORY, memory(rows)]
    return "\n\n".join(parts)


def faster(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each encoder at each shape, kind and type the allocator with which it was faster, plainly indexed."""
    known = rows[rows.encoder.isin(["ours", *PEERS])].copy()
    known["over"] = [ratio["median"] for ratio in known.ratio]
    known["speed"] = [images["median"] for images in known.images]
    best = known.sort_values("over").drop_duplicates(["shape", "kind", "dtype", "encoder"])
    return best.set_index(["shape", "kind", "dtype", "encoder"]).sort_index()


def summary(rows: pd.DataFrame) -> str:
    """The lowest ratios, which decide."""
    over = faster(rows).over.drop("ours", level="encoder")
    training = over.xs("training", level="kind")
    worst = training.groupby(level=["shape", "dtype"]).min()
    forward = over.xs("forward", level="kind").groupby(level=["shape", "dtype"]).min()
    (shape, dtype), (where, how) = worst.idxmin(), forward.idxmin()
    told = [
        f"A training step of ours is {worst.min():.2f} times as fast as the fastest peer's where it does worst "
        f"({shape}, {dtype}) and {worst.max():.2f} times where it does best."
    ]
    if "bfloat16" in rows["dtype"].unique():
        lower = training.xs("bfloat16", level="dtype").drop("vit-pytorch", level="encoder")
        slowest, peer = lower.idxmin()
        least = f"{lower.min():.2f} times as fast as timm's and torchvision's ({slowest}, {peer})"
        told.append(f"In bfloat16 it is at least {least}.")
    told.append(without_bias(rows))
    told.append(
        f"The forward pass is at least {forward.min():.2f} times as fast as the fastest peer's ({where}, {how})."
    )
    return " ".join(told)


def without_bias(rows: pd.DataFrame) -> str:
    """How ours without bias of queries, keys and values does in training where it does worst beside vit-pytorch's."""
    found = faster(rows).unbiased.xs(("training", "vit-pytorch"), level=("kind", "encoder"))
    ratios = found.map(lambda ratio: ratio["median"])
    shape, dtype = ratios.idxmin()
    least = f"at least {ratios.min():.2f} times as fast as vit-pytorch's ({shape}, {dtype})"
    return f"Without the bias of queries, keys and values, which vit-pytorch's lacks, it is {least}."


def sizes(shapes: dict[str, Any]) -> str:
    lines = []
    for name, shape in shapes.items():
        counts = shape["parameters"]
        other = [f"{peer} {counts[peer]:,}" for peer in PEERS if counts[peer] != counts["ours"]]
        whole = f"{counts['ours']:,}" + (f" ({', '.join(other)})" if other else "")
        facts = [f"{shape[key]:g}" for key in ("tokens", "dim", "depth", "heads", "mlp", "batch")]
        lines.append([name, *facts, number(shape["flops"] / 1e9), whole])
    heads = ["shape", "tokens", "dim", "depth", "heads", "MLP ratio", "batch", "GFLOP an image, forward", "weights"]
    return "\n".join(table(heads, lines))


def speeds(rows: pd.DataFrame, peaks: list[dict[str, Any]], kind: str, dtype: str) -> str:
    """Images a second with quartiles, what ours is times each peer, and the share of the peak in GFLOP/s."""
    found = faster(rows)
    highest = {row["shape"]: row["peak"] for row in peaks if (row["kind"], row["dtype"]) == (kind, dtype)}
    lines = []
    for shape in rows["shape"].unique():
        own = found.loc[(shape, kind, dtype)]
        cells = [evenly_spaced(own.images[name]) for name in ("ours", *PEERS)]
        over = [f"{own.over[peer]:.2f}" for peer in PEERS] + [f"{own.unbiased['vit-pytorch']['median']:.2f}"]
        fastest = f"{min(own.over[peer] for peer in PEERS):.2f}"
        share = f"{own.share['ours']:.0%} of {highest[shape]:,.0f}"
        lines.append([shape, *cells, *over, f"**{fastest}**", share])
    ratios = [*(f"ours / {peer}" for peer in PEERS), "no bias / vit-pytorch", "ours / fastest peer"]
    heads = ["shape", "ours", *PEERS, *ratios, "ours of the peak, GFLOP/s"]
    return "\n".join(table(heads, lines))


def allocator(rows: pd.DataFrame) -> str:
    """What keeping freed memory does for the peers."""
    peers = rows[rows.encoder.isin(PEERS)]
    speed = peers.assign(speed=[images["median"] for images in peers.images])
    by = speed.pivot_table("speed", ["shape", "kind", "dtype", "encoder"], "kept")
    times = by[True] / by[False]
    return ALLOCATOR.format(*(f"{value:.2f}" for value in (times.min(), times.max(), times.median())))


def paths(rows: pd.DataFrame) -> str:
    """Both attention paths of ours."""
    lines, dtypes = [], rows["dtype"].unique()
    for shape, group in rows.groupby("shape", sort=False):
        cells = []
        for kind in KINDS:
            for dtype in dtypes:
                own = group[(group.kind == kind) & (group.dtype == dtype)].set_index("encoder")
                images, taken = own.images, own.path["ours"]
                speed = {name: images["ours" if name == taken else "other"]["median"] for name in ("fused", "written")}
                fast = max(speed, key=lambda name: speed[name])
                cells += [
                    ("**{}**" if name == fast else "{}").format(number(value)) + ("\\*" if name == taken else "")
                    for name, value in speed.items()
                ]
        lines.append([str(shape), *cells])
    heads = [f"{kind}, {dtype}: {path}" for kind in KINDS for dtype in dtypes for path in ("fused", "written")]
    return "\n".join(table(["shape", *heads], lines))


def memory(rows: pd.DataFrame) -> str:
    lines, dtypes = [], rows["dtype"].unique()
    training = rows[(rows.kind == "training") & ((rows.encoder == "ours") | ~rows.kept)]
    for shape, group in training.groupby("shape", sort=False):
        used = group.set_index(["dtype", "encoder"]).memory
        lines.append([str(shape), *(f"{used[dtype, name]:,.0f}" for dtype in dtypes for name in ("ours", *PEERS))])
    heads = ["shape", *(f"{dtype}: {name}" for dtype in dtypes for name in ("ours", *PEERS))]
    return "\n".join(table(heads, lines))


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def evenly_spaced(found: dict[str, float]) -> str:
    return f"{number(found['median'])} ({number(found['q1'])}–{number(found['q3'])})"


def figures(content: dict[str, Any]) -> dict[str, Figure]:
    return {"encoders": chart(content)}


@styled
def chart(content: dict[str, Any]) -> Figure:
    """Panels for training and forward in every type: speed relative to the fastest peer at every shape."""
    rows, shapes = pd.DataFrame(content["rows"]), content["shapes"]
    found, dtypes = faster(rows), rows["dtype"].unique()
    panels = [(kind, dtype) for kind in KINDS for dtype in dtypes]
    sheet = Sheet(1320, 95 + 410 * (len(panels) // 2))
    note = (
        "Speed relative to the fastest peer (dashed), by ratios within each round. In our bars: share of the peak.\n"
        "Below: tokens · width, blocks · heads."
    )
    sheet.title(76, 14, "Encoder speed beside timm, torchvision and vit-pytorch", note)
    for place, (kind, dtype) in enumerate(panels):
        i, j = divmod(place, 2)
        axes = sheet.axes(76 + j * 630, 134 + i * 410, 590, 300, f"{kind} {dtype}")
        axes.set_title(f"{TITLES[kind]}, {dtype}", weight="bold")
        bars(axes, found.xs((kind, dtype), level=("kind", "dtype")), list(shapes))
        axes.set_ylabel("× fastest peer" if j == 0 else "")
        labels = [f"{name}\n{s['tokens']}·{s['dim']}\n{s['depth']}·{s['heads']}" for name, s in shapes.items()]
        axes.set_xticks(range(len(labels)), labels, size=7)
    handles, titles = sheet.figure.axes[0].get_legend_handles_labels()
    corner = (1 - 24 / sheet.width, 1 - 76 / sheet.height)
    sheet.figure.legend(handles, titles, loc="center right", bbox_to_anchor=corner, ncol=4, frameon=False)
    return sheet.figure


def bars(axes: Axes, found: pd.DataFrame, shapes: list[str]) -> None:
    width = 0.2
    for k, (name, colour) in enumerate(COLOURS.items()):
        heights = []
        for shape in shapes:
            over = found.over[shape]
            heights.append(min(over[peer] for peer in PEERS) / over[name])
        places = np.arange(len(shapes)) + (k - 1.5) * width
        axes.bar(places, heights, width * 0.92, color=colour, label=name)
        if name == "ours":
            for place, shape in zip(places, shapes, strict=True):
                share = f"{found.share[shape, name]:.0%}"
                axes.text(place, 0.03, share, rotation=90, ha="center", va="bottom", size=9, color="white")
    axes.axhline(1, color=MUTED, linestyle="--", linewidth=1)
    axes.grid(False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.06)
