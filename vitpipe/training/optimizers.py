"""Which optimiser changes which weights, and Muon, which torch has for matrices but not for convolutions."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vitpipe.config import Train

STEPS = 5
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the Newton-Schulz iteration that Jordan et al. give


def optimizers(model: nn.Module, train: Train, dtype: torch.dtype = torch.float32) -> list[torch.optim.Optimizer]:
    """What `train.optimizer` says, over all weights: AdamW (arXiv:1711.05101), SGD with momentum, or Muon.

    Muon is for the matrices and kernels of all linear layers and convolutions but the first, which sees pixels, and
    the last, which makes pixels or scores; AdamW then has all other weights.

    Args:
        dtype: of Muon's products.
    """
    weights = list(model.parameters())
    own: dict[str, Any] = {"lr": train.lr, "weight_decay": train.weight_decay}
    if train.optimizer == "sgd":
        return [torch.optim.SGD(weights, momentum=train.momentum, fused=True, **own)]
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    hidden = [layer.weight for layer in layers[1:-1]] if train.optimizer == "muon" else []
    found = {id(weight) for weight in hidden}
    others = [weight for weight in weights if id(weight) not in found]
    adamw = torch.optim.AdamW(others, fused=True, capturable=weights[0].is_cuda, **own)
    adamw._warned_capturable_if_run_uncaptured = True  # some steps are taken before they are recorded
    return [Muon(hidden, dtype=dtype, **own), adamw] if hidden else [adamw]


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

    Its steps are as long as Liu et al. 2025 (arXiv:2502.16982) have them, so it shares AdamW's learning rate.

    Args:
        weights: of linear layers (out, in) and convolutions (out, in, height, width), as matrices of `out` rows.
        lr: learning rate. The root mean square of an update is about 0.2 times that, as AdamW's is. While a CUDA graph
            is recorded the group's `lr` must be a tensor: a number would stay what it was then.
        momentum: share of the last momentum in the next, with Nesterov's look ahead.
        weight_decay: decoupled, as AdamW's.
        dtype: of the products that make updates orthogonal.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Changes every weight that has a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            momenta = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
            matrices = [wide(matrix.flatten(1)) for matrix in ahead]
            alike = defaultdict(list)  # places of the weights of one shape, or of that turned
            for place, matrix in enumerate(matrices):
                alike[matrix.shape].append(place)
            for shape, places in alike.items():
                updates = orthogonalised(torch.stack([matrices[place] for place in places]), self.dtype)
                length = 0.2 * max(shape) ** 0.5
                same = [weights[place] for place in places]
                torch._foreach_mul_(same, 1 - group["lr"] * group["weight_decay"])
                step = -group["lr"] * length
                own = [as_kernel(update, weight) for update, weight in zip(updates, same, strict=True)]
                if isinstance(step, Tensor):
                    torch._foreach_add_(same, torch._foreach_mul(own, step))
                else:
                    torch._foreach_add_(same, own, alpha=step)


def wide(matrix: Tensor) -> Tensor:
    """The matrix, turned where it has more rows than columns."""
    return matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix


def as_kernel(matrix: Tensor, weight: Tensor) -> Tensor:
    """What `wide` made of a matrix like this weight, in the weight's shape again."""
    return (matrix.mT if len(matrix) != len(weight) else matrix).reshape(weight.shape)


def orthogonalised(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Matrices (k, m, n) with all their singular values brought near 1, between about 0.7 and 1.2; float32.

    An odd polynomial applied five times (Newton-Schulz) to the matrix of norm 1, without a decomposition. It takes
    the fewest products with m at most n.

    Args:
        dtype: of the products; what bfloat16 rounds off is far less than what the five steps leave.
    """
    a, b, c = COEFFICIENTS
    x = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.float()
