"""Quality at equal time: our super-sampler beside other networks, each given the same minutes of training.

All learn from the same images in the same order. Validation chooses variant and learning rate of each network in
short trainings; test is only written down. Every finished training is stored at once, so a run that was stopped
goes on with those that are missing; `python -m benchmarks.equal_time` runs some of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib.figure import Figure

from benchmarks.contest import SEEDS, Contest
from benchmarks.networks import NETWORKS
from benchmarks.quality_figure import quality
from benchmarks.quality_summary import markdown as markdown
from benchmarks.records import digest
from vitpipe.config import Data, Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.sources import source
from vitpipe.data.split import split
from vitpipe.errors import InputError
from vitpipe.files import atomic_folder

TITLE = "Quality at equal time"
SCRATCH = Path(".bench/quality")
RECORDS = Path("reports/benchmarks")  # in git: all of them take hours, which need not be in one piece
QUICK_MINUTES, QUICK_SEEDS, QUICK_COUNT, QUICK_NETWORKS = 0.05, (0,), 200, ("ours", "edsr-small")


def run(
    settings: Settings,
    *,
    quick: bool,
    root: Path | None,
    count: int | None = None,
    minutes: float = 10.0,
    seeds: Sequence[int] = (0, 1, 2),
    networks: Sequence[str] = (),
    scratch: Path = SCRATCH,
    records: Path = RECORDS,
) -> dict[str, Any]:
    """The content of the section: how every network scored, and the curves.

    Args:
        settings: of our super-sampler; the other networks get theirs of the training, too.
        quick: two networks on few images for seconds: shows that it works and nothing else.
        root: folder of CelebA; None is the built-in faces.
        count: at most so many images; None is all.
        minutes: that each network is trained with each seed.
        seeds: that are trained now; others of the same trainings, finished before, count, too.
        networks: names of `NETWORKS`; none is all of them.
        scratch: folder of packed images; with `quick` of finished trainings, too.
        records: folder of finished trainings.

    Raises:
        InputError: an unknown network, a seed above 9, or settings that are not for super-sampling 48 pixels to 192.
    """
    check(settings, networks, seeds)
    if quick:
        minutes, seeds, count, networks = QUICK_MINUTES, QUICK_SEEDS, QUICK_COUNT, networks or QUICK_NETWORKS
    networks = networks or tuple(NETWORKS)
    data = data_of(settings, root, count)
    contest = Contest(settings, prepare(data, settings.seed, scratch), minutes, scratch if quick else records)
    chosen = {name: contest.choose(name) for name in networks}
    for seed in seeds:
        contest.finals(chosen, seed)
    return contest.summary(data, chosen)


def figures(content: Mapping[str, Any]) -> dict[str, Figure]:
    """Charts by name."""
    return {"quality": quality(content)}


def check(settings: Settings, networks: Sequence[str], seeds: Sequence[int]) -> None:
    unknown = [name for name in networks if name not in NETWORKS]
    if unknown:
        raise InputError(f"no network is called {', '.join(unknown)}: there are {', '.join(NETWORKS)}")
    if not seeds or not set(seeds) <= set(range(SEEDS)):
        raise InputError(f"seeds must be some of 0 to {SEEDS - 1}, not {', '.join(map(str, seeds)) or 'none'}")
    data = settings.data
    if (settings.task.name, data.input_size, data.scale) != ("supersample", 48, 4):
        raise InputError(
            "the quality benchmark needs task.name supersample, data.size 192 and data.scale 4 in params.yaml, "
            f"which has {settings.task.name}, {data.size} and {data.scale}"
        )


def data_of(settings: Settings, root: Path | None, count: int | None) -> Data:
    """Which images: CelebA with no person in two parts, or the built-in faces likewise."""
    name = "celeba" if root else "faces"
    own = {"name": name, "root": str(root) if root else None, "count": count, "split": "identity"}
    return settings.data.model_copy(update=own)


def prepare(data: Data, seed: int, scratch: Path) -> dict[str, PackedDataset]:
    """The packed parts, made as the pipeline's stages make them, once for each choice of data."""
    key = digest(data.model_dump(), seed)
    packed = scratch / f"packed-{key}"
    if not packed.exists():
        origin = source(data.name)
        with atomic_folder(packed) as folder, TemporaryDirectory(dir=scratch) as temporary:
            raw = Path(temporary)
            origin.fetch(data, seed, raw)
            pack(split(origin.samples(raw), data, seed), origin.open_images(raw), data, folder)
    return {part: PackedDataset(packed / part) for part in ("train", "val", "test")}
