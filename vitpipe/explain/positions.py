"""What position embeddings learned about the grid."""

import numpy as np
import torch.nn.functional as F
from torch import Tensor


def similarity(position: Tensor, token: bool) -> dict[str, np.ndarray | None]:
    """Cosine similarity of position embeddings, -1 to 1 (Dosovitskiy et al. 2020, arXiv:2010.11929, figure 7).

    An embedding of zero length is similar to none: 0.

    Args:
        position: embeddings (tokens, d), the class token's first where `token` holds, then the n patches in
            row-major order.
        token: whether there is a class token.

    Returns:
        patches (n, n), of all pairs of patches; token (n,), of the class token with each patch, or None without
        one: it has no place in the grid.
    """
    unit = F.normalize(position.detach().double(), dim=-1)
    cosine = (unit @ unit.T).clamp(-1, 1).float().cpu().numpy()
    first = int(token)
    return {"patches": cosine[first:, first:], "token": cosine[0, 1:] if token else None}
