"""The parts of the data, and a task with its baselines; a super-sampler's unless a module has its own."""

import pytest

from vitpipe.data.dataset import PackedDataset
from vitpipe.tasks.base import scoring_task
from vitpipe.tasks.evaluation import score_baselines


@pytest.fixture
def parts(packed) -> list[PackedDataset]:
    return [PackedDataset(packed / part) for part in ("train", "val", "test")]


@pytest.fixture
def test(parts) -> PackedDataset:
    return parts[2]


@pytest.fixture
def task(settings):
    return scoring_task(settings())


@pytest.fixture
def baseline(task, parts) -> dict:
    return score_baselines(task, *parts)
