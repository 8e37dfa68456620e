"""What several tests of the benchmarks need."""

from pathlib import Path

import pytest

from vitpipe.data.batches import Packed


@pytest.fixture
def parts(packed: Path) -> dict[str, Packed]:
    return {part: Packed(packed / part) for part in ("train", "val", "test")}
