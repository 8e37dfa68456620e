"""Peak memory of what the pipeline does with images, each in a process of its own.

Nothing here imports torch before the work does, as split and downsample do without: it would hide what they take.
"""

from pathlib import Path

from benchmarks.apart import peak
from vitpipe.config import Data

BATCH = 16


def split(folder: Path, data: Data) -> float:
    """MB of the process that does what the stage split does."""
    from vitpipe.sources import celeba
    from vitpipe.data.split import split

    split(celeba.samples(folder / "raw"), data, 0).to_csv(folder / "split.csv", index_label="id")
    return peak()


def downsample(folder: Path, data: Data) -> float:
    """MB of the process that does what the stage downsample does."""
    from vitpipe.data.packing import pack
    from vitpipe.sources import celeba

    (folder / "packed").mkdir()
    pack(folder / "split.csv", celeba.open_images(folder / "raw"), data, folder / "packed")
    return peak()


def training_input(folder: Path, data: Data) -> float:
    """MB of the process that reads an epoch of training batches."""
    import torch

    from vitpipe.data.batches import shuffled
    from vitpipe.data.dataset import PackedDataset
    from vitpipe.data.pixels import normalize
    from vitpipe.training.compute import keep_memory

    keep_memory()
    train = PackedDataset(folder / "packed" / "train")
    for batch in shuffled(train, BATCH, torch.device("cpu"), seed=0, epoch=0, flip=True):
        normalize(batch.lr), normalize(batch.hr)
    return peak()


PROCESSES = {"split": split, "downsample": downsample, "training input": training_input}
