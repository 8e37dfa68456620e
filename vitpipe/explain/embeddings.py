"""What the embeddings learned: the filters of the patch embedding, and what position embeddings know of the grid.

Shapes: d embedding dimension, c channels of the model's input, p side of a patch, r reach of the convolutions before
the embedding, q = p + 2r side of a filter, k components, t tokens, n patches, g rows and columns of patches.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.explain.encoders import encoder_of, evaluating

COMPONENTS = 28  # the number in Dosovitskiy et al.


def filters(model: nn.Module, untrained: nn.Module) -> dict[str, np.ndarray]:
    """Principal components of the patch-embedding filters, as RGB patches (Dosovitskiy et al. 2020,
    arXiv:2010.11929, figure 7 left), with those of the untrained model: what both show was not learned.

    Args:
        model: a trained model with an `encoder` and a `stem`; both models are left as they were.
        untrained: the same with the weights that training began with.

    Returns:
        trained, untrained (k, q, q, 3) float32: components of length 1 with their largest absolute value
        positive, strongest first, with equal channels where the model sees grey; trained_explained,
        untrained_explained (k,) float32, the share in 0..1 of the filters' variance; patch, p; reach, r. k is 28,
        or less where the filters span less: d - 1 or c * q * q. Nothing where the encoder reads the feature map of a
        ResNet: no patch of pixels is embedded.
    """
    arrays: dict[str, np.ndarray] = {}
    if encoder_of(model).pixels != encoder_of(model).patch:
        return arrays
    for name, one in (("trained", model), ("untrained", untrained)):
        parts, explained = principal(embedding_filters(one))
        arrays[name] = parts.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
        arrays[f"{name}_explained"] = explained.cpu().numpy()
    encoder = encoder_of(model)
    return arrays | {"patch": np.array(encoder.patch), "reach": np.array(reach(model))}


def embedding_filters(model: nn.Module) -> Tensor:
    """The filter of each embedding dimension (d, c, q, q): its gradient by the pixels of a mid-grey image (zeros).

    Without a stem these are the weights of the embedding, over the standard deviation of the channel where the encoder
    standardises its input. With one they are the linear part around mid-grey, for a token that lies at least r pixels
    inside the image's border.
    """
    encoder = encoder_of(model)
    stem: Any = model.stem
    patch, margin = encoder.patch, reach(model)
    weight, side = encoder.patch_embed.weight, patch + 2 * margin
    convolutions = [layer for layer in stem.modules() if isinstance(layer, nn.Conv2d)]
    channels = convolutions[0].in_channels if convolutions else weight.shape[1] // patch**2
    # one grey image for each dimension: its pixels get the gradient of that dimension alone
    grey = torch.zeros(len(weight), channels, side, side, device=weight.device, requires_grad=True)
    with evaluating(model), torch.enable_grad(), torch.autocast(weight.device.type, enabled=False):
        features = stem(grey)[..., margin : margin + patch, margin : margin + patch]
        embedded = encoder.embed(features)[:, 0]  # d d
        return torch.autograd.grad(embedded.diagonal().sum(), grey)[0]


def reach(model: nn.Module) -> int:
    """By how many pixels the embedding sees beyond a patch on each side: half a kernel for each convolution."""
    stem: Any = model.stem
    return sum(layer.kernel_size[0] // 2 for layer in stem.modules() if isinstance(layer, nn.Conv2d))


def principal(filters: Tensor) -> tuple[Tensor, Tensor]:
    """Principal components (k, c, q, q) of d filters (d, c, q, q), centred, and the share of variance (k,) of each.

    A component's largest absolute value is positive: its sign is arbitrary.
    """
    rows = filters.flatten(1).double()  # d c*q*q
    _, sizes, directions = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    count = min(COMPONENTS, len(rows) - 1, rows.shape[1])  # centring takes one dimension
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    signed = (directions * largest.sign())[:count].reshape(-1, *filters.shape[1:])
    variance = sizes.square()
    explained = variance[:count] / variance.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return signed.float(), explained.float()


def positions(model: nn.Module, untrained: nn.Module) -> dict[str, np.ndarray]:
    """Similarities of a model's position embeddings, the arrays of the figure positions.

    Args:
        model: a trained model with an `encoder`.
        untrained: the same with the weights that training began with.

    Returns:
        grid (2,), rows and columns of patches. Of learned embeddings: trained, untrained (n, n) and, where there is a
        class token, cls_token_trained and cls_token_untrained (rows, columns), see `similarity`. Of sine and cosine:
        only fixed (n, n): they are not learned and have no value for the class token. Nothing without embeddings.
    """
    encoder, arrays = encoder_of(model), {}
    for name, one in (("trained", encoder), ("untrained", encoder_of(untrained))):
        if one.pos_embed is None:
            return {}
        found, prefix = similarity(one.pos_embed), one.num_prefix_tokens
        if not isinstance(one.pos_embed, nn.Parameter):
            return {"fixed": found[prefix:, prefix:], "grid": np.array(one.grid)}
        arrays[name] = found[prefix:, prefix:]
        if one.cls_token is not None:
            arrays[f"cls_token_{name}"] = found[0, prefix:].reshape(one.grid)
    return arrays | {"grid": np.array(encoder.grid)}


def similarity(pos_embed: Tensor) -> np.ndarray:
    """Cosine similarity of all pairs of t position embeddings (1, t, d): (t, t) float32, -1 to 1.

    See Dosovitskiy et al. 2020 (arXiv:2010.11929, figure 7). An embedding of zero length is similar to none: 0.
    """
    unit = F.normalize(pos_embed[0].detach().double(), dim=-1)
    cosine: np.ndarray = (unit @ unit.T).clamp(-1, 1).float().cpu().numpy()
    return cosine
