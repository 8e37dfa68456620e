"""Computes what the pretrained encoder makes of all images: data/packed, data/weights -> data/features."""

from pathlib import Path
from typing import Any

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    from vitpipe.files import atomic_folder, write_json

    with atomic_folder(Path("data/features")) as folder:
        if settings.model.weights is None or settings.pool is None:
            write_json(folder / "none.json", {})  # DVC wants the folder in any case
        else:
            write_features(settings, folder)


def write_features(settings: Settings, folder: Path) -> None:
    """Fills `folder` with {train,val,test}.npy, float32 (n, d): for each packed image, in order, what a classifier's
    head reads of the pretrained encoder as it is."""
    import numpy as np
    import torch

    from vitpipe.data.batches import scoring_batches
    from vitpipe.data.dataset import PackedDataset
    from vitpipe.data.pixels import to_input
    from vitpipe.models.classifier import Classifier
    from vitpipe.models.pretrained import read_pretrained, start_from
    from vitpipe.progress import progress
    from vitpipe.training.compute import select_compute

    compute = select_compute(settings.train)
    parts = {part: PackedDataset(Path("data/packed") / part) for part in ("train", "val", "test")}
    pretrained = read_pretrained(Path("data/weights/encoder.safetensors"))
    side = parts["train"].size // parts["train"].scale
    section: Any = settings.model
    model = Classifier(section, size=side, classes=1, encoder=pretrained.encoder)
    start_from(model, pretrained)
    model.to(compute.device).eval()
    total = sum(map(len, parts.values()))
    with progress(total, "features", "image") as bar, torch.inference_mode(), compute.autocast():
        for part, packed in parts.items():
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(packed), model.encoder.dim)}
            with (folder / f"{part}.npy").open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for rows in scoring_batches(packed):
                    images = to_input(packed.images("lr", rows), compute.device)
                    file.write(model.pooled(images).float().cpu().numpy().astype("<f4").tobytes())
                    bar.update(len(rows))


if __name__ == "__main__":
    run(main)
