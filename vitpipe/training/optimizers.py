"""Which optimiser changes which weights, and Muon, which torch has for matrices but not for convolutions."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vitpipe.config import Train
from vitpipe.nn.convolution import ResidualBlock
from vitpipe.nn.encoder import Block

STEPS = 5
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the Newton-Schulz iteration that Jordan et al. give


def optimizers(model: nn.Module, train: Train) -> list[torch.optim.Optimizer]:
    """What `train.optimizer` says, over all weights: AdamW (arXiv:1711.05101), SGD with momentum, or Muon.

    Muon is for the matrices and kernels inside residual blocks, of convolutions and of the transformer; AdamW then has
    all other weights.
    """
    weights = list(model.parameters())
    own: dict[str, Any] = {"lr": train.lr, "weight_decay": train.weight_decay}
    if train.optimizer == "sgd":
        return [torch.optim.SGD(weights, momentum=train.momentum, fused=True, **own)]
    if train.optimizer == "adamw":
        return [torch.optim.AdamW(weights, fused=True, **own)]
    blocks = [module for module in model.modules() if isinstance(module, Block | ResidualBlock)]
    inside = [weight for block in blocks for weight in block.parameters() if weight.ndim > 1]
    found = {id(weight) for weight in inside}
    return [Muon(inside, **own), torch.optim.AdamW([w for w in weights if id(w) not in found], fused=True, **own)]


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

    Its steps are as long as Liu et al. 2025 (arXiv:2502.16982) have them, so it shares AdamW's learning rate.

    Args:
        weights: of linear layers (out, in) and convolutions (out, in, height, width), as matrices of `out` rows.
        lr: learning rate. The root mean square of an update is about 0.2 times that, as AdamW's is.
        momentum: share of the last momentum in the next, with Nesterov's look ahead.
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Changes every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonalised(weight.grad.lerp(state["momentum"], group["momentum"]).flatten(1))
                length = 0.2 * max(update.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update.view_as(weight), alpha=-group["lr"] * length)


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix (m, n) with all its singular values brought near 1, between about 0.7 and 1.2.

    An odd polynomial applied five times (Newton-Schulz) to the matrix of norm 1, without a decomposition.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
