"""Some of the trainings of the quality section, to be added to later.

python -m benchmarks.equal_time --root ../data/celeba --networks ours,edsr-small --seeds 0,1 --minutes 10
"""

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import document, quality
from benchmarks.machine import cores, facts
from benchmarks.networks import NETWORKS
from benchmarks.store import load, put
from vitpipe.config import load_settings
from vitpipe.errors import InputError

RESULTS = Path("reports/benchmarks.json")


def main(arguments: list[str] | None = None) -> None:
    """Trains what the command line names, then writes the section and the document."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.equal_time", description=quality.TITLE)
    parser.add_argument("--root", type=Path, help="folder with CelebA; without it the built-in faces are used")
    parser.add_argument("--count", type=int, help="at most so many images; without it all")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each training")
    parser.add_argument("--seeds", type=numbers, default=(0, 1, 2), help="separated by commas")
    parser.add_argument("--networks", type=names, default=(), help=f"of {','.join(NETWORKS)}; without it all")
    options = parser.parse_args(words)
    try:
        report(vars(options), words)
    except InputError as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit("\nbenchmarks: interrupted; the trainings that were finished are kept")


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def report(options: dict[str, Any], words: list[str]) -> None:
    """Runs the section with these options and stores what it found."""
    torch.set_num_threads(cores())
    machine, start = facts(), time.monotonic()
    found = quality.run(load_settings(), quick=False, **options)
    shown = ["FOLDER" if word == str(options["root"]) else word for word in words]
    command = shlex.join(["python", "-m", "benchmarks.equal_time", *shown])
    seconds = round(time.monotonic() - start)
    put(RESULTS, "quality", {"machine": machine, "seconds": seconds, "command": command, "found": found})
    document.write(load(RESULTS), Path("docs"))


if __name__ == "__main__":
    main()
