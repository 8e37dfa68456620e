"""Learning rate and averaging decay as functions of the step."""

import math


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the first `warmup` share of `steps`, then half a cosine to zero (arXiv:1608.03983).

    The value belongs to `step` 0 .. steps - 1; it is never zero.
    """
    rising = max(1, round(steps * warmup))
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def ema_decay(step: int, decay: float) -> float:
    """Decay of the weights' exponential moving average, rising to `decay` so that early weights are soon forgotten."""
    return min(decay, (1 + step) / (10 + step))
