"""Every method's map of the same images, on the same grid of patches: where the model looked, higher is more.

Shapes: b images, s side of the input in pixels, g rows and columns of patches, t tokens.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.explain.encoders import attention_layers, encoder_of, images_at_once, on_grid, query_row
from vitpipe.explain.gradients import SIGMA, input_gradient, integrated_gradients, local_attribution, smooth
from vitpipe.explain.relevance import identity, relevance, rollout, weights_and_gradients
from vitpipe.tasks.base import Questions

PIXELS_AT_ONCE, WEIGHTS_AT_ONCE = 2**16, 2**24  # of all images of one pass with gradients: below 1 GB
OF_ATTENTION = ("raw", "rollout", "relevance")


class Maps(NamedTuple):
    """The maps of b images by method: float32 on the model's device."""

    patches: dict[str, Tensor]
    """(b, g, g), higher is more important; units differ between methods."""
    pixels: dict[str, Tensor]
    """(b, s, s) for the methods that have them, not negative except for `gradient_input` and `integrated`."""


def attribution_maps(model: nn.Module, questions: Questions, images: Tensor) -> Maps:
    """The maps of the methods that are `applicable`, see `protocol`.

    Args:
        model: left as it was.
        questions: about these images, of this model or another one.
        images: (b, 3, s, s) float on [-1, 1]; at most `passes` of them fit into memory.
    """
    encoder, score, at_once = encoder_of(model), questions.output_score, passes(model, images)
    attention = cache(lambda: weights_and_gradients(model, images, score))
    slope = cache(lambda: input_gradient(model, images, score))
    colour = images.mean((2, 3), keepdim=True).expand_as(images)
    matrices: dict[str, Callable[[], Tensor]] = {
        "raw": lambda: (attention()[0].mean(1) if questions.every_layer else attention()[0][:, -1]).mean(1),
        "rollout": lambda: rollout(attention()[0]),
        "relevance": lambda: relevance(*attention()) - identity(attention()[0]),
    }
    pixels: dict[str, Callable[[], Tensor]] = {
        "gradient": lambda: slope().abs().sum(1),
        "gradient_input": lambda: (slope() * (images - colour)).sum(1),
        "smooth": lambda: smooth(model, images, score, samples=questions.samples),
        "integrated": lambda: integrated_gradients(model, images, colour, score, questions.steps, at_once).sum(1),
        "local": lambda: local_attribution(model, images, score, questions.steps, at_once).abs().sum(1),
    }
    found = Maps({}, {})
    for name in applicable(model, questions):
        if name in matrices:
            matrix, prefix = matrices[name](), encoder.num_prefix_tokens
            if questions.tokens is None:
                row = query_row(matrix, model)
            else:
                every = torch.arange(len(images), device=images.device)
                row = matrix[every, prefix + questions.tokens, prefix:]
            found.patches[name] = on_grid(row, encoder)
        else:
            found.pixels[name] = pixels[name]()
            found.patches[name] = F.avg_pool2d(found.pixels[name][:, None], encoder.pixels)[:, 0] * encoder.pixels**2
    return found


def applicable(model: nn.Module, questions: Questions) -> tuple[str, ...]:
    """The methods that `questions` names, without those of attention where the model computes none."""
    return tuple(name for name in questions.methods if name not in OF_ATTENTION or attention_layers(model))


def passes(model: nn.Module, images: Tensor) -> int:
    """The number of images that go through the model at a time, with all that gradients need kept."""
    return max(1, min(PIXELS_AT_ONCE // images[0, 0].numel(), images_at_once(model, WEIGHTS_AT_ONCE)))


def protocol(questions: Questions) -> dict[str, str]:
    """How the maps of the methods are made, in words."""
    query = "the patch that is asked about"
    if questions.tokens is None:
        query = "the class token, or without one the mean over the patches"
    layers = "all layers" if questions.every_layer else "the last layer"
    texts = {
        "raw": f"attention of the query, {query}; mean over the heads of {layers}",
        "rollout": "the same query's row of attention rollout (Abnar & Zuidema 2020)",
        "relevance": "the same query's row of gradient-weighted relevance (Chefer et al. 2021), without the identity",
        "gradient": "|d gradient_score / d pixel|, summed over channels and the pixels of a patch (Simonyan et al. "
        "2013)",
        "gradient_input": "gradient times (pixel - mean colour of the image), summed over channels and the patch, "
        "signed: the first-order estimate of what deleting the patch costs",
        "smooth": f"SmoothGrad (Smilkov et al. 2017), {questions.samples} noisy copies, noise 0.15 of the value range, "
        "summed as gradient",
        "integrated": f"integrated gradients (Sundararajan et al. 2017), {questions.steps} steps from the image's mean "
        "colour to the image, summed as gradient_input",
        "local": f"local attribution (Gu & Dong 2021), {questions.steps} steps along a blur path from sigma {SIGMA} "
        "pixels, absolute values summed as gradient",
    }
    return {name: texts[name] for name in questions.methods}
