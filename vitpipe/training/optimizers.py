"""Which optimizer changes which weights, and Muon, which torch has for matrices but not for convolutions."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vitpipe.config import Train
from vitpipe.models.attention import Attention
from vitpipe.models.place import Place

STEPS = 5
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the Newton-Schulz iteration, from Jordan et al.


def optimizers(model: nn.Module, train: Train, dtype: torch.dtype = torch.float32) -> list[torch.optim.Optimizer]:
    """The optimizers that `train.optimizer` names: AdamW (arXiv:1711.05101), SGD with momentum, or Muon.

    Muon gets the weights of all linear layers and convolutions except the first, whose input are pixels, and the last,
    whose output are pixels or scores. AdamW gets everything else.

    With `train.layer_decay` every group has an `lr_scale`, by which the learning rate is to be multiplied.

    Args:
        model: with the parts that `vitpipe.training.task.TrainingTask.build` promises, or with its head alone.
        dtype: of Muon's matrix products.
    """
    weights = list(model.parameters())
    own: dict[str, Any] = {"lr": train.lr, "weight_decay": train.weight_decay}
    if train.optimizer == "sgd":
        layered = by_layer([{"params": weights}], model, train.layer_decay)
        return [torch.optim.SGD(layered, momentum=train.momentum, fused=True, **own)]
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    hidden = [layer.weight for layer in layers[1:-1]] if train.optimizer == "muon" else []
    found = {id(weight) for weight in hidden}
    others = [weight for weight in weights if id(weight) not in found]
    placed = {id(weight) for module in model.modules() if isinstance(module, Place) for weight in module.parameters()}
    groups: list[dict[str, Any]] = [{"params": [weight for weight in others if id(weight) not in placed]}]
    if placed:  # decay would pull every head to its own patch, and its window to the whole image
        groups.append({"params": [weight for weight in others if id(weight) in placed], "weight_decay": 0.0})
    groups = by_layer(groups, model, train.layer_decay)
    adamw = torch.optim.AdamW(groups, fused=True, capturable=weights[0].is_cuda, **own)
    adamw._warned_capturable_if_run_uncaptured = True  # the first steps are not recorded as CUDA graphs
    if not hidden:
        return [adamw]
    three = {id(module.qkv.weight) for module in model.modules() if isinstance(module, Attention)}
    matrices = [
        {"params": [weight for weight in hidden if (id(weight) in three) == fused], "matrices": 3 if fused else 1}
        for fused in (False, True)
    ]
    return [Muon([group for group in matrices if group["params"]], dtype=dtype, **own), adamw]


def by_layer(groups: list[dict[str, Any]], model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Groups of weights, split by layer: layer i of 0 .. L has the `lr_scale` decay^(L - i). With decay 1 not split.

    Everything before the blocks is layer 0, block b is b + 1, and everything after the blocks is the last one (Bao et
    al. 2021, arXiv:2106.08254, and He et al. 2021, arXiv:2111.06377, in their published code).
    """
    if decay == 1:
        return groups
    layer = layers(model)
    split: list[dict[str, Any]] = []
    for group in groups:
        for number in sorted({layer[id(weight)] for weight in group["params"]}):
            own = [weight for weight in group["params"] if layer[id(weight)] == number]
            split.append(group | {"params": own, "lr_scale": decay ** (max(layer.values()) - number)})
    return split


def layers(model: Any) -> dict[int, int]:
    """The number of the layer of each weight, by the weight's id, see `by_layer`."""
    encoder, last = model.encoder, len(model.encoder.blocks) + 1
    numbered = [(model, last), (model.stem, 0), (encoder, 0), *zip(encoder.blocks, range(1, last), strict=True)]
    numbered += [(part, last) for part in (encoder.norm, encoder.fc_norm) if part is not None]
    return {id(weight): number for part, number in numbered for weight in part.parameters()}


def set_lr(optimizers: Iterable[torch.optim.Optimizer], lr: float) -> None:
    """Sets the learning rate of all weights, times the `lr_scale` of their group where it has one.

    On a CUDA device the rate is in a tensor that stays the same, so that a recorded step reads it anew.
    """
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        rate, device = lr * group.get("lr_scale", 1.0), group["params"][0].device
        if device.type != "cuda":
            group["lr"] = rate
        elif isinstance(group["lr"], Tensor) and group["lr"].is_cuda:
            group["lr"].fill_(rate)
        else:
            group["lr"] = torch.tensor(rate, device=device)


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized updates (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

    Updates are scaled as in Liu et al. 2025 (arXiv:2502.16982), so the learning rate is that of AdamW.

    Args:
        weights: of linear layers (out, in) and convolutions (out, in, height, width), seen as matrices of `out` rows.
        lr: learning rate; the root mean square of an update is about 0.2 times that, as with AdamW. To be recorded in
            a CUDA graph, the group's `lr` must be a tensor: a number would keep its value.
        momentum: share of the last momentum in the next one, with Nesterov's look-ahead.
        weight_decay: decoupled, as in AdamW.
        dtype: of the matrix products that orthogonalize updates.
    """

    def __init__(
        self,
        weights: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "matrices": 1})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Changes all weights that have gradients; matrices of the same shape, or its transpose, are one batch."""
        for group in self.param_groups:
            alike = defaultdict(list)
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                ahead = weight.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
                for part, matrix in zip(weight.chunk(group["matrices"]), ahead.chunk(group["matrices"]), strict=True):
                    alike[tuple(sorted(matrix.shape))].append((part, matrix))
            for (short, long), members in alike.items():
                matrices = torch.stack([matrix.mT if len(matrix) > short else matrix for _, matrix in members])
                step = -group["lr"] * (0.2 * long**0.5)
                for (part, matrix), update in zip(members, orthogonalize(matrices, self.dtype), strict=True):
                    update = (update.mT if len(matrix) > short else update).reshape(part.shape)
                    if isinstance(step, Tensor):
                        part.add_(update * step)
                    else:
                        part.add_(update, alpha=step)


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Matrices (k, m, n) with all their singular values brought near 1, between about 0.7 and 1.2; float32.

    An odd polynomial, applied five times (Newton-Schulz) to the matrix of norm 1; no decomposition is needed. It takes
    the fewest products with m at most n.

    Args:
        dtype: of the products; the rounding error of bfloat16 is far smaller than what the five steps leave.
    """
    a, b, c = COEFFICIENTS
    x = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.float()
