"""Every method's map of the same images, on the same grid of patches: where the model looked, higher is more.

Legend of the shapes: b images, s side of the input in pixels, p side of a patch, g = s / p side of the grid,
n tokens, w side of a window in output pixels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.explain import gradients
from vitpipe.explain.capture import at_once, encoder_of
from vitpipe.explain.class_token import query_row
from vitpipe.explain.gradients import Score
from vitpipe.explain.local_attribution import edges, integrated_gradients, local_attribution
from vitpipe.explain.relevance import relevance, weights_and_gradients
from vitpipe.explain.rollout import rollout
from vitpipe.explain.window import Window

PIXELS_AT_ONCE, WEIGHTS_AT_ONCE = 2**16, 2**24  # of all images of one pass with gradients: below 1 GB
CLASSIFY_SAMPLES, WINDOW_SAMPLES = 25, 10  # noisy copies for SmoothGrad; a super-sampler's pass costs more
CLASSIFY_STEPS, WINDOW_STEPS = 20, 12  # of a path of gradients

PROTOCOL = {
    "raw": "attention of the readout's query, last layer, mean over heads; for a window of a super-sampler that of "
    "the window's token, mean over layers and heads",
    "rollout": "the same query's row of attention rollout (Abnar & Zuidema 2020)",
    "relevance": "the same query's row of gradient-weighted relevance (Chefer et al. 2021), without the identity",
    "gradient": "|d score / d pixel|, summed over channels and the pixels of a patch (Simonyan et al. 2013)",
    "gradient_input": "gradient times (pixel - mean colour of the image), summed over channels and the patch, signed: "
    "the first-order estimate of what deleting the patch costs",
    "smooth": f"SmoothGrad (Smilkov et al. 2017), {CLASSIFY_SAMPLES} noisy copies (super-sampling {WINDOW_SAMPLES}), "
    "noise 0.15 of the value range, summed as gradient",
    "integrated": f"integrated gradients (Sundararajan et al. 2017), {CLASSIFY_STEPS} steps from the image's mean "
    "colour to the image, summed as gradient_input",
    "local": f"local attribution (Gu & Dong 2021), {WINDOW_STEPS} steps along a blur path from sigma 1.2 pixels, "
    "absolute values summed as gradient",
    "score": "the number that gradients are of: ln(p / (1 - p)) of the predicted class; for a super-sampler the sum of "
    "gradient lengths of the output within the window",
}


class Maps(NamedTuple):
    """What the methods say of b images, by method: float32 on the model's device."""

    patches: dict[str, Tensor]
    """(b, g, g), higher is more important; units differ between methods."""
    pixels: dict[str, Tensor]
    """(b, s, s) for the methods that have them, not negative but for `gradient_input` and `integrated`."""


def classifier(model: nn.Module, images: Tensor, labels: Tensor) -> Maps:
    """raw, rollout, relevance, gradient, gradient_input, smooth and integrated of a `Classifier`, see `PROTOCOL`.

    Args:
        model: left as it was.
        images: (b, 3, s, s) float on [-1, 1].
        labels: the class to explain of each image (b,): the predicted one, say.

    Raises:
        InputError: the model has no attention.
    """
    encoder = encoder_of(model)
    token = encoder.token is not None

    def explain(chosen: Tensor, rows: Tensor) -> Maps:
        score = log_odds(labels[rows])
        weights, slopes = weights_and_gradients(model, chosen, score)
        attention = {
            "raw": query_row(weights[:, -1].mean(1), token),
            "rollout": query_row(rollout(weights), token),
            "relevance": query_row(without_identity(relevance(weights, slopes)), token),
        }
        slope = gradients.input_gradient(model, chosen, score)
        colour = chosen.mean((2, 3), keepdim=True).expand_as(chosen)
        path = integrated_gradients(model, chosen, colour, score, CLASSIFY_STEPS, passes(model, chosen.shape[-1]))
        pixels = {
            "gradient": slope.abs().sum(1),
            "gradient_input": (slope * (chosen - colour)).sum(1),
            "smooth": gradients.smooth(model, chosen, score, samples=CLASSIFY_SAMPLES),
            "integrated": path.sum(1),
        }
        return on_grid(attention, pixels, encoder)

    return in_parts(model, images, explain)


