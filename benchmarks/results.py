"""benchmarks/results.json, which holds every measurement, and the tables of docs/benchmarks.md.

The file has a list of measurements for each subcommand, oldest first. A measurement says when, at which commit and on
which machine it was made, with which settings (`setup`), and has `rows`, see the subcommand's module. A new one takes
the place of an older one with the same machine and settings. docs/benchmarks.md shows the last one of each list.
"""

import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from vitpipe.files import atomic_file

RESULTS = Path(__file__).with_name("results.json")
PACKAGES = ("torch", "torchvision", "timm", "vit-pytorch", "spandrel")
Measurement = dict[str, Any]


def measurement(setup: dict[str, Any], rows: list[dict[str, Any]]) -> Measurement:
    """What was measured, here and now."""
    described = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    today = datetime.now(UTC).date().isoformat()
    return {
        "date": today,
        "commit": described.stdout.strip() or None,
        "machine": machine(),
        "setup": setup,
        "rows": rows,
    }


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, threads of torch, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"processor": processor(), "cores": cores, "threads": torch.get_num_threads()}
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8"), re.M) if info.exists() else None
    return name[1] if name else platform.processor() or platform.machine()


def load(path: Path = RESULTS) -> dict[str, list[Measurement]]:
    """Measurements by subcommand."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def add(name: str, new: Measurement, path: Path = RESULTS) -> None:
    """Adds a measurement of the subcommand `name` to the file."""
    results = load(path)
    kept = [old for old in results.get(name, []) if identity(old) != identity(new)]
    save(results | {name: [*kept, new]}, path)


def identity(one: Measurement) -> tuple[Any, ...]:
    """What tells a measurement apart from the next one of the same."""
    return one["machine"]["processor"], one["machine"]["threads"], one["setup"], one.get("note")


def save(results: dict[str, list[Measurement]], path: Path) -> None:
    """Writes the file with a line for each row, so that differences in git are readable."""
    text = json.dumps(results, indent=1, allow_nan=False)
    text = re.sub(r"\{[^{}]*\}", lambda part: " ".join(part[0].split()), text)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def origin(one: Measurement) -> str:
    """When, where and how it was measured, in a sentence or two."""
    where = one["machine"]
    versions = ", ".join(f"{name} {where[name]}" for name in ("python", *PACKAGES) if where.get(name))
    setup = ", ".join(f"{key} {value}" for key, value in one["setup"].items())
    note = f" {one['note']}" if one.get("note") else ""
    return (
        f"{one['date']}, commit {one['commit']}, {where['processor']}, {where['cores']} cores, {where['threads']} "
        f"threads, {versions}; {setup}.{note}"
    )


def table(headings: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    rows = [headings, ["---", *["--:"] * (len(headings) - 1)], *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def with_tables(text: str, tables: dict[str, str]) -> str:
    """A document with the tables, each between the lines `<!-- NAME -->` and `<!-- /NAME -->`."""
    for name, content in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{content}\n{end}{rest.partition(end)[2]}"
    return text
