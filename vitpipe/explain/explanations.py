"""All that the explain stage measures."""

from typing import Any

import numpy as np
from torch import nn

from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.explain.attention_maps import class_attention, maps, pixel_importance
from vitpipe.explain.embeddings import filters, positions
from vitpipe.explain.encoders import attention_layers
from vitpipe.explain.explorer import explorer
from vitpipe.explain.faithfulness import faithfulness
from vitpipe.explain.measure import measure
from vitpipe.explain.per_class import attention_per_class
from vitpipe.explain.place import place
from vitpipe.tasks.base import Task

IMAGES = 6  # in the figures of single images


def explain(
    task: Task, model: nn.Module, untrained: nn.Module, other: nn.Module, val: PackedDataset, test: PackedDataset
) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Measures what a model looks at, on test images that are evenly spaced through the part.

    Args:
        model: trained, of the task; all models are left as they were.
        untrained: the same with the weights that training began with.
        other: the same with other random weights.
        val: chooses heads.
        test: what everything is measured on.

    Returns:
        The contents of reports/attention.json and reports/faithfulness.json, and by name the arrays of the figures and
        the explorer: methods and faithfulness; filters unless a ResNet precedes the encoder; positions where there are
        position embeddings; pixels where there are classes. Where the model computes attention, also maps, distances
        and explorer; place where heads have a place term; class_attention where there are classes, and per_class where
        one has two images or more.

    Raises:
        InputError: `compared_classes` of the task names an unknown class or one with fewer than two of the images.
    """
    arrays = {"filters": filters(model, untrained), "positions": positions(model, untrained)}
    rows, attends = evenly_spaced(test, IMAGES), bool(attention_layers(model))
    if test.classes:
        arrays["pixels"] = pixel_importance(task, model, test, rows)
    if test.classes and attends:
        arrays["class_attention"] = class_attention(task, model, test, rows)
        arrays["per_class"] = attention_per_class(model, test, task.compared_classes, task.settings.seed)
    attention, distances = measure(task, model, untrained, val, test)
    trust, pictures = faithfulness(task, model, other, test)
    arrays |= pictures
    if attends:
        arrays |= {"maps": maps(model, test), "distances": distances, "explorer": explorer(task, model, test)}
        arrays["place"] = place(model, untrained, test, attention["layers"])
    return attention, trust, {name: found for name, found in arrays.items() if found}
