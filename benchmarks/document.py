"""docs/benchmarks.md and its charts, from reports/benchmarks.json and benchmarks/notes.md."""

from importlib import import_module
from pathlib import Path
from typing import Any

from vitpipe.errors import InputError
from vitpipe.figures.style import save
from vitpipe.files import atomic_file

NOTES = Path(__file__).with_name("notes.md")
HEAD = """# Speed and quality beside the peers

The sections before "More on quality at equal time" are made of what `make bench` measured, `reports/benchmarks.json`,
each in one run in which the competitors took turns; `python -m benchmarks document` makes them again without
measuring. What follows is written by hand."""


def write(results: dict[str, Any], folder: Path) -> None:
    """Writes `folder`/benchmarks.md and the charts in `folder`/benchmarks/.

    Raises:
        InputError: nothing was measured yet.
    """
    if not results:
        raise InputError("nothing was measured yet: run make bench, or python -m benchmarks with a section's name")
    parts = [HEAD]
    for name, section in results.items():
        module = import_module(f"benchmarks.{name}")
        parts += [f"## {module.TITLE}", origin(section), module.markdown(section["found"]).strip()]
        for title, figure in module.figures(section["found"]).items():
            save(figure, folder / "benchmarks" / f"{title}.png")
    parts.append(NOTES.read_text().strip())
    with atomic_file(folder / "benchmarks.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n")


def origin(section: dict[str, Any]) -> str:
    """On what, when, how long and by which command a section was measured."""
    machine = section["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    peaks = " and ".join(f"{value:,} GFLOP/s in {name}" for name, value in machine["peak"].items())
    return (
        f"`{section['command']}`, {duration(section['seconds'])} on {machine['date']}. {machine['processor']}, "
        f"{counted(machine['cores'], 'core')}, {counted(machine['threads'], 'thread')}; Python {machine['python']}, "
        f"{packages}. "
        f"Fastest product of two large matrices: {peaks}."
    )


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
