"""Which tokens the output depends on through all layers: attention rollout, and gradient-weighted relevance.

Shapes: b images, l layers, h heads, t tokens; weights are (b, l, h, t, t), query before key.
"""

import torch
from torch import Tensor, nn

from vitpipe.explain.capture import capture
from vitpipe.explain.encoders import encoder_layers, evaluating
from vitpipe.explain.gradients import Score


def rollout(weights: Tensor) -> Tensor:
    """How much each token after the last layer depends on each token of the input: (b, t, t), rows sum to one.

    Attention rollout (Abnar & Zuidema 2020, arXiv:2005.00928, section 3): R_l = A_l R_(l-1) and R_0 = I, where
    A_l = 0.5 W_l + 0.5 I is attention with its residual connection, and W_l the mean over the heads. Row i is token i
    of the output; the first layer's matrix is the rightmost factor.
    """
    mixed = 0.5 * weights.mean(2) + 0.5 * identity(weights)  # b l t t
    mixed = mixed / mixed.sum(-1, keepdim=True)  # rounding would add up over the layers
    total, *later = mixed.unbind(1)
    for layer in later:
        total = layer @ total
    return total


def relevance(weights: Tensor, gradients: Tensor) -> Tensor:
    """How much each token after the last layer depended on each token of the input for a score: (b, t, t).

    The generic attention rules for self-attention (Chefer et al. 2021, arXiv:2103.15679, equations 5 and 6):
    R <- R + A_l R from the first layer to the last, R = I before it, where A_l is the mean over the heads of
    (d score / d weights * weights)^+. Row i is token i of the output. Attention that the score does not depend on, or
    that lowers it, does not count; the residual connection is the identity.

    Args:
        weights: attention after the softmax (b, l, h, t, t).
        gradients: of each image's score with respect to them, the same shape.
    """
    total = identity(weights).expand(len(weights), -1, -1)
    for counted in (gradients * weights).clamp(min=0).mean(2).unbind(1):  # b t t
        total = total + counted @ total
    return total


def identity(weights: Tensor) -> Tensor:
    """The unit matrix (t, t) in the type of the weights and on their device."""
    return torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)


def weights_and_gradients(model: nn.Module, images: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """Attention of the encoder, and the gradient of each image's score with respect to it, (b, l, h, t, t) float32.

    Args:
        model: evaluated in float32, and left as it was: its modes, its weights' gradients.
        images: (b, 3, s, s) float on [-1, 1].
        score: the model's output to one number per image (b,).

    Raises:
        InputError: the model has no attention.
    """
    with evaluating(model), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        with capture(model) as seen:
            # because the pixels need a gradient, weights have one even if no parameter needs one
            total = score(model(images.detach().float().requires_grad_())).sum()
        layers = encoder_layers(seen)
        slopes = torch.autograd.grad(total, layers)
    return torch.stack(layers, 1).detach(), torch.stack(slopes, 1)
