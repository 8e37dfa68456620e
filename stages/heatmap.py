"""Measures and draws what every attention head looks at: models, data/packed/test -> reports."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    import numpy as np

    from vitpipe.data.batches import Packed
    from vitpipe.explain.heatmaps import maps, measure
    from vitpipe.figures.heatmaps import draw
    from vitpipe.files import atomic_folder, write_json
    from vitpipe.nn.compute import choose
    from vitpipe.tasks import task
    from vitpipe.training.checkpoint import load_weights

    reports, packed, device = Path("reports"), Packed(Path("data/packed/test")), choose(settings.train).device
    model = task(settings.task.name).build(settings).to(device)
    load_weights(Path("models/model.safetensors"), model)

    write_json(reports / "attention.json", measure(model, packed, device))
    with atomic_folder(reports / "heatmaps") as folder:
        arrays = maps(model, packed, device)
        np.savez_compressed(folder / "maps.npz", allow_pickle=False, **arrays)
        draw(arrays, folder)


if __name__ == "__main__":
    run(main)
