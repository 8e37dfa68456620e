"""From the tensors of any family to those of `ViT`, and to the keywords that build it.

Shapes: d embedding dimension, c channels, p side of a patch, t prefix tokens.
"""

import re
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from vitpipe.errors import InputError
from vitpipe.models.pretrained import Pretrained
from vitpipe.models.vit import ViT
from vitpipe.weights.families import HEADS
from vitpipe.weights.recognition import as_trained, recognise

STACKED = {"attn.q": ("attn.qkv", ("attn.q", "attn.k", "attn.v")), "mlp.gate": ("mlp.0", ("mlp.gate", "mlp.up"))}
"""Parts that are one layer here: its name, and the parts in their order."""

MEAN = (0.5, 0.5, 0.5)  # and std, of models that take images on [-1, 1]


def convert(
    tensors: dict[str, Tensor],
    source: str,
    *,
    heads: int | None = None,
    grid: tuple[int, int] | None = None,
    safetensors: bool = True,
    **known: Any,
) -> Pretrained:
    """An encoder from the tensors of a public model.

    Args:
        source: where they come from, for messages.
        heads: number of attention heads, which no shape tells; None for those of published models of this width.
        grid: rows and columns of patches; None for a square.
        safetensors: see `vitpipe.weights.recognition.as_trained`.
        known: keywords of `ViT` that are known better than by the family; and `stem` and `stride` of a hybrid.

    Raises:
        InputError: the names are of no family that is known, one is unknown, or a tensor is missing or has the wrong
            shape.
    """
    family, prefix = recognise(tensors, source)
    ours: dict[str, Tensor] = {}
    dropped, unknown = [], []
    for name, tensor in tensors.items():
        inside = name.removeprefix(prefix) if name.startswith(prefix) else None
        mine = None if inside is None else family.ours(inside)
        if mine is not None and mine not in ours:
            ours[mine] = tensor
        elif inside is None or inside.startswith(family.drop):
            dropped.append(name)
        else:
            unknown.append(name)
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise InputError(
            f"{source} has names of {family.name}, but also {unknown[0]}{more}, which none of its ViTs has"
        )
    if any(name.startswith("stem.") for name in ours) and "stem" not in known:
        raise InputError(f"{source} is a hybrid of ResNet and ViT: these are read as timm/NAME only")
    names = {name.removeprefix(prefix) for name in tensors}
    trained = as_trained(family, names, safetensors=safetensors) | known
    try:
        encoder = trained | arrange(ours, source)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        wrong = " ".join(str(error).split())
        raise InputError(f"{source} has a tensor of the wrong shape ({wrong:.150}): it is damaged") from None
    if missing := family.missing(ours):
        raise InputError(f"{source} lacks {missing}, in the names of vitpipe, which every ViT of {family.name} has")
    for key in ("mean", "std"):
        if encoder[key] and len(encoder[key]) != encoder["channels"] and "stem" not in known:
            many = f"{encoder['channels']} channels, but its {key} has {len(encoder[key])} numbers"
            raise InputError(f"{source} takes {many}: put a config.json with the right image_{key} beside it")
    if tuple(encoder["mean"] or MEAN) == tuple(encoder["std"] or MEAN) == MEAN:
        encoder |= {"mean": None, "std": None}
    encoder["heads"] = heads or known_heads(encoder["dim"], source)
    if encoder["dim"] % encoder["heads"]:
        raise InputError(f"heads is {encoder['heads']}, but must divide the dimension {encoder['dim']} of {source}")
    grid = arrange_positions(ours, encoder, grid, source)
    pixels = encoder["patch"] * encoder.get("stride", 1)
    made = Pretrained(encoder, (grid[0] * pixels, grid[1] * pixels), ours, tuple(dropped), source, family.name)
    check_tensors(made)
    return made


