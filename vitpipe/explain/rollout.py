"""Attention through all layers at once.

Legend of the shapes: b images, l layers, h heads, n tokens; weights are (b, l, h, n, n), query before key.
"""

import torch
from torch import Tensor


def rollout(weights: Tensor) -> Tensor:
    """How much each token after the last layer draws on each token of the input: (b, n, n), rows sum to one.

    Attention rollout (Abnar & Zuidema 2020, arXiv:2005.00928, section 3): R_l = A_l R_(l-1) and R_0 = I, where
    A_l = 0.5 W_l + 0.5 I stands for attention and the residual beside it, and W_l is the mean over the heads.
    Row i is the token i of the output; the first layer's matrix is the rightmost factor.
    """
    eye = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    mixed = 0.5 * weights.mean(2) + 0.5 * eye  # b l n n
    mixed = mixed / mixed.sum(-1, keepdim=True)  # rounding would add up over the layers
    through = mixed[:, 0]
    for layer in range(1, mixed.shape[1]):
        through = mixed[:, layer] @ through
    return through
