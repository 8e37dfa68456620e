"""Data path: downsample and the training input beside a DataLoader that decodes JPEGs, and memory against images."""

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import torch

from benchmarks.apart import apart
from benchmarks.data_path_document import figures, markdown
from benchmarks.data_path_memory import growth
from benchmarks.data_path_pieces import pieces
from benchmarks.loaders import Arrays, Jpegs, epoch
from benchmarks.machine import cores
from benchmarks.timing import in_turns, quartiles
from vitpipe.config import Data, Settings
from vitpipe.data.batches import shuffled
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.data.pixels import normalize
from vitpipe.sources import celeba, source
from vitpipe.data.split import split
from vitpipe.training.compute import choose, keep_memory
from vitpipe.progress import progress
from vitpipe.tasks import task
from vitpipe.training.loop import Training

__all__ = ["TITLE", "figures", "markdown", "run"]

TITLE = "Data path"
SCRATCH = Path(".bench")
IMAGES, ROUNDS, STEPS = 3000, 5, 40
BATCH = 32  # of the DataLoader beside downsample
QUICK_IMAGES, QUICK_ROUNDS, QUICK_STEPS, QUICK_COUNTS = 48, 1, 2, (100, 200)
COUNTS = (1_000, 10_000, 50_000, 200_000)
WORKERS, QUICK_WORKERS = (0, 1, 2), (1,)  # of the DataLoader


def run(settings: Settings, *, quick: bool = False, root: Path | None = None) -> dict[str, Any]:
    """Measures all of the section.

    Returns:
        `images`, `rounds`, `size`, `scale`, `batch`; `downsample` and `input`: for each way, cores and workers the
        images a second, and `ratio`, ours on as many cores to it in the same round (median, quartiles); `pieces`:
        microseconds an image of what both consist of; `step`: milliseconds of a training step and of its input, and
        the input's share; `memory`: see `benchmarks.data_path_memory.growth`.
    """
    images, rounds, steps = (QUICK_IMAGES, QUICK_ROUNDS, QUICK_STEPS) if quick else (IMAGES, ROUNDS, STEPS)
    workers = QUICK_WORKERS if quick else WORKERS
    data = source_of(settings.data, root, images)
    SCRATCH.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=SCRATCH, prefix="data_path-") as scratch:
        folder = Path(scratch)
        files = prepare(data, settings.seed, folder)
        own = {"images": len(files), "rounds": rounds, "size": data.size, "scale": data.scale}
        made = rates(makers(folder, files, data, workers), len(files), rounds, "downsample")
        batch = settings.train.batch
        given = rates(
            readers(folder, files, data, batch, workers), len(PackedDataset(folder / "packed" / "train")), rounds, "input"
        )
        return own | {
            "batch": batch,
            "downsample": made,
            "input": given,
            "pieces": apart(pieces, folder / "raw", data, cores=1),
            "step": apart(step, settings, folder / "packed", steps, cores=cores()),
            "memory": growth(folder, QUICK_COUNTS if quick else COUNTS),
        }


def source_of(data: Data, root: Path | None, images: int) -> Data:
    """Which pictures: CelebA's, or the built-in faces."""
    name = "celeba" if root else "faces"
    return data.model_copy(update={"name": name, "root": str(root) if root else None, "count": images})


def prepare(data: Data, seed: int, folder: Path) -> list[Path]:
    """`folder`/raw, split.csv and packed as the stages make them, and the same pictures as loose files."""
    raw = folder / "raw"
    raw.mkdir()
    origin = source(data.name)
    origin.fetch(data, seed, raw)
    table = split(origin.samples(raw), data, seed)
    table.to_csv(folder / "split.csv", index_label="id")
    make(folder, data, folder / "packed")
    files = []
    (folder / "jpeg").mkdir()
    with ZipFile(raw / celeba.ARCHIVE) as archive:
        members = celeba.members(archive)
        for sample in table.index:
            files.append(folder / "jpeg" / sample)
            files[-1].write_bytes(archive.read(members[sample]))
    return files


def make(folder: Path, data: Data, packed: Path) -> float:
    """Does what the stage downsample does, and returns the seconds."""
    start = time.perf_counter()
    packed.mkdir()
    pack(folder / "split.csv", source(data.name).open_images(folder / "raw"), data, packed)
    return time.perf_counter() - start


def make_and_remove(folder: Path, data: Data) -> float:
    try:
        return make(folder, data, folder / "again")
    finally:
        shutil.rmtree(folder / "again")


