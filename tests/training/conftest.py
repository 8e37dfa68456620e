"""What the tests of training share."""

from pathlib import Path

import pytest

from vitpipe.data.packing import pack


@pytest.fixture
def labelled(tmp_path, settings, shapes, table) -> Path:
    """A folder as the downsample stage makes it for classification: 24x24, no LR, `odd` is 1 or -1."""
    made = settings(**{"task.name": "classify", "data.scale": 1}).data
    folder = tmp_path / "labelled"
    pack(table.assign(odd=table["odd"] * 2 - 1), shapes, made, folder)
    return folder
