import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitpipe.config import Train
from vitpipe.training.schedule import ema_decay, learning_rate


def rates(schedule: str, *, epochs: int, per_epoch: int, lr: float = 1.0, warmup: float = 0.0) -> list[float]:
    """The rate of every step."""
    train = Train.model_construct(schedule=schedule, epochs=epochs, lr=lr, warmup=warmup)
    return [learning_rate(step, per_epoch, train) for step in range(epochs * per_epoch)]


@pytest.mark.parametrize(("epochs", "per_epoch"), [(1, 100), (20, 5), (100, 1)])
def test_values_of_the_cosine(epochs, per_epoch):
    found = rates("cosine", epochs=epochs, per_epoch=per_epoch, warmup=0.1)
    assert found[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])  # linear
    assert found[10] == 1  # the peak
    assert found[55] == pytest.approx(0.5)  # half-way down the cosine
    assert found[32] == pytest.approx(0.5 * (1 + 0.7193398), abs=1e-6)  # cos(pi * 22 / 90)
    assert 0 < found[99] < 0.001


def test_linear_falls_to_zero_in_equal_steps():
    found = rates("linear", epochs=4, per_epoch=5, lr=0.2, warmup=0.2)
    assert found == pytest.approx([0.05, 0.1, 0.15, 0.2] + [0.2 * left / 16 for left in range(16, 0, -1)])


def test_step_is_seven_tenths_every_five_epochs():
    found = rates("step", epochs=12, per_epoch=3, lr=0.1)
    assert found == pytest.approx([0.1] * 15 + [0.07] * 15 + [0.049] * 6)


def test_constant_stays_where_the_warm_up_ends():
    assert rates("constant", epochs=4, per_epoch=5, lr=0.2, warmup=0.2) == pytest.approx([0.05, 0.1, 0.15] + [0.2] * 17)


@given(
    st.sampled_from(["cosine", "linear", "step", "constant"]),
    st.integers(1, 100),
    st.integers(1, 30),
    st.floats(1e-6, 10),
    st.floats(0, 0.99),
)
def test_rises_once_then_falls_and_is_never_zero(schedule, epochs, per_epoch, peak, warmup):
    found = rates(schedule, epochs=epochs, per_epoch=per_epoch, lr=peak, warmup=warmup)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert min(found) > 0
    assert max(found) == pytest.approx(peak)
    assert rates(schedule, epochs=epochs, per_epoch=per_epoch, lr=peak)[0] == peak  # without warm-up


def test_decay_rises_to_its_setting():
    decays = [ema_decay(step, 0.99) for step in range(2000)]
    assert decays[0] == pytest.approx(0.1)
    assert decays == sorted(decays)
    assert decays[-1] == 0.99
    assert [ema_decay(step, 0.0) for step in (0, 10, 1000)] == [0, 0, 0]  # off: the last weights themselves
