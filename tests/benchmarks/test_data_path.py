"""The ways that are compared make the same images; memory is that of the work; the document says what was found."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import SECTIONS, data_path, data_path_memory, loaders
from benchmarks.apart import apart, peak
from benchmarks.data_path_document import BOTH, OURS, THEIRS, chart, figures, markdown
from benchmarks.loaders import Arrays, Jpegs, epoch
from benchmarks.peaks import PROCESSES
from vitpipe.config import Data, Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_uint8
from vitpipe.sources import celeba
from vitpipe.training.loop import Training

DATA = Data(name="faces", size=48, count=24, test=0.25, val=0.25)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("data_path")
    return folder, data_path.prepare(DATA, 0, folder)


def test_downsample_and_the_loader_make_the_same_images(prepared: tuple[Path, list[Path]]) -> None:
    folder, files = prepared
    dataset = Jpegs(files, DATA.size, DATA.scale)
    by_name = {file.name: dataset[row] for row, file in enumerate(files)}
    for part in ("train", "val", "test"):
        packed = PackedDataset(folder / "packed" / part)
        for row, sample in enumerate(packed.samples.index):
            for name, image in zip(("lr", "hr"), by_name[sample], strict=True):
                pixels = (image * 255).round().permute(1, 2, 0).numpy()
                np.testing.assert_array_equal(packed.images(name, np.array([row]))[0], pixels)


def test_the_loader_of_arrays_gives_the_packed_images(prepared: tuple[Path, list[Path]]) -> None:
    train = prepared[0] / "packed" / "train"
    packed, mirrored = PackedDataset(train), 0
    for row, images in enumerate(Arrays(train)):
        if row == len(packed):
            break
        lr, hr = (torch.from_numpy(packed.images(name, np.array([row]))[0]).permute(2, 0, 1) for name in ("lr", "hr"))
        turned = torch.equal(to_uint8(images[1]), hr.flip(-1))
        mirrored += turned
        assert torch.equal(to_uint8(images[1]), hr.flip(-1) if turned else hr)
        assert torch.equal(to_uint8(images[0]), lr.flip(-1) if turned else lr)
    assert 0 < mirrored < len(packed)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_sees_every_image(prepared: tuple[Path, list[Path]], workers: int) -> None:
    assert epoch(Jpegs(prepared[1], 16, 2), 7, workers) == 24


def fill(megabytes: int) -> float:
    block = np.ones(megabytes * 10**6, np.uint8)
    del block
    return peak()


def test_peaks_are_those_of_each_process_alone() -> None:
    own = np.ones(300 * 10**6, np.uint8)  # of this process: must not count
    few, many = apart(fill, 1, cores=1), apart(fill, 101, cores=1)
    assert own.all()
    assert 95 < many - few < 110


def test_repeated_pictures_are_celeba(prepared: tuple[Path, list[Path]], tmp_path: Path) -> None:
    folder, _ = prepared
    data_path_memory.repeat(folder / "raw", 60, tmp_path / "raw")
    table = celeba.samples(tmp_path / "raw")
    assert (len(table), table.index[-1]) == (60, "000060.jpg")
    assert table["landmarks"].eq("annotated").all()
    assert table["official"].value_counts().to_dict() == {"train": 48, "val": 6, "test": 6}
    pictures = celeba.open_images(tmp_path / "raw")
    assert pictures.content("000001.jpg") == pictures.content("000025.jpg") != pictures.content("000026.jpg")
    for work in PROCESSES.values():
        assert work(tmp_path, DATA.model_copy(update={"count": None})) > 50
    assert len(PackedDataset(tmp_path / "packed" / "train")) > 20


def test_the_ratio_is_to_ours_on_as_many_cores() -> None:
    seconds = {("downsample", 1, None): 2.0, ("downsample", 2, None): 1.0, ("loader", 2, 1): 4.0, ("loader", 1, 0): 8.0}
    turns = {way: lambda spent=spent: spent for way, spent in seconds.items()}
    rows = data_path.rates(turns, 100, 2, "title")
    assert [row["ratio"]["median"] for row in rows] == [1, 1, 4, 4]
    assert [row["images"]["median"] for row in rows] == [50, 100, 25, 12.5]


@pytest.fixture
def same_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured in this process, not apart, leaves its threads as they are."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.mark.usefixtures("same_threads")
def test_a_step_and_its_input_are_timed_apart(
    packed: Path, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def taking(seconds: float, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            now[0] += seconds
            return work(*arguments)

        return timed

    monkeypatch.setattr(data_path, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(data_path, "unit", taking(0.5, data_path.unit))  # of LR and of HR
    monkeypatch.setattr(Training, "learn", taking(4.0, Training.learn))
    found = data_path.step(settings(), packed, 2)
    assert [found[name]["median"] for name in ("input", "step", "share")] == [1000, 4000, 0.25]


@pytest.mark.usefixtures("same_threads")
def test_quick_run_has_every_way(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []

    class Loader(loaders.DataLoader):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            loaded.append(more["num_workers"])
            super().__init__(*arguments, **more)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loaders, "DataLoader", Loader)
    monkeypatch.setattr(data_path, "apart", lambda work, *arguments, cores: work(*arguments))  # a process takes seconds
    monkeypatch.setattr(data_path, "keep_memory", lambda: None)
    monkeypatch.setattr(data_path, "growth", lambda folder, counts: {"rows": list(counts)})
    monkeypatch.setattr(data_path, "cores", lambda: 2)
    monkeypatch.setattr(data_path, "QUICK_WORKERS", (0, 1))
    monkeypatch.setattr(data_path, "QUICK_IMAGES", 24)
    found = data_path.run(settings(**{"data.test": 0.25, "data.val": 0.25}), quick=True)
    made, given = ({tuple(row.values())[:3] for row in found[name]} for name in ("downsample", "input"))
    ways = {("DataLoader", cores, workers) for cores in (1, 2) for workers in (0, 1)}
    assert made == {("downsample", 1, None), ("downsample", 2, None)} | ways
    ways = {(f"DataLoader of {what}", 2, workers) for what in ("arrays", "JPEGs") for workers in (0, 1)}
    assert given == {("vitpipe", 2, None)} | ways
    assert sorted(loaded) == [0] * 8 + [1] * 8, "each once to warm up and once to be timed"
    assert set(found["pieces"]) == {*OURS, *BOTH, *THEIRS}
    assert set(found["step"]) == {"input", "step", "share", "dtype"}
    assert found["memory"]["rows"] == [100, 200]
    assert not list((tmp_path / data_path.SCRATCH).iterdir())


@pytest.fixture
def content() -> dict[str, Any]:
    def value(median: float) -> dict[str, float]:
        return {"median": median, "q1": median - 1, "q3": median + 1}

    row = {"way": "DataLoader", "cores": 2, "workers": 1, "images": value(321), "ratio": value(4.56)}
    names = [name for group in (OURS, BOTH, THEIRS) for name in group]
    peaks = [{"size": 48, "scale": 4, "images": n, "split": n / 5, "downsample": 100 + n / 1000} for n in (1000, 9000)]
    peaks.append({"size": 192, "scale": 4, "images": 1000, "split": 200, "downsample": 120})
    return {
        "images": 9,
        "rounds": 2,
        "size": 192,
        "scale": 4,
        "batch": 8,
        "downsample": [row],
        "input": [row],
        "pieces": dict.fromkeys(names, 100.0),
        "step": {"step": value(100), "input": value(2), "share": value(0.021), "dtype": "bfloat16"},
        "memory": {"rows": [peak | {"training input": 300.0} for peak in peaks]},
    }


def test_document_says_what_was_found(content: dict[str, Any]) -> None:
    text = markdown(content)
    assert "| DataLoader | 2 | 1 | 321 (320–322) | 4.56 |" in text
    assert "**2.1%**" in text
    assert "| 9,000 | 48, 12 | 1800 | 109 | 300 |" in text
    assert "From 1,000 to 9,000 images at 48 px: split +800%, downsample +8%, training input +0%." in text
    assert "can't do more than 1429 images a second" in text  # 7 pieces of 100 microseconds
    assert list(figures(content)) == ["data_path_memory"]
    assert "data_path" in SECTIONS


def test_chart_shows_the_peaks_from_zero(content: dict[str, Any]) -> None:
    axes = chart(content["memory"]["rows"]).axes[0]
    drawn = {tuple(line.get_ydata()) for line in axes.lines}
    assert (101, 109) in drawn
    assert (120,) in drawn
    assert axes.get_ylim()[0] == 0
    assert axes.get_xscale() == "log"
