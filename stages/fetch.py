"""Gets the data set: downloads it, takes a local copy, or renders the built-in sample."""

from pathlib import Path
from typing import TYPE_CHECKING

from vitpipe.config import Settings
from vitpipe.stage import run

if TYPE_CHECKING:
    import pandas as pd

RAW = Path("data/raw")


def main(settings: Settings) -> None:
    from vitpipe.files import atomic_folder
    from vitpipe.sources import COLUMNS, source

    data_set = source(settings.data.name)
    with atomic_folder(RAW) as raw:
        data_set.fetch(settings.data, settings.seed, raw)
        table = data_set.samples(raw)
    for title, name in (("parts", "official"), ("classes", "label")):
        if name in table:
            print(f"{title}: {counted(table[name])}")
    size = sum(path.stat().st_size for path in RAW.iterdir())
    labels = [name for name in table if name not in COLUMNS]
    known = [name for name in ("official", "identity") if name in table]
    if "landmarks" in table:
        known.append(f"landmarks ({(table['landmarks'] == 'annotated').mean():.0%} annotated, else mean)")
    print(
        f"{RAW}: {len(table)} images of {settings.data.name}, {size / 1e6:.1f} MB; "
        f"annotation: {', '.join(known) or 'none'}; labels: {len(labels)}"
    )


def counted(values: "pd.Series") -> str:
    """Each value with its number of images, of many the first 20; images without a value are counted as such."""
    counts = values.value_counts().sort_index()
    listed = [f"{value} {count}" for value, count in counts.head(20).items()]
    listed += [f"and {len(counts) - 20} more"] if len(counts) > 20 else []
    return ", ".join(listed + ([f"none {missing}"] if (missing := int(values.isna().sum())) else []))


if __name__ == "__main__":
    run(main)
