"""How every stage starts and ends: settings first, and one line when something is wrong."""

import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from vitpipe.config import Settings, load_settings
from vitpipe.errors import InputError


def run(main: Callable[[Settings], None]) -> None:
    """Loads `params.yaml`, calls `main` with it and turns foreseeable failures into one line.

    The settings are checked as a whole before `main` imports anything heavy. Exits with
    status 1 on an `InputError`, an operating system error (full disk, no permission) or too little memory, and
    with 130 when interrupted. Any other exception is a defect and keeps its traceback.

    File names and what is printed are UTF-8, whatever the locale says: where Python takes another encoding, the process
    starts once more in UTF-8 mode.
    """
    use_utf8()
    name = Path(inspect.getfile(main)).stem
    try:
        main(load_settings())
    except InputError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        where = f": {os.path.relpath(error.filename)}" if isinstance(error.filename, str) else ""
        sys.exit(f"{name}: {error.strerror or error}{where}")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", str(error)):
            raise
        reason = (str(error) or "no more is free").splitlines()[0]
        sys.exit(f"{name}: not enough memory: lower train.batch or data.size ({reason:.120})")
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        sys.exit(130)


def use_utf8() -> None:
    """Starts this program again in Python's UTF-8 mode where it is needed; the process keeps its id."""
    wrong = {sys.getfilesystemencoding(), sys.stdout.encoding.lower()} != {"utf-8"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"} | {"PYTHONUTF8": "1"}
    if wrong and kept != dict(os.environ):  # else it was tried
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], kept)
