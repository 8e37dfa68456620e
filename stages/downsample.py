"""Makes HR targets and LR inputs: data/raw, data/split.csv -> data/packed."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    import pandas as pd

    from vitpipe.data.packing import pack
    from vitpipe.data.sources import source
    from vitpipe.files import atomic_folder

    table = pd.read_csv(
        "data/split.csv",
        index_col="id",
        dtype={"id": str, "identity": str, "label": str},
        na_values=[""],
        keep_default_na=False,
    )
    images = source(settings.data.name).open_images(Path("data/raw"))
    with atomic_folder(Path("data/packed")) as folder:
        counts = pack(table, images, settings.data, folder)
    print("downsample:", ", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    run(main)
