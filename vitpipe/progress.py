"""Progress bars: lively on a terminal, a line now and then in a log."""

import sys

from tqdm import tqdm


def progress(total: int, title: str, unit: str, done: int = 0, *, shown: bool = True) -> tqdm:
    """A bar on stderr with throughput and time left; use it in a `with` and call its `update`."""
    lively = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        unit=f" {unit}",
        mininterval=0.2 if lively else 20,
        dynamic_ncols=lively,
        disable=not shown,
    )
