"""Measures and draws what every attention head looks at: models, data/packed/test -> reports."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    import numpy as np
    import torch

    from vitpipe.data.batches import Packed
    from vitpipe.explain import explanations
    from vitpipe.explain.heatmaps import measure
    from vitpipe.figures.heatmaps import draw
    from vitpipe.files import atomic_folder, write_json
    from vitpipe.nn.compute import choose
    from vitpipe.tasks import task
    from vitpipe.training.checkpoint import load_weights

    reports, device = Path("reports"), choose(settings.train).device
    packed, job = Packed(Path("data/packed/test"), settings.target), task(settings.task.name)
    torch.manual_seed(settings.seed)
    untrained = job.build(settings, packed.classes).to(device)
    model = job.build(settings, packed.classes).to(device)
    load_weights(Path("models/model.safetensors"), model)

    views = explanations(settings.task.name).views(model, untrained, packed, settings, device)
    write_json(reports / "attention.json", measure(model, packed, device))
    with atomic_folder(reports / "heatmaps") as folder:
        for name, arrays in views.items():
            np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **arrays)
        draw(views, folder)


if __name__ == "__main__":
    run(main)
