"""What a super-sampler's heads look at."""

import numpy as np
import torch
from torch import nn

from vitpipe.config import Settings
from vitpipe.data.batches import Packed
from vitpipe.explain.heatmaps import maps


def views(
    model: nn.Module, untrained: nn.Module, packed: Packed, settings: Settings, device: torch.device
) -> dict[str, dict[str, np.ndarray]]:
    """`maps`, see `vitpipe.explain.heatmaps.maps`."""
    return {"maps": maps(model, packed, device)}
