"""Attention by place: where a head looks whatever the image shows.

Shapes: h heads, r rows and c columns of patches, p prefix tokens, t = p + r * c tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARPNESS = 6.0  # at the start: a direct neighbour of the centre has e^-3 = 0.05 times its weight
NEIGHBOURS = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1)]
"""Offsets in rows and columns, by distance."""


class Place(nn.Module):
    """Attention logits that depend on the offset between two patches alone: -a/2 |d - D|^2.

    d is the offset from query to key in patches; each head has a centre D and a sharpness a, so that its attention by
    place is a Gaussian window around D. Heads begin at the patch itself and its nearest neighbours, one each, as a 3x3
    convolution would (Cordonnier et al. 2020, arXiv:1911.03584, section 3; d'Ascoli et al. 2021, arXiv:2103.10697,
    section 3). More heads than these nine repeat them, fewer take the nearest. Nothing is clipped: a head whose
    sharpness becomes 0 has no preference, one below 0 looks away from D.

    Args:
        heads: number of heads h.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        begin = [NEIGHBOURS[head % len(NEIGHBOURS)] for head in range(heads)]
        self.centre = nn.Parameter(torch.tensor(begin, dtype=torch.float32))  # h 2: rows, columns
        self.sharpness = nn.Parameter(torch.full((heads,), SHARPNESS))

    def forward(self, grid: tuple[int, int], prefix: int = 0) -> Tensor:
        """Logits of all pairs of tokens (h, t, t), queries first; 0 where either is a prefix token.

        Args:
            grid: rows r and columns c of patches.
            prefix: number p of prefix tokens, which have no place.
        """
        logits = []
        for axis, length in enumerate(grid):
            along = torch.arange(length, device=self.centre.device)
            missed = (along - along[:, None]) - self.centre[:, axis, None, None]  # h query key
            logits.append(missed.square() * (-self.sharpness / 2)[:, None, None])
        rows, columns = logits
        pairs = rows[:, :, None, :, None] + columns[:, None, :, None, :]  # h r c r c
        return F.pad(pairs.flatten(3).flatten(1, 2), (prefix, 0, prefix, 0))
