"""The same transformer encoder in four libraries, and the step of each that is timed.

Legend of the shapes: b batch, n tokens, d embedding width.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitpipe.sources.torchvision import import_torchvision
from vitpipe.models import attention
from vitpipe.models.vit import Encoder

import_torchvision()  # before the peers, which all import it; they are imported when used: the document needs none


@dataclass(frozen=True)
class Shape:
    """Sizes of an encoder: n tokens of width d, blocks, heads, hidden width of the MLP over d, images at once."""

    tokens: int
    dim: int
    depth: int
    heads: int
    mlp: float = 4.0
    batch: int = 32

    @property
    def flops(self) -> float:
        """Operations of the forward pass for one image, 2 for each multiply and add, of matrix products alone.

        A block has 4 d^2 weights in attention and 2 mlp d^2 in its MLP, each used once for every token:
        n (8 + 4 mlp) d^2; and two products of n x n by d: 4 n^2 d. A training step has three times as many: the
        gradients by input and by weights cost as much as the output each.
        """
        weights = self.tokens * (8 + 4 * self.mlp) * self.dim**2
        return self.depth * (weights + 4 * self.tokens**2 * self.dim)

    def facts(self) -> dict[str, Any]:
        return asdict(self) | {"flops": self.flops}


def ours(shape: Shape, *, bias: bool = True) -> nn.Module:
    """`vitpipe.models.vit.Encoder` without patches and positions."""
    encoder = Encoder(
        size=2,
        patch=1,
        channels=3,
        dim=shape.dim,
        depth=shape.depth,
        heads=shape.heads,
        mlp=shape.mlp,
        position="none",
        bias=bias,
    )
    return nn.Sequential(*encoder.blocks, encoder.norm)


def unbiased(shape: Shape) -> nn.Module:
    """Ours without bias of queries, keys and values, which is what vit-pytorch's has."""
    return ours(shape, bias=False)


def other(shape: Shape) -> nn.Module:
    """Ours with the path of attention that its rule does not take; turns the rule of the whole process around."""
    rule = attention.written_out
    attention.written_out = lambda q: not rule(q)
    return ours(shape)


def path(shape: Shape, kind: str, dtype: str) -> str:
    """Which path of attention our encoder takes at this shape and type on this CPU, in training or forward alone.

    "fused" is torch's kernel, "written" softmax and products written out.
    """
    size = (1, shape.heads, shape.tokens, shape.dim // shape.heads)
    queries = torch.empty(size, dtype=getattr(torch, dtype), requires_grad=kind == "training")
    return "written" if attention.written_out(queries) else "fused"


def timm(shape: Shape) -> nn.Module:
    """`timm.models.vision_transformer.Block`, biases as in its VisionTransformer."""
    from timm.models.vision_transformer import Block

    blocks = (Block(shape.dim, shape.heads, shape.mlp, qkv_bias=True) for _ in range(shape.depth))
    return nn.Sequential(*blocks, nn.LayerNorm(shape.dim))


def torchvision(shape: Shape) -> nn.Module:
    """`torchvision.models.vision_transformer.EncoderBlock`."""
    from torchvision.models.vision_transformer import EncoderBlock

    hidden = int(shape.dim * shape.mlp)
    blocks = (EncoderBlock(shape.heads, shape.dim, hidden, 0.0, 0.0) for _ in range(shape.depth))
    return nn.Sequential(*blocks, nn.LayerNorm(shape.dim))


def vit_pytorch(shape: Shape) -> nn.Module:
    """`vit_pytorch.vit.Transformer`, whose queries, keys and values have no bias."""
    from vit_pytorch.vit import Transformer

    return Transformer(shape.dim, shape.depth, shape.heads, shape.dim // shape.heads, int(shape.dim * shape.mlp))


PEERS: dict[str, Callable[[Shape], nn.Module]] = {"timm": timm, "torchvision": torchvision, "vit-pytorch": vit_pytorch}
ENCODERS: dict[str, Callable[[Shape], nn.Module]] = {"ours": ours, "unbiased": unbiased, "other": other, **PEERS}


def parameters(name: str, shape: Shape) -> int:
    """Number of the encoder's weights, from shapes alone."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in ENCODERS[name](shape).parameters())


def make(name: str, shape: Shape, kind: str, dtype: str, device: str = "cpu") -> Callable[[], Tensor]:
    """The step that is timed: of `kind` forward (inference mode) or training, with autocast unless float32.

    Training is a forward pass of b x n x d random tokens, the backward pass of a random gradient of the output, and a
    step of fused AdamW.
    """
    torch.manual_seed(0)
    model = ENCODERS[name](shape).to(device)
    tokens, gradient = torch.randn(2, shape.batch, shape.tokens, shape.dim).to(device)  # b n d
    lower = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
    if kind == "forward":
        model.eval()

        def forward() -> Tensor:
            with torch.inference_mode(), lower:
                return model(tokens)

        return forward
    descent = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def training() -> Tensor:
        with lower:
            output = model(tokens)
        output.float().backward(gradient)
        descent.step()
        descent.zero_grad()
        return output

    return training
