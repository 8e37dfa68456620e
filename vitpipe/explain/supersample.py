"""What a super-sampler's heads look at."""

import numpy as np
import torch
from torch import nn

from vitpipe.config import Settings
from vitpipe.data.batches import Packed
from vitpipe.explain.filters import filters
from vitpipe.explain.heatmaps import maps
from vitpipe.explain.positions import positions


def views(
    model: nn.Module, untrained: nn.Module, packed: Packed, settings: Settings, device: torch.device
) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of every picture: maps, filters and, where there are position embeddings, positions."""
    arrays = {"maps": maps(model, packed, device), "filters": filters(model, untrained)}
    if found := positions(model, untrained):
        arrays["positions"] = found
    return arrays
