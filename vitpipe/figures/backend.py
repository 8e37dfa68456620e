"""Imports matplotlib whatever MPLBACKEND says: figures are drawn by Agg and need no window.

Notebooks export a backend that is not installed where `vitpipe` runs, and with it the import would fail.
"""

import contextlib
import os
import sys

if "matplotlib" not in sys.modules:
    named = os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if named is not None:
        os.environ["MPLBACKEND"] = named
        with contextlib.suppress(ValueError):  # the user's own figures keep their backend
            matplotlib.rcParams["backend"] = named
