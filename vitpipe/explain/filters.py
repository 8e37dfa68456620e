"""What the patch embedding looks for: the principal components of its filters.

Legend of the shapes: d embedding width, c channels that the embedding sees, p side of a patch, r reach of the
convolutions before it, q = p + 2r side of a filter, k components.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.explain.capture import encoder_of, evaluating
from vitpipe.models.patches import patchify

COMPONENTS = 28  # as many as Dosovitskiy et al. show


def filters(model: nn.Module, untrained: nn.Module) -> dict[str, np.ndarray]:
    """Principal components of the patch-embedding filters, as RGB patches (Dosovitskiy et al. 2020,
    arXiv:2010.11929, figure 7 left), beside those of the untrained model: what both show was not learned.

    Args:
        model: a trained model with an `encoder` and a `stem`; both models are left as they were.
        untrained: the same with the weights that training began with.

    Returns:
        trained, untrained (k, q, q, 3) float32: components of length 1 with their largest absolute value
        positive, strongest first, each channel alike where the model sees grey; trained_explained,
        untrained_explained (k,) float32, the share in 0..1 of the filters' variance; patch, p; reach, r. k is 28,
        or less where the filters span less: d - 1 or c * q * q.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, one in (("trained", model), ("untrained", untrained)):
        parts, explained = principal(embedding_filters(one))
        arrays[name] = parts.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
        arrays[f"{name}_explained"] = explained.cpu().numpy()
    encoder = encoder_of(model)
    return arrays | {"patch": np.array(encoder.patch), "reach": np.array(reach(model))}


def embedding_filters(model: nn.Module) -> Tensor:
    """The filter of each embedding dimension (d, c, q, q): its gradient by the pixels of a mid-grey image, 0 on
    [-1, 1].

    Without a stem the embedding is linear and these are its weights, exactly. With one it sees features whose
    pixels reach r further than the patch, and the filters are those of the linear part around mid-grey, for a
    token that lies at least r pixels inside of the image's border.
    """
    encoder = encoder_of(model)
    stem: Any = model.stem
    patch, margin = encoder.patch, reach(model)
    first = next((layer for layer in stem.modules() if isinstance(layer, nn.Conv2d)), None)
    channels = first.in_channels if first else encoder.embed.in_features // patch**2

    weight, side = encoder.embed.weight, patch + 2 * margin
    # one grey image for each dimension: the gradient of its own dimension alone reaches its pixels
    grey = torch.zeros(len(weight), channels, side, side, device=weight.device, requires_grad=True)
    with evaluating(model), torch.enable_grad(), torch.autocast(weight.device.type, enabled=False):
        features = stem(grey)[..., margin : margin + patch, margin : margin + patch]
        embedded = encoder.embed(patchify(features, patch))[:, 0]  # d d
        return torch.autograd.grad(embedded.diagonal().sum(), grey)[0]


def reach(model: nn.Module) -> int:
    """How many pixels further than a patch its embedding sees on each side: half a kernel for each convolution."""
    stem: Any = model.stem
    return sum(layer.kernel_size[0] // 2 for layer in stem.modules() if isinstance(layer, nn.Conv2d))


def principal(filters: Tensor) -> tuple[Tensor, Tensor]:
    """Principal components (k, c, q, q) of d filters (d, c, q, q) and the share of variance (k,) each explains.

    The filters are centred: their mean over the d dimensions is no component. A component's sign is free; its
    largest absolute value is made positive.
    """
    rows = filters.flatten(1).double()  # d c*q*q
    _, sizes, directions = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    count = min(COMPONENTS, len(rows) - 1, rows.shape[1])  # centring takes one dimension
    directions = directions[:count]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    variance = sizes.square()
    explained = variance[:count] / variance.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return (directions * largest.sign()).unflatten(1, filters.shape[1:]).float(), explained.float()
