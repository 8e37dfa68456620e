"""The memory of a training step, measured for a tiny encoder."""

import re
import sys

import pytest

from benchmarks import memory


@pytest.mark.parametrize("options", [[], ["--accumulate", "2", "--checkpointing"]])
def test_a_step_is_measured(monkeypatch, capsys, options):
    monkeypatch.setattr(memory, "SIZES", {"b_16": (64, 2, 1)})
    monkeypatch.setattr(sys, "argv", ["memory", "b_16", "--size", "32", "--batch", "4", *options])
    memory.main()
    found = re.match(r"b_16: 0 M weights, peak (\d+\.\d\d) GB, \d+\.\d s", capsys.readouterr().out)
    assert found
    assert 0.1 < float(found[1]) < 20  # of this whole process