def supersampler(model: nn.Module, images: Tensor, tokens: Tensor) -> Maps:
    """raw, rollout, relevance, gradient, smooth and local of one window of a `SuperSampler`, see `PROTOCOL`.

    Args:
        model: left as it was.
        images: (b, 3, s, s) float on [-1, 1].
        tokens: the patch of each image (b,) whose place in the output is the window to explain.

    Raises:
        InputError: the model has no attention, or a window is not within the image.
    """
    encoder = encoder_of(model)

    def explain(chosen: Tensor, rows: Tensor) -> Maps:
        window = window_of(model, tokens[rows])
        weights, slopes = weights_and_gradients(window, chosen, edges)
        every = torch.arange(len(chosen), device=chosen.device)
        matrices = {
            "raw": weights.mean((1, 2)),
            "rollout": rollout(weights),
            "relevance": without_identity(relevance(weights, slopes)),
        }
        path = local_attribution(window, chosen, edges, WINDOW_STEPS, passes(model, chosen.shape[-1]))
        pixels = {
            "gradient": gradients.importance(window, chosen, edges),
            "smooth": gradients.smooth(window, chosen, edges, samples=WINDOW_SAMPLES),
            "local": path.abs().sum(1),
        }
        attention = {name: matrix[every, tokens[rows]] for name, matrix in matrices.items()}
        return on_grid(attention, pixels, encoder)

    return in_parts(model, images, explain)


def window_of(model: Any, tokens: Tensor) -> Window:
    """A super-sampler that gives what lies in the place of one patch of each image, named by its token (b,)."""
    patch, columns = model.encoder.patch, model.encoder.grid
    return Window(model, torch.stack([tokens % columns, tokens // columns], 1) * patch, patch)


def log_odds(labels: Tensor) -> Score:
    """ln(p / (1 - p)) of the given classes (b,), from logits.

    Its gradient is that of the cross-entropy over -(1 - p), so a map has the same shape and does not vanish where
    the model is sure.
    """

    def score(logits: Tensor) -> Tensor:
        chosen = F.one_hot(labels, logits.shape[1]).bool()
        return logits[chosen] - logits.masked_fill(chosen, -torch.inf).logsumexp(1)

    return score


def without_identity(matrices: Tensor) -> Tensor:
    """What attention brought, without the 1 that every token has of itself, (b, n, n)."""
    return matrices - torch.eye(matrices.shape[-1], device=matrices.device)


def on_grid(attention: dict[str, Tensor], pixels: dict[str, Tensor], encoder: Any) -> Maps:
    """Rows of attention (b, g * g) as grids, pixels (b, s, s) summed over patches."""
    grids = {name: row.unflatten(-1, (encoder.grid, encoder.grid)) for name, row in attention.items()}
    return Maps(grids | {name: pooled(values, encoder.patch) for name, values in pixels.items()}, pixels)


def pooled(pixels: Tensor, patch: int) -> Tensor:
    """Sum over the pixels of each patch: (b, s, s) to (b, g, g)."""
    return F.avg_pool2d(pixels[:, None], patch)[:, 0] * patch**2


def in_parts(model: nn.Module, images: Tensor, explain: Callable[[Tensor, Tensor], Maps]) -> Maps:
    """`explain(images, their rows)` of memory-sized parts, joined."""
    rows = torch.arange(len(images), device=images.device).split(passes(model, images.shape[-1]))
    parts = [explain(images[chosen], chosen) for chosen in rows]
    joined = [{name: torch.cat([part[i][name] for part in parts]) for name in parts[0][i]} for i in (0, 1)]
    return Maps(*joined)


def passes(model: nn.Module, size: int) -> int:
    """How many images of `size` pixels go through the model at a time, with all that gradients need kept."""
    return max(1, min(PIXELS_AT_ONCE // size**2, at_once(model, WEIGHTS_AT_ONCE)))
