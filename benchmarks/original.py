"""The super-sampler of the experiment this project began with, written anew from its facts.

Its settings are those of its third trial: 6x6 patches, sinusoidal positions, bicubic skip. Stacked linear layers
without an activation between them, attention without 1/sqrt(d) and dropout of one half are its own.

Legend of the shapes: b batch, s input side, n tokens, c channels, p side of a patch, g patches in a row, h heads,
e width of a head.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

HEADS, HEAD_WIDTH = 16, 32
DROPOUT = 0.5


class Original(nn.Module):
    """LR image (b, 3, s, s) to HR image (b, 3, 4s, 4s), both on [-1, 1].

    One attention block over n = g*g tokens that are s*s wide: each is then looked at as one channel of s x s pixels,
    and two transposed convolutions enlarge those, the input enlarged by bicubic interpolation beside them.

    Where the 41 million parameters are, at s = 48: seven linear layers from 2304 to 2304 have 37.2 million, the
    heads' queries, keys and values 3.5 million, the first layer 0.25 million; all convolutions have 0.06 million.

    Args:
        size: side s of the input in pixels.
        patch: side p of a patch, which must divide it.
        strided: whether a "patch" is its fault, every g-th pixel of the whole image, or a contiguous square.
    """

    def __init__(self, *, size: int, patch: int, strided: bool) -> None:
        super().__init__()
        assert size % patch == 0, f"patch {patch} must divide the input size {size}"
        grid, width = size // patch, size * size
        self.size, self.grid, self.strided = size, grid, strided
        pixels, tokens = 3 * patch * patch, grid * grid
        self.embed = nn.Sequential(
            nn.LayerNorm(pixels), nn.Linear(pixels, width), nn.Linear(width, width), nn.LayerNorm(width)
        )
        self.register_buffer("position", sinusoids(tokens, width), persistent=False)
        self.placed = nn.Sequential(nn.Linear(width, width), nn.Linear(width, width), nn.Dropout(DROPOUT))
        self.attention = Heads(width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(width, width),
            nn.Linear(width, width),
            nn.Dropout(DROPOUT),
        )
        self.enlarge = nn.ModuleList(twice(channels + 3, channels // 2) for channels in (tokens, tokens // 2))
        self.last = nn.Conv2d(tokens // 4 + 3, 3, 1)

    def forward(self, lr: Tensor) -> Tensor:
        x = self.placed(self.embed(self.tokens(lr)) + self.position)  # b n s*s
        x = x + self.attention(x)
        x = x + self.mlp(x)
        x = rearrange(x, "b n (y x) -> b n y x", y=self.size)
        for layers in self.enlarge:
            x = layers(torch.cat([lr, x], dim=1))
            lr = F.interpolate(lr, scale_factor=2, mode="bicubic")
        return torch.tanh(self.last(torch.cat([lr, x], dim=1)))

    def tokens(self, lr: Tensor) -> Tensor:
        """(b, 3, s, s) to (b, n, 3*p*p): squares, or with the fault one pixel of every square to each token."""
        if self.strided:
            return rearrange(lr, "b c (p1 g) (p2 q) -> b (g q) (c p1 p2)", g=self.grid, q=self.grid)
        return rearrange(lr, "b c (g p1) (q p2) -> b (g q) (c p1 p2)", g=self.grid, q=self.grid)


class Heads(nn.Module):
    """Attention of 16 heads 32 wide, not scaled by 1/sqrt(e), (b, n, d) to (b, n, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = HEADS * HEAD_WIDTH
        self.qkv = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * inner))
        self.join = nn.Sequential(nn.Linear(inner, HEAD_WIDTH), nn.Linear(HEAD_WIDTH, width), nn.Dropout(DROPOUT))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=HEADS)
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0)  # b h n e
        return self.join(rearrange(out, "b h n e -> b n (h e)"))


def twice(channels: int, out: int) -> nn.Sequential:
    """A transposed convolution that doubles the sides, and a 3x3 convolution."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1),
        nn.GroupNorm(4, out),
        nn.GELU(),
        nn.Conv2d(out, out, 3, padding=1),
        nn.GroupNorm(4, out),
        nn.GELU(),
    )


def sinusoids(tokens: int, width: int) -> Tensor:
    """Fixed position embedding (tokens, width), by token number (Vaswani et al. 2017, section 3.5)."""
    frequency = 10000.0 ** (-torch.arange(width // 2) / (width // 2))
    angle = torch.arange(tokens)[:, None] * frequency  # tokens, width/2
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
