"""Attention by place alone, and what queries and keys change about it.

The logits of a head are q k / sqrt(e) + P, where its place term P depends on the offset between two patches alone (see
`vitpipe.models.place`). softmax(P) is where the head looks by place, whatever the image; attention minus softmax(P)
is what queries and keys change about that. Without a place term attention by place is uniform.

Shapes: l layers, h heads, t tokens (prefix tokens and patches), g rows and columns of patches, w offsets on a side,
q queries.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.data.dataset import PackedDataset
from vitpipe.explain.attention_maps import query_tokens
from vitpipe.explain.encoders import attention_batches, encoder_of, on_grid, token_count
from vitpipe.metrics.attention import among_patches
from vitpipe.models.place import Place
from vitpipe.models.vit import ViT

NEAREST, FARTHEST = 3, 8  # patches around a query that are shown, at least and at most
QUERIES = 2  # that are shown


@torch.no_grad()
def place_weights(encoder: ViT) -> Tensor:
    """Attention by place alone of every head, softmax(P), (l, h, t, t); each row sums to one.

    l and h are 0 where the model computes no attention.
    """
    prefix, tokens, net = encoder.num_prefix_tokens, token_count(encoder), cast(Any, encoder)
    nowhere = encoder.patch_embed.weight.new_zeros(1, tokens, tokens)
    blocks = [block for block in net.blocks if block.attn.kind != "none"]
    if not blocks:
        return nowhere.new_empty(0, 0, tokens, tokens)
    logits = [
        nowhere.expand(block.attn.heads, -1, -1) if block.place is None else block.place(encoder.grid, prefix)
        for block in blocks
    ]
    return torch.stack(logits).softmax(-1)


def place(
    model: nn.Module, untrained: nn.Module, dataset: PackedDataset, layers: Sequence[Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """The arrays of the figure place; nothing where heads have no place term. Both models are left as they were.

    Args:
        untrained: the same with the weights that training began with.
        layers: those of attention.json.

    Returns:
        What `windows` gives; content and by_place (l, h) of `layers`; shown (l,), the head with the largest content of
        each layer, counted from 0; and what `changes` gives of these heads.
    """
    terms, begun = ([module for module in net.modules() if isinstance(module, Place)] for net in (model, untrained))
    if not terms:
        return {}
    of_heads = ("content", "by_place")
    numbers = {name: np.array([[head[name] for head in layer["heads"]] for layer in layers]) for name in of_heads}
    shown = numbers["content"].argmax(1)
    return windows(terms, begun, encoder_of(model).pixels) | numbers | {"shown": shown} | changes(model, dataset, shown)


@torch.no_grad()
def windows(terms: Sequence[Place], begun: Sequence[Place], patch: int) -> dict[str, np.ndarray]:
    """Where heads look by place.

    Args:
        terms: of each layer.
        begun: the same before training.
        patch: side of a patch in pixels of the input.

    Returns:
        window (l, h, w, w), attention by place to the offsets around a query, summing to one; centre and begun
        (l, h, 2), the learned centre and that of the untrained model, rows and columns in patches; width (l, h),
        1 / sqrt(sharpness) in pixels of the input, NaN where the sharpness is not above 0.
    """
    centre, start = (torch.stack([term.centre for term in every]) for every in (terms, begun))
    sharpness = torch.stack([term.sharpness for term in terms])
    reach = min(max(math.ceil(float(centre.abs().max())) + 2, NEAREST), FARTHEST)
    side = 2 * reach + 1
    logits = torch.stack([term((side, side))[:, side * side // 2] for term in terms])  # l h w*w, of the middle query
    found = {
        "window": logits.softmax(-1).reshape(*sharpness.shape, side, side),
        "centre": centre,
        "begun": start,
        "width": patch * sharpness.where(sharpness > 0, torch.nan).rsqrt(),
    }
    return {name: values.cpu().numpy() for name, values in found.items()}


def changes(model: nn.Module, dataset: PackedDataset, shown: np.ndarray) -> dict[str, np.ndarray]:
    """Attention of single queries, and the same by place alone.

    Args:
        shown: a head of each layer (l,).

    Returns:
        Of image 0 its id, image (size, size, 3) uint8 HR, the first queries (q,) of `query_tokens`, names, and their
        boxes (q, 4) in HR pixels; attention and alone (q, l, g, g), the attention of these patches to all, and by
        place alone.
    """
    encoder, first = encoder_of(model), np.arange(1)
    names, tokens, boxes = query_tokens(dataset, 0, encoder)
    [weights] = attention_batches(model, dataset.images("lr", first))
    every = torch.stack([weights[0], place_weights(encoder)])[:, range(len(shown)), shown]  # 2 l t t
    asked = among_patches(every, encoder.num_prefix_tokens)[:, :, tokens[:QUERIES]].transpose(1, 2)  # 2 q l n
    attention, alone = on_grid(asked, encoder).cpu().numpy()
    return {
        "id": np.array(str(dataset.samples.index[0])),
        "image": dataset.images("hr", first)[0],
        "queries": np.array(names[:QUERIES]),
        "boxes": boxes[:QUERIES],
        "attention": attention,
        "alone": alone,
    }
