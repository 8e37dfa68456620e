"""What several tests of the benchmarks need."""

from pathlib import Path

import pytest

from vitpipe.data.dataset import PackedDataset


@pytest.fixture
def parts(packed: Path) -> dict[str, PackedDataset]:
    return {part: PackedDataset(packed / part) for part in ("train", "val", "test")}
