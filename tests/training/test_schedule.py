import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitpipe.training.schedule import ema_decay, learning_rate


def test_values():
    rates = [learning_rate(step, 100, 1.0, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])  # linear
    assert rates[10] == 1  # the peak
    assert rates[55] == pytest.approx(0.5)  # half-way down the cosine
    assert rates[32] == pytest.approx(0.5 * (1 + 0.7193398), abs=1e-6)  # cos(pi * 22 / 90)
    assert 0 < rates[99] < 0.001


@given(st.integers(1, 3000), st.floats(1e-6, 10), st.floats(0, 0.99))
def test_rises_once_then_falls_and_is_never_zero(steps, peak, warmup):
    rates = [learning_rate(step, steps, peak, warmup) for step in range(steps)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0
    assert max(rates) == pytest.approx(peak)


def test_without_warmup_the_first_step_has_the_peak():
    assert learning_rate(0, 100, 0.5, 0.0) == 0.5


def test_decay_rises_to_its_setting():
    decays = [ema_decay(step, 0.99) for step in range(2000)]
    assert decays[0] == pytest.approx(0.1)
    assert decays == sorted(decays)
    assert decays[-1] == 0.99
    assert [ema_decay(step, 0.0) for step in (0, 10, 1000)] == [0, 0, 0]  # off: the last weights themselves
