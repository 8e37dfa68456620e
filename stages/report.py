"""Puts settings, numbers and figures of this run on one page: reports/index.html."""

from pathlib import Path

import pandas as pd

from vitpipe.config import Settings
from vitpipe.errors import InputError
from vitpipe.files import atomic_file
from vitpipe.report.page import build
from vitpipe.stage import run


def main(settings: Settings) -> None:
    table, page = Path("data/split.csv"), Path("reports/index.html")
    if not table.is_file():
        raise InputError(f"{table} is missing: the stage split makes it (dvc repro split)")
    counts = pd.read_csv(table, usecols=["part"]).part.value_counts()
    parts = {name: int(counts.get(name, 0)) for name in ("train", "val", "test")}
    html = build(Path("reports"), settings.model_dump(), parts)
    with atomic_file(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    print(f"{page}: {len(html) / 1e6:.1f} MB, opens in a browser")


if __name__ == "__main__":
    run(main)
