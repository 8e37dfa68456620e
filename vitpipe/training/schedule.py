"""Learning rate and averaging decay as functions of the step."""

import math

from vitpipe.config import Train

STEP_EVERY, STEP_FACTOR = 5, 0.7  # the step schedule multiplies the rate by 0.7 every 5 epochs


def learning_rate(step: int, per_epoch: int, train: Train) -> float:
    """Linear warm-up over the first `train.warmup` share of all steps, then as `train.schedule` says.

    cosine: half a cosine to zero (arXiv:1608.03983); linear: to zero; step: times 0.7 every 5 epochs; constant. The
    value belongs to `step` 0 .. `train.epochs` * `per_epoch` - 1; it is never zero.
    """
    steps = train.epochs * per_epoch
    rising = max(1, round(steps * train.warmup))
    if step < rising:
        return train.lr * (step + 1) / rising
    if train.schedule == "step":
        return train.lr * STEP_FACTOR ** (step // per_epoch // STEP_EVERY)
    if train.schedule == "constant":
        return train.lr
    if train.schedule == "linear":
        return train.lr * (steps - step) / max(1, steps - rising)
    return train.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def ema_decay(step: int, decay: float) -> float:
    """Decay of the weights' exponential moving average, rising to `decay` so that early weights are soon forgotten."""
    return min(decay, (1 + step) / (10 + step))
