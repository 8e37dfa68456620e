"""Scores the model on the test images beside the baselines, and draws: models, data/packed/test -> reports."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    import pandas as pd

    from vitpipe.data.dataset import PackedDataset
    from vitpipe.figures import figures
    from vitpipe.files import atomic_file, atomic_folder, load_json, write_json
    from vitpipe.training.compute import choose
    from vitpipe.tasks import task
    from vitpipe.training.checkpoint import load_weights, read_metadata

    reports, weights = Path("reports"), Path("models/model.safetensors")
    compute, job = choose(settings.train), task(settings.task.name)
    packed = PackedDataset(Path("data/packed/test"), settings.target)
    model = job.build(settings, packed.classes).to(compute.device)
    load_weights(weights, model, settings)

    metrics, table = job.evaluate(model, packed, load_json(reports / "baseline.json", "baseline"), settings, compute)
    facts = {"epoch": read_metadata(weights)["epoch"], "protocol": [job.PROTOCOL]}
    write_json(reports / "metrics.json", metrics | facts)
    with atomic_file(reports / "metrics.csv") as temporary:
        table.to_csv(temporary, float_format="%.6g")
    curve = pd.read_csv(reports / "curve.csv")
    with atomic_folder(reports / "figures") as folder:
        figures(settings.task.name).draw(job.examples(model, packed, table, settings, compute), curve, folder)


if __name__ == "__main__":
    run(main)
