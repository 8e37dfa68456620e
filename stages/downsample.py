"""Makes HR targets and LR inputs: data/raw, data/split.csv -> data/packed."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    from vitpipe.data.packing import pack
    from vitpipe.data.split import read_table
    from vitpipe.files import atomic_folder
    from vitpipe.sources import source

    images = source(settings.data.name).open_images(Path("data/raw"))
    with atomic_folder(Path("data/packed")) as folder:
        counts = pack(read_table(Path("data/split.csv")), images, settings.data, folder)
    print("downsample:", ", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    run(main)
