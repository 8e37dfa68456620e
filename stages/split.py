"""Assigns each image to train, val or test: data/raw -> data/split.csv."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    from vitpipe.data.split import split
    from vitpipe.files import atomic_file
    from vitpipe.sources import source

    samples = source(settings.data.name).samples(Path("data/raw"))
    table = split(samples, settings.data, settings.seed, settings.target)
    with atomic_file(Path("data/split.csv")) as temporary:
        table.to_csv(temporary, index_label="id")
    counts = ", ".join(f"{part} {count}" for part, count in table["part"].value_counts().items())
    print(f"split: {counts}; {len(samples) - len(table)} left out")


if __name__ == "__main__":
    run(main)
