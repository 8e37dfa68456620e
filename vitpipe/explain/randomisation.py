"""Whether a map depends on what the model learned: its layers made random one after the other.

A map that stays as it was draws the image, or the architecture, and not the model (Adebayo et al. 2018,
arXiv:1810.03292).
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

FIRST = ("stem.", "encoder.embed.", "encoder.token", "encoder.position")


def cascade(model: nn.Module, untrained: nn.Module, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """From the head down: the name of what was made random last, and the model with all down to there random.

    Cascading randomisation (Adebayo et al. 2018, section 4): head (all after the blocks), the blocks from the last to
    the first, embedding (all before them). Weights that training starts from at zero, as the last layer of a
    super-sampler, take their trained values in a random order: zeros would cut every map off from the input.

    Args:
        model: trained; not changed. The model given is one and the same each time, changed further.
        untrained: the same architecture with fresh weights; not changed.
        seed: of that random order.
    """
    mixed = copy.deepcopy(model)
    weights, fresh = dict(mixed.named_parameters()), dict(untrained.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    groups: dict[str, list[str]] = {"head": []}
    blocks = sorted({int(name.split(".")[2]) for name in weights if name.startswith("encoder.blocks.")}, reverse=True)
    groups |= {f"block {block + 1}": [] for block in blocks} | {"embedding": []}
    for name in weights:
        groups[group(name)].append(name)
    for step, names in groups.items():
        with torch.no_grad():
            for name in names:
                weights[name].copy_(replacement(weights[name], fresh[name], generator))
        yield step, mixed


def group(parameter: str) -> str:
    """Which step of the cascade a parameter belongs to, by its name."""
    if parameter.startswith("encoder.blocks."):
        return f"block {int(parameter.split('.')[2]) + 1}"
    return "embedding" if parameter.startswith(FIRST) else "head"


def replacement(trained: Tensor, fresh: Tensor, generator: torch.Generator) -> Tensor:
    """The fresh weights, or the trained ones shuffled where the fresh ones of a matrix or kernel are all zero."""
    if fresh.ndim < 2 or bool(fresh.any()):
        return fresh
    order = torch.randperm(trained.numel(), generator=generator).to(trained.device)
    return trained.flatten()[order].reshape(trained.shape)
