"""Of which family a file is, and what the names of its tensors tell about how the encoder was trained."""

import re
from collections.abc import Collection
from typing import Any

from vitpipe.errors import InputError
from vitpipe.weights.families import CLIP, FAMILIES, HUGGING_FACE, IMAGENET, TIMM, Family


def recognise(names: Collection[str], source: str) -> tuple[Family, str]:
    """The family of a file with these tensors, and the prefix of the encoder's names.

    Raises:
        InputError: it is of no family that is known, or holds several encoders.
    """
    nearly: tuple[Family, str] | None = None
    for family in FAMILIES:
        first = family.marks[0]
        found = [name.removesuffix(first) for name in names if name == first or name.endswith(f".{first}")]
        prefixes = [prefix for prefix in found if all(prefix + mark in names for mark in family.marks)]
        for prefix in found:
            if any(re.match(re.escape(prefix) + family.blocks + r"\d", name) for name in names):
                nearly = nearly or (family, next((mark for mark in family.marks if prefix + mark not in names), ""))
        if len(prefixes) > 1:
            raise InputError(f"{source} holds several encoders, {', '.join(sorted(prefixes))}: keep one")
        if prefixes:
            return family, prefixes[0]
    if nearly:
        raise InputError(f"{source} has names of {nearly[0].name}, but lacks {nearly[1]}: it is damaged")
    some = ", ".join(sorted(names)[:3]) or "none"
    known = ", ".join(family.name for family in FAMILIES)
    raise InputError(
        f"{source} is no Vision Transformer in names that are known ({known}): its tensors are {some}, ..."
    )


def as_trained(family: Family, names: Collection[str], *, safetensors: bool) -> dict[str, Any]:
    """Keywords of `ViT` that no tensor shows, as far as names tell: eps, act, resize, mean and std.

    Names of timm: the models of DINO, DINOv2 and MAE have them as well. All of these were trained without classes, on
    images standardised with ImageNet's mean; so were DeiT's. timm's other models have a head, or no class token as
    SigLIP, and a mean of 0.5. Files without a head are resized as DINO does it, but as timm does it if they are
    safetensors, which DINO's never are. Names of Hugging Face: DINOv2 has other norms than ViT, whose mean is 0.5 but
    for DeiT and MAE.

    Args:
        names: of the encoder and what is dropped, without prefix.
        safetensors: whether the file is one.
    """
    trained: dict[str, Any] = {"mean": None, "std": None, "act": "gelu", **family.trained}
    text = "\n".join(names)
    if family is TIMM:
        if "norm_pre." in text:
            return trained | CLIP | {"eps": 1e-5}
        if "\ndecoder_" in f"\n{text}":
            return trained | IMAGENET | {"resize": "bicubic"}
        if "attn_pool." in text:  # SigLIP
            return trained
        layer_scale = re.search(r"\.(ls1\.gamma|gamma_1)$", text, re.MULTILINE)
        if "register_tokens" in names or "dist_token" in names or (layer_scale and "cls_token" in names):
            trained |= IMAGENET
        if "mask_token" in names and "register_tokens" not in names:
            trained |= IMAGENET | {"resize": "bicubic_offset"}
        elif "register_tokens" not in names and "head.weight" not in names and "cls_token" in names:
            trained |= IMAGENET | ({} if safetensors else {"resize": "bicubic_offset"})
    if family is HUGGING_FACE:
        if "layernorm_before" not in text:
            antialias = {"resize": "bicubic_antialias"} if "register_tokens" in text else {}
            return trained | IMAGENET | {"eps": 1e-6} | antialias
        if "distillation_token" in text or "decoder." in text:
            trained |= IMAGENET
    return trained
