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
    from vitpipe.tasks.evaluation import PARTS_PROTOCOL, evaluate, score_parts
    from vitpipe.training.checkpoint import read_metadata
    from vitpipe.training.compute import select_compute

    reports, weights = Path("reports"), Path("models/model.safetensors")
    test = open_part(settings, Path("data/packed/test"))
    device = select_compute(settings.train).device
    task, model = load_model(weights, settings, device)

    metrics, table = evaluate(task, model, test, load_json(reports / "baseline.json", "baseline"))
    metrics["epoch"], protocol = read_metadata(weights)["epoch"], task.protocol
    if averaged := {read_metadata(path)["epoch"]: path for path in Path("models/parts").glob("*.safetensors")}:
        models = ((epoch, load_model(averaged[epoch], settings, device)[1]) for epoch in sorted(averaged))
        metrics["parts"] = score_parts(task, models, len(averaged), test)
        protocol = protocol | {"parts": PARTS_PROTOCOL}
    write_json(reports / "metrics.json", metrics | {"protocol": [protocol]})
    with atomic_file(reports / "metrics.csv") as temporary:
        table.to_csv(temporary, float_format="%.6g", encoding="utf-8")
    arrays = task.examples(model, test, table, pd.read_csv(reports / "curve.csv", encoding="utf-8"))
    if averaged:
        arrays["curve"]["averaged"] = np.array(sorted(averaged))
    with atomic_folder(reports / "figures") as folder:
        for name, content in arrays.items():
            np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **content)
        draw(arrays, folder)


if __name__ == "__main__":
    run(main)
