"""What position embeddings know of the grid.

Legend of the shapes: d embedding width, g side of the grid of patches, n = g * g patches.
"""

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.explain.capture import encoder_of


def positions(model: nn.Module, untrained: nn.Module) -> dict[str, np.ndarray]:
    """Similarities of a model's position embeddings: what `vitpipe.figures.positions` draws.

    Args:
        model: a trained model with an `encoder`.
        untrained: the same with the weights that training began with.

    Returns:
        Of learned embeddings: trained, untrained (n, n) and, where there is a class token, token_trained and
        token_untrained (g, g), as `similarity` gives them. Of sine and cosine: fixed (n, n) alone, since nothing
        of them is learned, nor have they a value for the class token. Without embeddings: nothing.
    """
    encoder = encoder_of(model)
    token, side = encoder.token is not None, encoder.grid
    if encoder.position is None:
        return {}
    if not isinstance(encoder.position, nn.Parameter):
        return {"fixed": np.asarray(similarity(encoder.position, token)["patches"])}
    control: Any = untrained.encoder
    arrays: dict[str, np.ndarray] = {}
    for name, embeddings in (("trained", encoder.position), ("untrained", control.position)):
        found = similarity(embeddings, token)
        arrays[name] = np.asarray(found["patches"])
        if found["token"] is not None:
            arrays[f"token_{name}"] = found["token"].reshape(side, side)
    return arrays


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
