"""Measures of attention weights, of the outputs of heads and of the norms of tokens.

Shapes: b images, l layers, h heads, n tokens, e dimension of a head; weights are (b, l, h, n, n), query before key,
and each row sums to one. All sums are computed in the precision of the input.
"""

import math
from itertools import combinations

import torch
from torch import Tensor


def among_patches(weights: Tensor, prefix: int) -> Tensor:
    """Attention of patches to patches, each row summing to one, where the first `prefix` tokens are no patches.

    This is the softmax without the prefix tokens.
    """
    if not prefix:
        return weights
    patches = weights[..., prefix:, prefix:]
    return patches / patches.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


def non_self(weights: Tensor) -> Tensor:
    """Attention to the other tokens: A_ij / (1 - A_ii), and 0 for j = i; zeros where A_ii is the only weight of a row.

    This is the softmax with the diagonal of the logits at minus infinity. It divides by the sum of the other weights,
    which stays exact where A_ii is close to one.
    """
    others = weights.clone()
    others.diagonal(dim1=-2, dim2=-1).zero_()
    return others.div_(others.sum(-1, keepdim=True).clamp_min_(torch.finfo(weights.dtype).tiny))


def self_weight(weights: Tensor) -> Tensor:
    """Share of its attention that a token gives itself, A_ii, in [0, 1]: (b, l, h, n)."""
    return weights.diagonal(dim1=-2, dim2=-1)


def entropy(weights: Tensor) -> Tensor:
    """Entropy of each query's attention over ln n, in [0, 1]: 0 is one token, 1 all equally. (b, l, h, n)."""
    return nats(weights) / math.log(weights.shape[-1])


def nats(weights: Tensor) -> Tensor:
    """Entropy over the last axis in nats, with 0 log 0 = 0; on a CPU in half the time of `torch.special.entr`."""
    return -weights.clamp_min(torch.finfo(weights.dtype).tiny).log_().mul_(weights).sum(-1)


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
    """Between the centres of all pairs of patches, in pixels: (n, n) float64."""
    places = torch.arange(tokens)
    centres = patch * (torch.stack([places % columns, places // columns], 1).double() + 0.5)
    return torch.cdist(centres, centres)


def received(weights: Tensor) -> Tensor:
    """Non-self attention that each token receives, mean over queries, as a ratio to uniform: (b, l, h, n), mean 1."""
    return non_self(weights).mean(-2) * weights.shape[-1]


def diversity(weights: Tensor) -> Tensor:
    """How differently the heads of a layer attend, in [0, 1]: (b, l); NaN where a layer has one head only.

    Jensen-Shannon divergence H((p + q) / 2) - (H(p) + H(q)) / 2 of two heads' attention of the same query over
    ln 2, its largest value (Lin 1991, "Divergence measures based on the Shannon entropy"), averaged over all
    pairs of heads and all queries: 0 where all heads attend alike, 1 where no two ever see the same token.
    """
    own = nats(weights).mean(-1)  # b l h
    total = torch.zeros_like(own[..., 0])
    pairs = list(combinations(range(weights.shape[2]), 2))
    for first, second in pairs:  # one pair at a time, because all are h * h * n * n numbers
        mixed = nats((weights[:, :, first] + weights[:, :, second]) / 2).mean(-1)
        total += mixed - (own[..., first] + own[..., second]) / 2
    return (total / (len(pairs) * math.log(2))).clamp(0, 1)


def divergence(weights: Tensor, other: Tensor) -> Tensor:
    """How unlike two attentions of each query are, in [0, 1]: (b, l, h, n) of weights that broadcast to each other.

    Jensen-Shannon divergence over ln 2, as in `diversity`: 0 where both are alike, 1 where they have no key in common.
    """
    apart = nats((weights + other) / 2) - (nats(weights) + nats(other)) / 2
    return (apart / math.log(2)).clamp(0, 1)


def output_diversity(outputs: Tensor) -> Tensor:
    """How differently the outputs of a layer's heads arrange the tokens, in [0, 1]: (b, l) of (b, l, h, n, e).

    One minus the mean over pairs of heads of linear CKA over the tokens (Kornblith et al. 2019, arXiv:1905.00414,
    section 3), |X'Y|^2 / (|X'X| |Y'Y|) of outputs (n, e) centred over the tokens. CKA ignores rotation and scale,
    because each head has its own coordinates. 0 where all heads are alike. A head whose output is the same for all
    tokens counts as equal to another such head, and as unlike any other. With few tokens CKA of unrelated heads is
    about e / n, so give the tokens of many images as one n. NaN where a layer has one head only.
    """
    heads, width = outputs.shape[2], outputs.shape[-1]
    centred = outputs - outputs.mean(-2, keepdim=True)
    # a head whose tokens differ by less than rounding would otherwise be compared by that rounding
    constant = centred.norm(dim=(-2, -1)) <= 1e-5 * outputs.norm(dim=(-2, -1))  # b l h
    joined = centred.transpose(2, 3).flatten(-2)  # b l n h*e
    products = (joined.mT @ joined).unflatten(-2, (heads, width)).unflatten(-1, (heads, width))  # b l h e h e
    squares = products.square().sum((-3, -1))  # b l h h: |X'Y|^2, and on the diagonal |X'X|^2
    scale = squares.diagonal(dim1=-2, dim2=-1).sqrt()
    similar = squares / (scale[..., None] * scale[..., None, :]).clamp_min(torch.finfo(squares.dtype).tiny)
    either, both = constant[..., None] | constant[..., None, :], constant[..., None] & constant[..., None, :]
    similar = torch.where(either, both.to(similar), similar)
    first, second = torch.triu_indices(heads, heads, 1)
    return (1 - similar[..., first, second].mean(-1)).clamp(0, 1)


def outliers(norms: Tensor) -> Tensor:
    """Share of the tokens whose norm is an outlier of the layer, in [0, 1]: (l,) of (b, l, n).

    Darcet et al. 2023 (arXiv:2309.16588, section 2.1) find tokens about ten times as long as the rest and choose a
    threshold by eye. Here an outlier is above median + 6 * 1.4826 * MAD, where 1.4826 times the median absolute
    deviation is a robust standard deviation (Rousseeuw & Croux 1993) and six of them are one in 10^9 by chance, and
    above twice the median, which excludes small differences where nearly all norms agree.
    """
    flat = norms.transpose(0, 1).flatten(1)  # l b*n
    middle = flat.median(1, keepdim=True).values
    spread = 1.4826 * (flat - middle).abs().median(1, keepdim=True).values
    return (flat > torch.maximum(middle + 6 * spread, 2 * middle)).to(flat.dtype).mean(1)


def norm_ratio(norms: Tensor) -> Tensor:
    """The largest norm of a layer's tokens over their median, 1 or more: (l,) of (b, l, n)."""
    flat = norms.transpose(0, 1).flatten(1)  # l b*n
    return flat.amax(1) / flat.median(1).values.clamp_min(torch.finfo(flat.dtype).tiny)
