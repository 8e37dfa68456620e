"""Encoder speed: forward pass and training step beside timm, torchvision and vit-pytorch.

What is timed is a stack of transformer blocks and the last layer norm on random tokens, without patches, positions and
head. Queries, keys and values have a bias in all but vit-pytorch, which has none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer
from tqdm import tqdm

from benchmarks import peer
from benchmarks.results import Measurement, measurement, table
from vitpipe.models.vit import ViT
from vitpipe.progress import progress


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder and of its batch."""

    tokens: int
    dim: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    batch: int = 32


SHAPES = {
    "super-sampler": Shape(256, 128, 2, 8, mlp_ratio=2.0),  # conf/config.yaml
    "CIFAR-10": Shape(64, 128, 4, 4, mlp_ratio=2.0),  # conf/recipe/cifar10.yaml
    "256 tokens": Shape(256, 256, 6, 16),
    "ViT-S": Shape(197, 384, 12, 6, batch=8),
}
TINY = {"tiny": Shape(16, 32, 1, 2, batch=2)}
KINDS = ("training", "forward")


def vitpipe(shape: Shape) -> nn.Module:
    sizes = {"dim": shape.dim, "depth": shape.depth, "heads": shape.heads, "mlp_ratio": shape.mlp_ratio}
    encoder = ViT(size=2, patch=1, channels=3, position="none", **sizes)  # type: ignore[arg-type]
    return nn.Sequential(*encoder.blocks, encoder.norm)


def timm(shape: Shape) -> nn.Module:
    block = peer("timm.models.vision_transformer").Block
    blocks = (block(shape.dim, shape.heads, shape.mlp_ratio, qkv_bias=True) for _ in range(shape.depth))
    return nn.Sequential(*blocks, nn.LayerNorm(shape.dim))


def torchvision(shape: Shape) -> nn.Module:
    block = peer("torchvision.models.vision_transformer").EncoderBlock
    hidden = int(shape.dim * shape.mlp_ratio)
    blocks = (block(shape.heads, shape.dim, hidden, 0.0, 0.0) for _ in range(shape.depth))
    return nn.Sequential(*blocks, nn.LayerNorm(shape.dim))


def vit_pytorch(shape: Shape) -> nn.Module:
    hidden, width = int(shape.dim * shape.mlp_ratio), shape.dim // shape.heads
    return peer("vit_pytorch.vit").Transformer(shape.dim, shape.depth, shape.heads, width, hidden)


ENCODERS: dict[str, Callable[[Shape], nn.Module]] = {
    "vitpipe": vitpipe,
    "timm": timm,
    "torchvision": torchvision,
    "vit-pytorch": vit_pytorch,
}


def make_step(encoder: nn.Module, shape: Shape, kind: str, dtype: str) -> Callable[[], Tensor]:
    """What is timed: a forward pass in inference mode, or a training step.

    A training step is a forward pass of random tokens (b, n, d), the backward pass of a random gradient of the output,
    and a step of fused AdamW. Other types than float32 mean torch's autocast.
    """
    tokens, gradient = torch.randn(2, shape.batch, shape.tokens, shape.dim)  # b n d
    autocast = torch.autocast("cpu", getattr(torch, dtype), enabled=dtype != "float32")
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-5, fused=True)

    def forward() -> Tensor:
        with torch.inference_mode(), autocast:
            return encoder(tokens)

    def training() -> Tensor:
        with autocast:
            output = encoder(tokens)
        output.float().backward(gradient)
        optimizer.step()
        optimizer.zero_grad()
        return output

    encoder.train(kind == "training")
    return training if kind == "training" else forward


def in_turns(
    steps: Mapping[str, Callable[[], object]], rounds: int, seconds: float, bar: tqdm
) -> dict[str, list[float]]:
    """Seconds of a step of each competitor in each round.

    In a round each is timed for at least `seconds`; the order rotates. A first round warms up and does not count.

    Args:
        bar: is moved on by `rounds` + 1 for each competitor.
    """
    threads = torch.get_num_threads()
    timers = {name: Timer("step()", globals={"step": step}, num_threads=threads) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in timers}
    names = list(timers)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found = timers[name].blocked_autorange(min_run_time=seconds).median
            if number:
                times[name].append(found)
            bar.update()
    return times


def compare(shape: Shape, kind: str, dtype: str, rounds: int, seconds: float, bar: tqdm) -> dict[str, float]:
    """Images per second of each encoder, and how many times as fast as each peer vitpipe is.

    Speeds are medians over the rounds; a ratio is the median of the ratios within a round.
    """
    torch.manual_seed(0)
    steps = {name: make_step(build(shape), shape, kind, dtype) for name, build in ENCODERS.items()}
    times = in_turns(steps, rounds, seconds, bar)
    row = {name: shape.batch / median(own) for name, own in times.items()}
    for name in times:
        if name != "vitpipe":
            row[f"over {name}"] = median(b / a for a, b in zip(times["vitpipe"], times[name], strict=True))
    return {name: float(f"{value:.4g}") for name, value in row.items()}


def run(dtypes: Sequence[str], *, rounds: int = 10, seconds: float = 0.3, quick: bool = False) -> Measurement:
    """Times all encoders.

    Rows: `shape`, `kind` (training or forward), `dtype`, images per second by encoder, and `over PEER`, how many times
    as fast as that peer vitpipe is.
    """
    shapes, rounds, seconds = (TINY, 1, 0.01) if quick else (SHAPES, rounds, seconds)
    cases = [(name, kind, dtype) for name in shapes for kind in KINDS for dtype in dtypes]
    rows: list[dict[str, Any]] = []
    with progress(len(cases) * len(ENCODERS) * (rounds + 1), "encoder", "turn") as bar:
        for name, kind, dtype in cases:
            where = {"shape": name, "kind": kind, "dtype": dtype}
            rows.append(where | compare(shapes[name], kind, dtype, rounds, seconds, bar))
    return measurement({"rounds": rounds, "seconds in a round": seconds}, rows)


def markdown(one: Measurement) -> str:
    """The table of docs/benchmarks.md."""
    ratios = [f"over {name}" for name in ENCODERS if name != "vitpipe"]
    lines = []
    for row in one["rows"]:
        speeds = [f"{row[name]:,.0f}" if row[name] >= 100 else f"{row[name]:.3g}" for name in ENCODERS]
        shares = [f"{row[name]:.2f}" for name in ratios]
        lines.append([row["shape"], row["kind"], row["dtype"], *speeds, *shares])
    return table(["shape", "pass", "type", *ENCODERS, *ratios], lines)
