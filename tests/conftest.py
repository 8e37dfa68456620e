"""What the tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data() -> Path:
    """The folder of real data that VITPIPE_REAL_DATA names; the test is skipped without it."""
    folder = os.environ.get("VITPIPE_REAL_DATA")
    if not folder:
        pytest.skip("VITPIPE_REAL_DATA names no folder of real data")
    return Path(folder).resolve()
