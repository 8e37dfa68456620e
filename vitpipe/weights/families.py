"""How tensors are named in published Vision Transformers, and what their names do not say.

Names of the source are on the left, those of `vitpipe.models.vit.ViT` on the right. `attn.q`, `attn.k`, `attn.v` are
parts of `attn.qkv`; `mlp.gate` and `mlp.up` of the first layer of SwiGLU; `dist_token` becomes a register.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
"""Heads of published models whose heads are not 64 wide, by embedding dimension."""


@dataclass(frozen=True)
class Family:
    """Models whose files have the same names."""

    name: str
    marks: tuple[str, ...]
    """Tensors that every file has, behind a prefix of any kind; the first is the patch embedding."""
    blocks: str
    """What precedes the number of a block, as a regular expression."""
    outer: Mapping[str, str]
    inner: Mapping[str, str]
    """Names outside and inside of blocks; of a tensor, or of a module with weight and bias."""
    always: tuple[str, ...] = ()
    """Tensors that every model has, by our names, those of blocks in the first one; of several with | between, one."""
    drop: tuple[str, ...] = ()
    """How names begin that are no part of an encoder."""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of `ViT` that are the same for all models of the family, and that no tensor shows."""

    def ours(self, name: str) -> str | None:
        """Our name of a tensor; None if the family knows none."""
        block = re.match(rf"{self.blocks}(\d+)\.", name)
        names, start = (self.inner, f"blocks.{block[1]}.") if block else (self.outer, "")
        rest = name[block.end() :] if block else name
        for theirs, ours in names.items():
            if rest == theirs or rest.startswith(f"{theirs}."):
                return start + ours + rest[len(theirs) :]
        return None

    def missing(self, ours: Collection[str]) -> str | None:
        """The first tensor that `always` names and that is not there; None if there are all."""
        choices = (name.split("|") for name in self.always)
        return next((names[0] for names in choices if not any(name in ours for name in names)), None)


