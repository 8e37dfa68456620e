"""How good a model is on validation images while it is trained."""

import numpy as np
import torch
from torch import nn

from vitpipe.data.batches import Batch, rank_slice, scoring_batches
from vitpipe.data.dataset import PackedDataset
from vitpipe.training.compute import Compute
from vitpipe.training.distributed import Group
from vitpipe.training.task import TrainingTask


@torch.inference_mode()
def validation_means(
    task: TrainingTask, model: nn.Module, val: PackedDataset, compute: Compute, group: Group
) -> dict[str, float]:
    """Means of the task's `validation_scores` over all images; each process of the group computes those of its part.

    Args:
        model: the whole model, or its head where the encoder is frozen; left in evaluation mode.
    """
    model.eval()
    rows = np.arange(len(val))[rank_slice(len(val), group.rank, group.size)]
    sums: dict[str, float] = {}
    for some in [rows] if task.frozen else scoring_batches(val, rows):  # features are small
        batch = Batch(val, some, compute.device)
        inputs = task.inputs(batch)
        with compute.autocast():
            output = model(inputs).float()
        for name, values in task.validation_scores(output, inputs, task.targets(batch)).items():
            sums[name] = sums.get(name, 0.0) + float(values.sum())
    return group.means({name: total / len(rows) for name, total in sums.items()}, len(rows))
