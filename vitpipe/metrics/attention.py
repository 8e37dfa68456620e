"""Measures of attention weights.

Legend of the shapes: b images, l layers, h heads, n tokens; weights are (b, l, h, n, n), query before key, and
each row sums to one. All sums are taken in the precision of the input.
"""

import math

import torch
from torch import Tensor

from vitpipe.metrics.grid import token_centres


def among_patches(weights: Tensor) -> Tensor:
    """Attention of patches to patches where token 0 is a class token: (b, l, h, n-1, n-1), each row summing to one.

    What a patch gives to the class token is spread over the patches in proportion: a softmax without it.
    """
    patches = weights[..., 1:, 1:]
    return patches / patches.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


def non_self(weights: Tensor) -> Tensor:
    """Attention to the other tokens: A_ij / (1 - A_ii), and 0 for j = i.

    The same as a softmax over the logits with the diagonal at minus infinity. The other weights of a
    row are divided by their own sum, which stays exact where A_ii is close to one; a row that keeps
    nothing for the others becomes zero.
    """
    eye = torch.eye(weights.shape[-1], dtype=torch.bool, device=weights.device)
    others = weights.masked_fill(eye, 0)
    return others / others.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


def self_weight(weights: Tensor) -> Tensor:
    """Share of its attention that a token gives itself, A_ii, in [0, 1]: (b, l, h, n)."""
    return weights.diagonal(dim1=-2, dim2=-1)


def entropy(weights: Tensor) -> Tensor:
    """Entropy of each query's attention over ln n, in [0, 1]: 0 is one token, 1 all equally. (b, l, h, n)."""
    return torch.special.entr(weights).sum(-1) / math.log(weights.shape[-1])


def distance(weights: Tensor, patch: int, columns: int) -> Tensor:
    """Mean attention distance of each query, in pixels of the encoder's input: (b, l, h, n).

    Distance between the centres of query and key patch, averaged with the attention as weight
    (Dosovitskiy et al. 2020, arXiv:2010.11929, figure 7).
    """
    return (weights * distances(weights.shape[-1], patch, columns).to(weights)).sum(-1)


def uniform_distance(tokens: int, patch: int, columns: int) -> float:
    """Mean attention distance, in pixels, of attention that sees all tokens equally."""
    return float(distances(tokens, patch, columns).mean())


def distances(tokens: int, patch: int, columns: int) -> Tensor:
    centres = torch.from_numpy(token_centres(patch, columns, tokens // columns))
    return torch.cdist(centres, centres)  # n n


def received(weights: Tensor) -> Tensor:
    """Non-self attention that each token receives, mean over queries, as a ratio to uniform: (b, l, h, n), mean 1."""
    return non_self(weights).mean(-2) * weights.shape[-1]
