"""Measures speed and quality beside other libraries, into benchmarks/results.json and the tables of docs/benchmarks.md.

python -m benchmarks encoder                        # encoders of timm, torchvision, vit-pytorch; 10 minutes
python -m benchmarks data                           # ImageFolder and DataLoader; 5 minutes
python -m benchmarks quality --root ../data/celeba  # EDSR, SwinIR, RCAN; 10 minutes for each network and seed
python -m benchmarks document                       # writes the tables again, measures nothing
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import data, encoder, quality, results
from benchmarks.networks import NETWORKS
from vitpipe.errors import InputError
from vitpipe.files import atomic_file
from vitpipe.training.compute import cpu_multiplies_bfloat16

DOCUMENT = Path(__file__).resolve().parents[1] / "docs/benchmarks.md"
QUICK: dict[str, Any] = {"minutes": 0.05, "count": 100}
SECTIONS = {"encoder": encoder, "quality": quality, "data": data}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 1 and one line when something is wrong."""
    options = parse(arguments)
    try:
        if options.command != "document":
            new = measure(options)
            print(results.origin(new), SECTIONS[options.command].markdown(new), sep="\n\n")
            if options.quick:
                return
            results.add(options.command, new)
        text = document(DOCUMENT.read_text(encoding="utf-8"), results.load())
        with atomic_file(DOCUMENT) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except InputError as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit("\nbenchmarks: interrupted, nothing was stored")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in SECTIONS:
        command = commands.add_parser(name)
        command.add_argument("--quick", action="store_true", help="a tiny setting; prints and stores nothing")
        if name != "encoder":
            command.add_argument("--root", type=Path, help="folder or zip with CelebA (default: the built-in faces)")
        if name == "quality":
            command.add_argument("--minutes", type=float, default=10.0, help="of each training (default: 10)")
            command.add_argument("--seeds", type=int, nargs="+", default=[0], help="(default: 0)")
            command.add_argument("--networks", nargs="+", metavar="NAME", default=list(NETWORKS), help="(default: all)")
    commands.add_parser("document", help="write the tables of docs/benchmarks.md again")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> results.Measurement:
    """Runs the benchmark that the options name."""
    quick = options.quick
    if options.command == "encoder":
        return encoder.run(("bfloat16", "float32") if cpu_multiplies_bfloat16() else ("float32",), quick=quick)
    if options.command == "data":
        return data.run(options.root, count=QUICK["count"], rounds=1) if quick else data.run(options.root)
    size = QUICK if quick else {"minutes": options.minutes}
    return quality.run(options.root, seeds=options.seeds, networks=options.networks, **size)


def document(text: str, stored: dict[str, list[results.Measurement]]) -> str:
    """docs/benchmarks.md with the last measurement of each benchmark."""
    last = {name: stored[name][-1] for name in SECTIONS if stored.get(name)}
    tables = {name: f"{results.origin(one)}\n\n{SECTIONS[name].markdown(one)}" for name, one in last.items()}
    return results.with_tables(text, tables)


if __name__ == "__main__":
    main()
