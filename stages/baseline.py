"""Scores what needs no learning on the test images: data/packed/test -> reports/baseline.json."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    from vitpipe.data.batches import Packed
    from vitpipe.files import write_json
    from vitpipe.tasks import task

    scores = task(settings.task.name).baseline(Packed(Path("data/packed/test")), settings)
    write_json(Path("reports/baseline.json"), scores)


if __name__ == "__main__":
    run(main)