def arrange(ours: dict[str, Tensor], source: str) -> dict[str, Any]:
    """Brings tensors, named as ours, into the shapes of ours, in place; returns the keywords that shapes tell."""
    for name in [*ours]:
        if part := re.fullmatch(r"(blocks\.\d+\.)(attn\.q|mlp\.gate)\.(weight|bias)", name):
            whole, parts = STACKED[part[2]]
            names = [f"{part[1]}{one}.{part[3]}" for one in parts]
            if missing := [one for one in names if one not in ours]:
                raise InputError(f"{source} lacks {missing[0]}, in the names of vitpipe: it is damaged")
            ours[f"{part[1]}{whole}.{part[3]}"] = torch.cat([ours.pop(one) for one in names])
    kernel = ours["patch_embed.weight"]
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3]:
        raise InputError(f"{source} has a patch embedding of shape {tuple(kernel.shape)}: patches must be squares")
    dim, channels, patch, _ = kernel.shape
    ours["patch_embed.weight"] = kernel.flatten(1)
    extra = [ours.pop(name).reshape(1, -1, dim) for name in ("dist_token", "reg_token") if name in ours]
    if extra:
        ours["reg_token"] = torch.cat(extra, dim=1)
    for name, tensor in ours.items():
        if name in ("cls_token", "pos_embed"):
            tensor = tensor.reshape(1, -1, dim)
        ours[name] = tensor.float().clone(memory_format=torch.contiguous_format)  # tied tensors become several
    blocks = {int(found[1]) for name in ours if (found := re.match(r"blocks\.(\d+)\.", name))}
    if gaps := set(range(len(blocks))) - blocks:
        raise InputError(f"{source} lacks blocks.{min(gaps)}, but has blocks.{max(blocks)}: it is damaged")
    out = ours.get("blocks.0.mlp.2.weight")
    into = ours.get("blocks.0.mlp.0.weight")
    if out is None or into is None:
        name = f"blocks.0.mlp.{0 if into is None else 2}.weight"
        raise InputError(f"{source} lacks {name}, in the names of vitpipe: it is damaged")
    ending = {name.partition(".")[2].partition(".")[2] for name in ours if name.startswith("blocks.")}
    return {
        "patch": patch,
        "channels": channels,
        "dim": dim,
        "depth": len(blocks),
        "mlp_ratio": out.shape[1] / dim,
        "position": "learned",
        "proj": "attn.proj.weight" in ending,
        "qkv_bias": "attn.qkv.bias" in ending,
        "final_norm": "norm.weight" in ours or "fc_norm.weight" not in ours,
        "pool_norm": "fc_norm.weight" in ours,
        "pre_norm": "norm_pre.weight" in ours,
        "patch_bias": "patch_embed.bias" in ours,
        "class_token": "cls_token" in ours,
        "registers": ours["reg_token"].shape[1] if extra else 0,
        "layer_scale": "ls1.gamma" in ending,
    } | ({"act": "swiglu"} if into.shape[0] == 2 * out.shape[1] else {})


def known_heads(dim: int, source: str) -> int:
    if dim not in HEADS and dim % 64:
        raise InputError(f"{source} does not say its number of attention heads: give heads= or model.heads")
    return HEADS.get(dim, dim // 64)


def arrange_positions(
    ours: dict[str, Tensor], encoder: dict[str, Any], grid: tuple[int, int] | None, source: str
) -> tuple[int, int]:
    """Makes positions (1, t + rows * columns, d), in place, and returns rows and columns.

    Sources have one for every token, for class token and patches, or for patches alone. Adding nothing to a token is
    the same as adding zeros.
    """
    if "pos_embed" not in ours:
        raise InputError(f"{source} lacks pos_embed, in the names of vitpipe: it is damaged")
    pos_embed, first = ours["pos_embed"], int(encoder["class_token"])
    prefix = first + encoder["registers"]
    for covered in (prefix, first, 0):
        count = pos_embed.shape[1] - covered
        found = grid or (isqrt(max(0, count)), isqrt(max(0, count)))
        if count >= 1 and found[0] * found[1] == count:
            zeros = pos_embed.new_zeros(1, prefix - covered, pos_embed.shape[2])
            ours["pos_embed"] = torch.cat([pos_embed[:, :covered], zeros, pos_embed[:, covered:]], dim=1)
            return found
    token = "a" if first else "no"
    problem = f"has {pos_embed.shape[1]} positions and {token} class token, which fits no square grid of patches"
    raise InputError(f"{source} {problem}: a tensor is missing, or its images were no squares")


def check_tensors(made: Pretrained) -> None:
    """Raises InputError where a tensor is missing, too much or of another shape than its encoder has."""
    keywords = {name: value for name, value in made.encoder.items() if name != "stem"}
    stride = made.encoder.get("stride", 1)
    with torch.device("meta"):
        wanted = ViT(size=(made.size[0] // stride, made.size[1] // stride), **keywords).state_dict()
    found = made.part("encoder")
    problem = None
    if missing := [name for name in wanted if name not in found]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        problem = f"lacks {missing[0]}{more}, in the names of vitpipe"
    elif unknown := [name for name in found if name not in wanted]:
        problem = f"has {unknown[0]}, in the names of vitpipe, for which its encoder has no use"
    elif wrong := [name for name, tensor in found.items() if tensor.shape != wanted[name].shape]:
        shapes = [tuple(tensor[wrong[0]].shape) for tensor in (found, wanted)]
        problem = f"has {wrong[0]} of shape {shapes[0]}, in the names of vitpipe, but it must be {shapes[1]}"
    if problem:
        raise InputError(f"{made.source} {problem}: it is damaged, or of another kind of model")
