"""Measures and writes docs/benchmarks.md.

python -m benchmarks                        # all sections, one after the other; that on a GPU where there is one
python -m benchmarks encoders growth        # these alone; what the others found before stays
python -m benchmarks document               # nothing is measured, the document is made again
python -m benchmarks --root ../data/celeba  # pictures from CelebA instead of the built-in faces
python -m benchmarks --quick                # a tiny setting, into .bench/quick: shows that it works
"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks import SECTIONS
from vitpipe.config import load_settings
from vitpipe.errors import InputError

QUICK = Path(".bench/quick")


def main(arguments: list[str] | None = None) -> None:
    """Runs the sections that the command line names, all where it names none, then writes the document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and quality beside the peers.")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SECTIONS)}, or document")
    parser.add_argument("--root", type=Path, help="folder with CelebA; without it the built-in faces are used")
    parser.add_argument("--quick", action="store_true", help=f"a tiny setting, written below {QUICK}")
    options = parser.parse_args(arguments)
    for name in options.sections:
        if name not in (*SECTIONS, "document"):
            parser.error(f"there is no section {name}: {', '.join(SECTIONS)}, document")
    try:
        bench(options.sections, options.root, options.quick)
    except InputError as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit("\nbenchmarks: interrupted; the sections that were done are kept")


def bench(sections: list[str], root: Path | None, quick: bool) -> None:
    """Measures the sections, without names all that can be, stores each, and writes the document of all stored ones."""
    settings = load_settings()
    import torch

    from benchmarks.document import write
    from benchmarks.machine import SIDE, SMALL, cores, facts
    from benchmarks.store import load, put

    torch.set_num_threads(cores())
    folder = QUICK if quick else Path()
    results = folder / "reports" / "benchmarks.json"
    usual = [name for name in SECTIONS if name != "gpu" or torch.cuda.is_available()]
    for name in [name for name in SECTIONS if name in sections] if sections else usual:
        print(f"benchmarks: {name}", file=sys.stderr)
        machine, start = facts(SMALL if quick else SIDE), time.monotonic()
        found = import_module(f"benchmarks.{name}").run(settings, quick=quick, root=root)
        command = f"python -m benchmarks {name}" + (" --root FOLDER" if root else "") + (" --quick" if quick else "")
        seconds = round(time.monotonic() - start)
        put(results, name, {"machine": machine, "seconds": seconds, "command": command, "found": found})
    write(load(results), folder / "docs")


if __name__ == "__main__":
    main()
