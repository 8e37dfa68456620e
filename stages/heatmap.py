"""Measures and draws what every attention head looks at: models, data/packed/val and test -> reports."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    import numpy as np
    import torch

    from vitpipe.data.dataset import PackedDataset
    from vitpipe.explain import explanations, faithfulness
    from vitpipe.explain.explorer import explorer
    from vitpipe.explain.measure import measure
    from vitpipe.figures.heatmaps import draw
    from vitpipe.files import atomic_folder, write_json
    from vitpipe.training.compute import choose
    from vitpipe.tasks import task
    from vitpipe.training.checkpoint import load_weights

    reports, device = Path("reports"), choose(settings.train).device
    val, test = (PackedDataset(Path("data/packed") / part, settings.target) for part in ("val", "test"))
    job = task(settings.task.name)
    torch.manual_seed(settings.seed)
    untrained = job.build(settings, test.classes).to(device)
    model = job.build(settings, test.classes).to(device)
    load_weights(Path("models/model.safetensors"), model, settings)
    torch.manual_seed(settings.seed + 1)  # weights that training began with resemble those it ended with
    other = job.build(settings, test.classes).to(device)

    views = explanations(settings.task.name).views(model, untrained, test, settings, device)
    attention, views["distances"] = measure(model, untrained, settings.task.name, val, test, settings, device)
    trust, pictures = faithfulness.views(model, other, test, settings, device)
    views |= pictures | {"explorer": explorer(model, test, settings, device)}
    write_json(reports / "attention.json", attention)
    write_json(reports / "faithfulness.json", trust)
    with atomic_folder(reports / "heatmaps") as folder:
        for name, arrays in views.items():
            np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **arrays)
        draw(views, folder)


if __name__ == "__main__":
    run(main)
