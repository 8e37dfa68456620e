"""The super-sampler of the experiment that this project began with, written anew from its description.

Shapes: b batch, s side of the input, n tokens, d = s * s embedding dimension, c channels, h heads, e their dimension.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

HEADS, HEAD_DIM = 16, 32
DROPOUT = 0.5


class Original(nn.Module):
    """LR images (b, 3, s, s) to HR images (b, 3, 4s, 4s), both on [-1, 1]; 41 million parameters at s = 48.

    One attention block over tokens of dimension s * s. Each token is then one channel of s x s pixels, which two
    transposed convolutions enlarge together with the input. Peculiar to it are linear layers without an activation
    between them, attention without 1 / sqrt(e), dropout of one half, and "patches" that hold every g-th pixel of the
    whole image instead of a contiguous square (g = s / patch).
    """

    def __init__(self, *, size: int, patch: int) -> None:
        super().__init__()
        assert size % patch == 0, f"patch {patch} must divide the input size {size}"
        self.size, self.grid = size, size // patch
        tokens, dim, pixels = self.grid**2, size**2, 3 * patch**2
        self.embed = nn.Sequential(nn.LayerNorm(pixels), nn.Linear(pixels, dim), nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.register_buffer("position", sinusoids(tokens, dim), persistent=False)
        self.placed = nn.Sequential(nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Dropout(DROPOUT))
        inner = HEADS * HEAD_DIM
        self.qkv = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 3 * inner))
        self.proj = nn.Sequential(nn.Linear(inner, HEAD_DIM), nn.Linear(HEAD_DIM, dim), nn.Dropout(DROPOUT))
        pair = [nn.Linear(dim, dim), nn.Linear(dim, dim)]
        self.mlp = nn.Sequential(
            *[nn.LayerNorm(dim), *pair, nn.GELU(), nn.Dropout(DROPOUT)],
            *[nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Dropout(DROPOUT)],
        )
        self.enlarge = nn.ModuleList(doubled(channels + 3, channels // 2) for channels in (tokens, tokens // 2))
        self.head = nn.Conv2d(tokens // 4 + 3, 3, 1)

    def forward(self, lr: Tensor) -> Tensor:
        tokens = rearrange(lr, "b c (p1 h) (p2 w) -> b (h w) (c p1 p2)", h=self.grid, w=self.grid)
        x = self.placed(self.embed(tokens) + self.position)  # b n d
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=HEADS)
        attended = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        x = x + self.proj(rearrange(attended, "b h n e -> b n (h e)"))
        x = x + self.mlp(x)
        x = rearrange(x, "b n (y x) -> b n y x", y=self.size)
        for layers in self.enlarge:
            x = layers(torch.cat([lr, x], dim=1))
            lr = F.interpolate(lr, scale_factor=2, mode="bicubic")
        return torch.tanh(self.head(torch.cat([lr, x], dim=1)))


def doubled(channels: int, out: int) -> nn.Sequential:
    """(b, channels, h, w) to (b, out, 2h, 2w): a transposed and a 3x3 convolution."""
    return nn.Sequential(
        *[nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1), nn.GroupNorm(4, out), nn.GELU()],
        *[nn.Conv2d(out, out, 3, padding=1), nn.GroupNorm(4, out), nn.GELU()],
    )


def sinusoids(tokens: int, dim: int) -> Tensor:
    """Fixed position embedding (tokens, dim) by token number (Vaswani et al. 2017, section 3.5)."""
    frequency = 10000.0 ** (-torch.arange(dim // 2) / (dim // 2))
    angle = torch.arange(tokens)[:, None] * frequency  # tokens, dim/2
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
