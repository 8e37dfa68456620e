"""Draws what the explain stage measured: reports/explanations -> reports/heatmaps."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run


def main(settings: Settings) -> None:
    from vitpipe.errors import InputError
    from vitpipe.figures import draw
    from vitpipe.files import atomic_folder, load_arrays

    explanations = Path("reports/explanations")
    files = list(explanations.glob("*.npz"))
    if not files:
        raise InputError(f"{explanations} is missing or empty: the stage explain makes it (dvc repro explain)")
    with atomic_folder(Path("reports/heatmaps")) as folder:
        draw({path.stem: load_arrays(path, "explain") for path in files}, folder)


if __name__ == "__main__":
    run(main)
