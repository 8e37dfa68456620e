"""Files that are written completely or not at all: to a temporary name first, then renamed."""

import csv
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vitpipe.errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block succeeds.

    On an exception the temporary file is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields an empty temporary folder beside `path`; it takes the place of `path` on success.

    On an exception the temporary folder is removed and `path` stays as it was. What a killed
    process left behind under the temporary name is cleared first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        old = path.with_name(f"{path.name}.old.tmp")
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` as indented json in the order given; refuses nan and infinities."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows with equal keys as csv with a header; floats keep six significant digits."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def load_json(path: Path, stage: str) -> dict[str, Any]:
    """The content of a json file that a stage made.

    Raises:
        InputError: it is missing or damaged; the message says how to make it.
    """
    try:
        return json.loads(read(path, stage))
    except ValueError:
        raise damaged(path, stage) from None


def load_arrays(path: Path, stage: str) -> dict[str, np.ndarray]:
    """The arrays of an npz file that a stage made. Raises as `load_json` does."""
    try:
        with np.load(io.BytesIO(read(path, stage)), allow_pickle=False) as file:
            return dict(file)
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error):
        raise damaged(path, stage) from None


def read(path: Path, stage: str) -> bytes:
    """The bytes of a file that a stage made. Raises as `load_json` does."""
    if not path.is_file():
        raise InputError(f"{path} is missing: the stage {stage} makes it (dvc repro {stage})")
    return path.read_bytes()


def damaged(path: Path, stage: str) -> InputError:
    """What to say of a file that a stage made and that cannot be read."""
    return InputError(f"{path} is empty or damaged: make it again (dvc repro --force --single-item {stage})")
