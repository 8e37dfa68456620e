"""Scores the model on the test images beside the baselines, and draws: models, data/packed/test -> reports."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    import numpy as np
    import pandas as pd

    from vitpipe.figures import draw
    from vitpipe.files import atomic_file, atomic_folder, load_json, write_json
    from vitpipe.predictor import load_model
    from vitpipe.tasks import open_part
    from vitpipe.tasks.evaluation import evaluate
    from vitpipe.training.checkpoint import read_metadata
    from vitpipe.training.compute import select_compute

    reports, weights = Path("reports"), Path("models/model.safetensors")
    test = open_part(settings, Path("data/packed/test"))
    task, model = load_model(weights, settings, select_compute(settings.train).device)

    metrics, table = evaluate(task, model, test, load_json(reports / "baseline.json", "baseline"))
    info = {"epoch": read_metadata(weights)["epoch"], "protocol": [task.protocol]}
    write_json(reports / "metrics.json", metrics | info)
    with atomic_file(reports / "metrics.csv") as temporary:
        table.to_csv(temporary, float_format="%.6g", encoding="utf-8")
    arrays = task.examples(model, test, table, pd.read_csv(reports / "curve.csv", encoding="utf-8"))
    with atomic_folder(reports / "figures") as folder:
        for name, content in arrays.items():
            np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **content)
        draw(arrays, folder)


if __name__ == "__main__":
    run(main)
