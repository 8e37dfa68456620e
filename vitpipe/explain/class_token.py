"""What the classifier reads from where: the class token's attention, from the raw grid to the attended image.

Legend of the shapes: f or b images, l layers, h heads, n tokens (patches and, where there is one, the class token
as token 0), g side of the grid of patches, S side of the image in pixels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.data.pixels import to_input
from vitpipe.explain.capture import at_once, encoder_of, evaluating, record_attention
from vitpipe.explain.heatmaps import WEIGHTS_AT_ONCE
from vitpipe.explain.rollout import rollout


def query_row(weights: Tensor, token: bool) -> Tensor:
    """Attention (..., patches) that the readout's query gives to the patches, from weights (..., n, n).

    With a class token its own row, without what it gives itself and not renormalised, so that it sums to at most
    one; else the mean over all queries, since a mean over patches reads them all alike.
    """
    return weights[..., 0, 1:] if token else weights.mean(-2)


def six_steps(row: Tensor, images: np.ndarray, grid: int) -> dict[str, np.ndarray]:
    """From attention to an image that is bright where the classifier looked.

    The six steps: (1) mean over the heads, (2) as a grid, (3) resized to the image, bilinear with half-pixel
    centres (`align_corners=False`, as Pillow enlarges), (4) minimum to 0 and maximum to 1 in each image,
    (5) times the image on 0..1, (6) times two, clipped at 1. A map that is the same everywhere, up to
    rounding, tells of no place: all of it becomes 0 in step 4.

    Args:
        row: attention of one query to the patches (b, h, g * g), as `query_row` gives.
        images: (b, S, S, 3) uint8, in the order of `row`.
        grid: g.

    Returns:
        raw (b, g, g) after step 2, attention weights; resized (b, S, S) after step 4 and attended (b, S, S, 3) after
        step 6, both on 0..1. All float32.
    """
    assert len(row) == len(images), f"{len(row)} rows of attention for {len(images)} images"
    raw = row.float().mean(1).unflatten(-1, (grid, grid))  # b g g
    large = F.interpolate(raw[:, None], size=images.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    flat = high - low <= 1e-6 * high  # the resolution of float32: what varies less is rounding
    resized = ((large - low) / (high - low).masked_fill(flat, 1)).masked_fill(flat, 0)
    pictures = torch.from_numpy(images).to(resized.device).float() / 255
    attended = (2 * resized[..., None] * pictures).clamp(max=1)
    arrays = {"raw": raw, "resized": resized, "attended": attended}
    return {name: values.cpu().numpy() for name, values in arrays.items()}


def view(model: nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a `Classifier` says of images and where it looked.

    Args:
        model: a `Classifier`; it is left as it was.
        images: (f, s, s, 3) uint8.

    Returns:
        heads (f, h, g, g), the last layer's attention from the readout's query (see `query_row`) times n, so that 1
        is attention that sees all tokens equally; rollout (f, g, g), that of all layers, times n too; what
        `six_steps` gives of the last layer (S = s); predicted (f,) class index int64 and probability (f,) of it.
    """
    encoder = encoder_of(model)
    grid, token = images.shape[1] // encoder.patch, encoder.token is not None
    tokens, batch = grid**2 + token, at_once(model, WEIGHTS_AT_ONCE)
    device = next(model.parameters()).device
    parts: list[dict[str, np.ndarray]] = []
    with torch.inference_mode(), evaluating(model):
        for start in range(0, len(images), batch):
            chosen = images[start : start + batch]
            with record_attention(model) as record:
                logits = model(to_input(chosen, device))
            probability, predicted = logits.float().softmax(-1).max(-1)
            row = query_row(record.weights[:, -1], token)  # b h g*g
            through = query_row(rollout(record.weights), token)  # b g*g
            arrays = {
                "heads": row.unflatten(-1, (grid, grid)) * tokens,
                "rollout": through.unflatten(-1, (grid, grid)) * tokens,
                "predicted": predicted,
                "probability": probability,
            }
            steps = six_steps(row, chosen, grid)
            parts.append({name: values.cpu().numpy() for name, values in arrays.items()} | steps)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
