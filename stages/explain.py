"""Measures what the model looks at: models, data/packed/val and test -> reports/*.json, reports/explanations."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    import numpy as np
    import torch

    from vitpipe.explain.explanations import explain
    from vitpipe.files import atomic_folder, write_json
    from vitpipe.predictor import load_model
    from vitpipe.tasks import open_part
    from vitpipe.training.compute import select_compute

    reports, device = Path("reports"), select_compute(settings.train).device
    val, test = (open_part(settings, Path("data/packed") / part) for part in ("val", "test"))
    task, model = load_model(Path("models/model.safetensors"), settings, device)
    torch.manual_seed(settings.seed)
    untrained = task.build().to(device)
    torch.manual_seed(settings.seed + 1)  # the weights that training ends with resemble those that it began with
    other = task.build().to(device)

    attention, faithfulness, explanations = explain(task, model, untrained, other, val, test)
    write_json(reports / "attention.json", attention)
    write_json(reports / "faithfulness.json", faithfulness)
    with atomic_folder(reports / "explanations") as folder:
        for name, arrays in explanations.items():
            np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **arrays)


if __name__ == "__main__":
    run(main)
