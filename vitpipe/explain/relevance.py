"""Which tokens a number that the model computes drew on, by attention and its gradient.

Legend of the shapes: b images, l layers, h heads, n tokens; weights are (b, l, h, n, n), query before key.
"""

import torch
from torch import Tensor, nn

from vitpipe.explain.capture import evaluating, record_attention
from vitpipe.explain.gradients import Score
from vitpipe.models.attention import Attention


def relevance(weights: Tensor, gradients: Tensor) -> Tensor:
    """How much each token after the last layer drew on each token of the input for a score: (b, n, n).

    The generic attention rules for self-attention (Chefer et al. 2021, arXiv:2103.15679, equations 5 and 6):
    R <- R + A_l R from the first layer to the last, R = I before it, where A_l is the mean over the heads of
    (d score / d weights * weights)^+. Row i belongs to token i of the output. Attention that the score does
    not depend on, or that lowers it, counts nothing; a token's residual path is the identity in it.

    Args:
        weights: attention after the softmax (b, l, h, n, n).
        gradients: of each image's score with respect to them, the same shape.
    """
    counted = (gradients * weights).clamp(min=0).mean(2)  # b l n n
    through = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device).expand(len(weights), -1, -1)
    for layer in range(counted.shape[1]):
        through = through + counted[:, layer] @ through
    return through


def weights_and_gradients(model: nn.Module, images: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """Attention weights, and the gradient of each image's score with respect to them, both (b, l, h, n, n) float32.

    Args:
        model: evaluated in float32, and left as it was: its modes, its weights' gradients.
        images: (b, 3, s, s) float on [-1, 1].
        score: the model's output to one number per image (b,).

    Raises:
        InputError: the model has no attention.
    """
    with evaluating(model), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        with record_attention(model) as record:
            # with pixels that need a gradient, weights have one even if no parameter of the model needs it
            total = score(model(images.detach().float().requires_grad_())).sum()
            layers = [module.recorder or [] for module in model.modules() if isinstance(module, Attention)]
            found = torch.autograd.grad(total, [weights for (weights,) in layers], materialize_grads=True)
        return record.weights.detach(), torch.stack(found, 1)