def load(dataset: Callable[[], Any], batch: int, workers: int) -> float:
    """Seconds of one epoch of a DataLoader."""
    torch.set_num_threads(cores())
    images = dataset()
    start = time.perf_counter()
    epoch(images, batch, workers)
    return time.perf_counter() - start


def take(folder: Path, batch: int) -> float:
    """Seconds of one epoch of vitpipe's training input."""
    torch.set_num_threads(cores())
    keep_memory()
    start = time.perf_counter()
    for taken in shuffled(PackedDataset(folder), batch, torch.device("cpu"), seed=0, epoch=0, flip=True):
        normalize(taken.lr), normalize(taken.hr)
    return time.perf_counter() - start


Way = tuple[str, int, int | None]
"""Name, processors, and workers of the DataLoader."""


def makers(folder: Path, files: list[Path], data: Data, workers: tuple[int, ...]) -> dict[Way, Callable[[], float]]:
    """Turns by way: from JPEG files to LR and HR."""
    jpegs = partial(Jpegs, files, data.size, data.scale)
    found: dict[Way, Callable[[], float]] = {}
    for count in sorted({1, cores()}):
        found["downsample", count, None] = partial(apart, make_and_remove, folder, data, cores=count)
        for number in workers:
            found["DataLoader", count, number] = partial(apart, load, jpegs, BATCH, number, cores=count)
    return found


def readers(
    folder: Path, files: list[Path], data: Data, batch: int, workers: tuple[int, ...]
) -> dict[Way, Callable[[], float]]:
    """Turns by way: batches for training, on all processors. JPEGs are as many as the packed ones."""
    train, count = folder / "packed" / "train", cores()
    jpegs = partial(Jpegs, files[: len(PackedDataset(train))], data.size, data.scale)
    found: dict[Way, Callable[[], float]] = {("vitpipe", count, None): partial(apart, take, train, batch, cores=count)}
    for name, dataset in (("DataLoader of arrays", partial(Arrays, train)), ("DataLoader of JPEGs", jpegs)):
        for number in workers:
            found[name, count, number] = partial(apart, load, dataset, batch, number, cores=count)
    return found


def rates(turns: dict[Way, Callable[[], float]], images: int, rounds: int, title: str) -> list[dict[str, Any]]:
    """Images a second of each way, and how many times as fast ours is on as many processors."""
    with progress(len(turns) * (rounds + 1), title, "turn") as bar:

        def counted(turn: Callable[[], float]) -> float:
            seconds = turn()
            bar.update()
            return seconds

        named: dict[str, Callable[[], float]] = {str(way): partial(counted, turn) for way, turn in turns.items()}
        seconds = in_turns(named, rounds)
    ours = {way[1]: seconds[str(way)] for way in turns if way[2] is None}
    rows = []
    for way in turns:
        name, count, workers = way
        own = seconds[str(way)]
        ratio = quartiles([theirs / mine for theirs, mine in zip(own, ours[count], strict=True)])
        speed = quartiles([images / value for value in own])
        rows.append({"way": name, "cores": count, "workers": workers, "images": speed, "ratio": ratio})
    return rows


def step(settings: Settings, packed: Path, steps: int) -> dict[str, Any]:
    """Milliseconds of a training step of the default model and of its input, and the input's over the step's."""
    torch.set_num_threads(cores())
    compute = choose(settings.train)
    train, val = (PackedDataset(packed / part) for part in ("train", "val"))
    training = Training(task(settings.task.name), settings, train, val, compute)
    spent: dict[str, list[float]] = {"input": [], "step": []}
    while len(spent["step"]) < steps + 2:  # the first two warm up
        for batch in shuffled(train, settings.train.batch, compute.device, seed=0, epoch=training.epoch, flip=True):
            start = time.perf_counter()
            normalize(batch.local.lr), normalize(batch.local.hr)
            read = time.perf_counter()
            training.learn(batch)  # has its images, and brings them to [-1, 1] once more
            spent["input"].append(read - start)
            spent["step"].append(time.perf_counter() - read)
    shares = [given / whole for given, whole in zip(spent["input"][2:], spent["step"][2:], strict=True)]
    milliseconds = {name: quartiles([1000 * value for value in values[2:]]) for name, values in spent.items()}
    return milliseconds | {"share": quartiles(shares), "dtype": str(compute.dtype).removeprefix("torch.")}
