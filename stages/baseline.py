"""Scores on the test images what a model has to beat: data/packed -> reports/baseline.json."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    from vitpipe.files import write_json
    from vitpipe.tasks import open_part
    from vitpipe.tasks.base import scoring_task
    from vitpipe.tasks.evaluation import score_baselines

    parts = [open_part(settings, Path("data/packed") / part) for part in ("train", "val", "test")]
    task = scoring_task(settings, parts[0].classes)
    write_json(Path("reports/baseline.json"), score_baselines(task, *parts))


if __name__ == "__main__":
    run(main)
