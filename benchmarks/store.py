"""reports/benchmarks.json: what each section found, on which machine."""

import json
from pathlib import Path
from typing import Any

from benchmarks import SECTIONS
from vitpipe.errors import InputError
from vitpipe.files import write_json


def load(path: Path) -> dict[str, Any]:
    """What was measured so far, by section; nothing yet where there is no file.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is damaged: take it from git again, or remove it and measure all anew") from None


def put(path: Path, section: str, content: dict[str, Any]) -> None:
    """Writes the content of one section; what the others found stays as it is."""
    known = load(path) | {section: content}
    write_json(path, {name: known[name] for name in SECTIONS if name in known})