NORMS = {"norm1": "norm1", "norm2": "norm2"}
FC = {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
PACKED = {"in_proj_weight": "attn.qkv.weight", "in_proj_bias": "attn.qkv.bias", "out_proj": "attn.proj"}  # torch's own

TORCHVISION = Family(
    "torchvision",
    ("conv_proj.weight", "encoder.pos_embedding"),
    r"encoder\.layers\.encoder_layer_",
    {
        "conv_proj": "patch_embed",
        "class_token": "cls_token",
        "encoder.pos_embedding": "pos_embed",
        "encoder.ln": "norm",
    },
    {"ln_1": "norm1", "ln_2": "norm2", "mlp.0": "mlp.0", "mlp.3": "mlp.2"}
    | {"mlp.linear_1": "mlp.0", "mlp.linear_2": "mlp.2"}
    | {f"self_attention.{theirs}": ours for theirs, ours in PACKED.items()},
    ("cls_token", "patch_embed.bias", "blocks.0.attn.qkv.bias", "blocks.0.attn.proj.weight"),
    ("heads.",),
    {"eps": 1e-6, "resize": "bicubic_corners", **IMAGENET},
)
TIMM = Family(
    "timm",
    ("patch_embed.proj.weight", "pos_embed"),
    r"blocks\.",
    {"patch_embed.proj": "patch_embed", "patch_embed.backbone": "stem", "register_tokens": "reg_token"}
    | {name: name for name in ("cls_token", "dist_token", "reg_token", "pos_embed", "norm_pre", "norm", "fc_norm")},
    {"attn.qkv": "attn.qkv", "attn.proj": "attn.proj", "ls1.gamma": "ls1.gamma", "ls2.gamma": "ls2.gamma"}
    | {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma", "mlp.w12": "mlp.0", "mlp.w3": "mlp.2"}
    | {"mlp.fc1_g": "mlp.gate", "mlp.fc1_x": "mlp.up"}
    | NORMS
    | FC,
    ("patch_embed.bias|norm_pre.weight", "blocks.0.attn.proj.weight"),
    ("head.", "head_dist.", "pre_logits.", "attn_pool.", "mask_token", "decoder_"),
    {"eps": 1e-6, "resize": "bicubic_antialias"},
)
HUGGING_FACE = Family(
    "Hugging Face",
    ("embeddings.patch_embeddings.projection.weight", "embeddings.position_embeddings"),
    r"(?:encoder\.)?layers?\.",
    {
        "embeddings.patch_embeddings.projection": "patch_embed",
        "embeddings.cls_token": "cls_token",
        "embeddings.distillation_token": "dist_token",
        "embeddings.register_tokens": "reg_token",
        "embeddings.position_embeddings": "pos_embed",
        "layernorm": "norm",
    },
    {
        f"attention.{theirs}": f"attn.{ours}"
        for theirs, ours in {"attention.query": "q", "attention.key": "k", "attention.value": "v"}.items()
    }
    | {f"attention.{part}_proj": f"attn.{part}" for part in "qkv"}
    | {"attention.output.dense": "attn.proj", "attention.o_proj": "attn.proj"}
    | {"layernorm_before": "norm1", "layernorm_after": "norm2", "intermediate.dense": "mlp.0", "output.dense": "mlp.2"}
    | {"layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma"}
    | {"mlp.weights_in": "mlp.0", "mlp.weights_out": "mlp.2"}
    | {"mlp.gate_proj": "mlp.gate", "mlp.up_proj": "mlp.up", "mlp.down_proj": "mlp.2"}
    | NORMS
    | FC,
    ("cls_token", "patch_embed.bias", "blocks.0.attn.proj.weight"),
    ("classifier.", "cls_classifier.", "distillation_classifier.", "pooler.", "embeddings.mask_token", "decoder."),
    {"eps": 1e-12, "resize": "bicubic"},
)
OPENAI_CLIP = Family(
    "OpenAI CLIP",
    ("conv1.weight", "class_embedding", "positional_embedding"),
    r"transformer\.resblocks\.",
    {
        "conv1": "patch_embed",
        "class_embedding": "cls_token",
        "positional_embedding": "pos_embed",
        "ln_pre": "norm_pre",
        "ln_post": "norm",
    },
    {"ln_1": "norm1", "ln_2": "norm2", "mlp.c_fc": "mlp.0", "mlp.c_proj": "mlp.2"}
    | {f"attn.{theirs}": ours for theirs, ours in PACKED.items()},
    ("norm_pre.weight", "blocks.0.attn.qkv.bias", "blocks.0.attn.proj.weight"),
    ("proj",),
    {"eps": 1e-5, "act": "quick_gelu", "resize": "bicubic", **CLIP},
)
HUGGING_FACE_CLIP = Family(
    "Hugging Face CLIP",
    (
        "embeddings.patch_embedding.weight",
        "embeddings.class_embedding",
        "embeddings.position_embedding.weight",
    ),
    r"encoder\.layers\.",
    {
        "embeddings.patch_embedding": "patch_embed",
        "embeddings.class_embedding": "cls_token",
        "embeddings.position_embedding.weight": "pos_embed",
        "pre_layrnorm": "norm_pre",
        "pre_layernorm": "norm_pre",
        "post_layernorm": "norm",
    },
    {"layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "attn.proj"}
    | {f"self_attn.{part}_proj": f"attn.{part}" for part in "qkv"}
    | FC,
    ("norm_pre.weight", "blocks.0.attn.qkv.bias", "blocks.0.attn.proj.weight"),
    ("embeddings.position_ids", "visual_projection."),
    {"eps": 1e-5, "act": "quick_gelu", "resize": "bicubic", **CLIP},
)
LUKEMELAS = Family(
    "PyTorch-Pretrained-ViT",
    ("patch_embedding.weight", "positional_embedding.pos_embedding"),
    r"transformer\.blocks\.",
    {
        "patch_embedding": "patch_embed",
        "class_token": "cls_token",
        "positional_embedding.pos_embedding": "pos_embed",
        "norm": "norm",
    },
    {f"attn.proj_{part}": f"attn.{part}" for part in "qkv"}
    | {"proj": "attn.proj", "pwff.fc1": "mlp.0", "pwff.fc2": "mlp.2"}
    | NORMS,
    ("patch_embed.bias", "blocks.0.attn.qkv.bias", "blocks.0.attn.proj.weight"),
    ("fc.", "pre_logits."),
    {"eps": 1e-6, "resize": "bilinear_corners"},
)
GOOGLE = Family(  # names after `vitpipe.weights.flax`
    "Google",
    ("embedding.weight", "Transformer.encoder_norm.weight"),
    r"Transformer\.encoderblock_",
    {
        "embedding": "patch_embed",
        "cls": "cls_token",
        "Transformer.posembed_input.pos_embedding": "pos_embed",
        "pos_embedding": "pos_embed",
        "Transformer.encoder_norm": "norm",
    },
    {"LayerNorm_0": "norm1", "LayerNorm_1": "norm2", "LayerNorm_2": "norm2"}
    | {
        f"MultiHeadDotProductAttention_{i}.{theirs}": f"attn.{ours}"
        for i in (0, 1)
        for theirs, ours in {"query": "q", "key": "k", "value": "v", "out": "proj"}.items()
    }
    | {f"MlpBlock_{i}.Dense_{layer}": f"mlp.{2 * layer}" for i in (0, 3) for layer in (0, 1)},
    ("patch_embed.bias", "blocks.0.attn.qkv.bias", "blocks.0.attn.proj.weight"),
    ("pre_logits.", "head.", "MAPHead_0."),
    {"eps": 1e-6, "act": "gelu_tanh", "resize": "bilinear_corners"},
)
FAMILIES = (TORCHVISION, TIMM, HUGGING_FACE, HUGGING_FACE_CLIP, OPENAI_CLIP, LUKEMELAS, GOOGLE)
