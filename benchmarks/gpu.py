"""On a GPU: a training step launched in several ways, and encoders beside their peers."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.encoders import shapes
from benchmarks.gpu_document import figures, markdown
from benchmarks.machine import product
from benchmarks.peers import PEERS, Shape, make
from benchmarks.quality import SCRATCH, check, data_of, prepare
from benchmarks.timed_training import endless
from benchmarks.timing import Step, in_turns, quartiles
from vitpipe.config import Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.training.compute import Compute, choose
from vitpipe.progress import progress
from vitpipe.tasks import task
from vitpipe.training.loop import Training

__all__ = ["TITLE", "figures", "markdown", "run"]

TITLE = "On a GPU"
ROUNDS, STEPS = 5, 10  # of a turn
BATCHES = (8, 32, 128)
SIDE = 8192  # of the matrices whose product shows the peak
TYPES = ("bfloat16", "float32")
LARGER = 8  # times the batch that the encoders have on two cores


class FromFiles(PackedDataset):
    """A part whose images are read from its files for every batch."""

    def copy_to(self, device: torch.device) -> None:
        pass


WAYS: dict[str, tuple[bool, type[PackedDataset]]] = {
    "kernel by kernel, images from files": (False, FromFiles),
    "kernel by kernel, images on the GPU": (False, PackedDataset),
    "recorded, images from files": (True, FromFiles),
    "recorded, images on the GPU": (True, PackedDataset),
}
"""Whether steps are CUDA graphs, and where images come from; the last is what `vitpipe.training.loop` does."""


def run(settings: Settings, *, quick: bool = False, root: Path | None = None) -> dict[str, Any]:
    """Times both.

    Returns:
        `gpu` (its name and peaks), `dtype`, `steps`: for each batch and way images a second and how many times as fast
        the last way is; `encoders`: the same for each shape, type and library beside ours.

    Raises:
        InputError: there is no CUDA device, the settings are not for super-sampling 48 pixels to 192, or the images do
            not fit into the GPU's memory.
    """
    if not torch.cuda.is_available():
        raise InputError("this section needs a CUDA device, and torch finds none here")
    check(settings, (), (0,))
    compute = choose(settings.train)
    parts = prepare(data_of(settings, root, 200 if quick else None), settings.seed, SCRATCH)
    batches = BATCHES[:1] if quick else BATCHES
    wanted = {"tiny": Shape(16, 32, 1, 2)} if quick else shapes(settings)
    with progress(len(batches) + len(wanted) * len(TYPES), "gpu", "comparison") as bar:
        return {
            "gpu": gpu_facts(),
            "dtype": str(compute.dtype).removeprefix("torch."),
            "steps": steps(settings, parts, compute, batches, bar.update),
            "encoders": encoders(wanted, compute.device, bar.update),
        }


def gpu_facts() -> dict[str, Any]:
    """`name` of the GPU and its `peak` in TFLOP/s by type."""
    return {"name": torch.cuda.get_device_name(), "peak": {name: peak(name) for name in TYPES}}


def peak(dtype: str) -> float:
    """TFLOP/s of the fastest of some products of two large matrices."""
    multiply = product(dtype, SIDE, "cuda")
    return round(2 * SIDE**3 / min(timed(multiply, 3) for _ in range(5)) / 1e12, 1)


def timed(step: Step, count: int) -> float:
    """Mean seconds of so many steps, with all that they left the device to do."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / count


def compared(makers: dict[str, Callable[[], Step]], images: int, own: str) -> list[dict[str, Any]]:
    """Images a second of each, and how many times as fast `own` is in the same round; they take turns."""
    made = {name: maker() for name, maker in makers.items()}
    turns: dict[str, Callable[[], float]] = {name: partial(timed, step, STEPS) for name, step in made.items()}
    seconds = in_turns(turns, ROUNDS)
    rows = []
    for name, spent in seconds.items():
        ratio = quartiles([theirs / mine for theirs, mine in zip(spent, seconds[own], strict=True)])
        rows.append({"name": name, "images": quartiles([images / value for value in spent]), "ratio": ratio})
    return rows


def steps(
    settings: Settings,
    parts: dict[str, PackedDataset],
    compute: Compute,
    batches: tuple[int, ...],
    tick: Callable[[], object],
) -> list[dict[str, Any]]:
    """The training step of the super-sampler in all ways, with batches of several sizes; `tick` follows each."""

    def maker(own: Settings, recorded: bool, kind: type[PackedDataset]) -> Callable[[], Step]:
        def begin() -> Step:
            learned = kind(parts["train"].folder)
            training = Training(task("supersample"), own, learned, learned, compute)
            if kind is PackedDataset and not learned.copies and compute.device.type == "cuda":
                raise InputError("the images take more than half of the GPU's free memory: free some of it")
            if not recorded:
                training.halves = (training.gradients, training.descend)
            coming = endless(learned, own.train, 0, compute)
            return lambda: training.learn(next(coming))

        return begin

    rows = []
    for batch in batches:
        own = settings.model_copy(update={"train": settings.train.model_copy(update={"batch": batch})})
        makers = {name: maker(own, *way) for name, way in WAYS.items()}
        rows += [{"batch": batch} | row for row in compared(makers, batch, list(WAYS)[-1])]
        tick()
    return rows


def encoders(wanted: dict[str, Shape], device: torch.device, tick: Callable[[], object]) -> list[dict[str, Any]]:
    """A training step of our encoder beside the peers', with larger batches than on two cores."""
    rows = []
    for name, shape in wanted.items():
        large = replace(shape, batch=LARGER * shape.batch)
        for dtype in TYPES:

            def maker(library: str, large: Shape = large, dtype: str = dtype) -> Callable[[], Step]:
                return lambda: make(library, large, "training", dtype, str(device))

            found = compared({library: maker(library) for library in ("ours", *PEERS)}, large.batch, "ours")
            rows += [{"shape": name, "dtype": dtype, "batch": large.batch} | row for row in found]
            tick()
    return rows
