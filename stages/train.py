"""Trains the Vision Transformer: data/packed -> models, reports/curve.csv. Goes on where it was killed."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    from vitpipe.data.dataset import PackedDataset
    from vitpipe.training.compute import choose
    from vitpipe.tasks import task
    from vitpipe.training.checkpoint import Resume, resume_folder
    from vitpipe.training.distributed import join
    from vitpipe.training.launch import launch, launched
    from vitpipe.training.loop import train

    processes = settings.train.processes
    if processes > 1 and not launched():
        launch("stages.train", processes)
        return
    compute = choose(settings.train)
    with join(processes, compute.device.type) as group:
        learned, held_out = (PackedDataset(Path("data/packed") / part, settings.target) for part in ("train", "val"))
        folder = resume_folder(settings, [learned.digest, held_out.digest], compute)
        group.agree(folder.name)
        train(
            task(settings.task.name),
            settings,
            learned,
            held_out,
            compute,
            Resume(folder),
            Path("models"),
            Path("reports/curve.csv"),
            group,
        )


if __name__ == "__main__":
    run(main)
