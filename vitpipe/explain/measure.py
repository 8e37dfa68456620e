"""The numbers of reports/attention.json: what every head does, and how certain that is.

Shapes: f images, l layers, h heads, t tokens (prefix tokens and patches), n patches.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.explain.encoders import NO_ATTENTION, attention_batches, attention_layers, encoder_of
from vitpipe.explain.importance import head_importance, recording, replacement_losses, stacked
from vitpipe.explain.localization import (
    LEAST,
    MOVED,
    compare_regions,
    faces,
    head_lifts,
    head_maps,
    rounded,
)
from vitpipe.explain.place import place_weights
from vitpipe.metrics import attention as measures
from vitpipe.metrics.faithfulness import RESAMPLES
from vitpipe.metrics.regions import CAP, REGIONS
from vitpipe.tasks.base import Task

MEASURED = 128  # test images in the measures
COMPARED = 16  # of these, in the diversities, which compare all pairs of heads
CHOSEN_ON = 64  # validation images that choose the heads of each region

PROTOCOL = {
    "average": f"mean over all queries of up to {MEASURED} test images at even distances, per layer and head; above "
    "that the mean of all heads",
    "class_token": "left out where there is one: attention among the patches, rows summing to one again",
    "untrained": "the same means of the model with the weights that training began with",
    "self_weight": "attention that a token gives itself, 0 to 1",
    "entropy": "entropy of a query's attention, itself included, over ln of the number of tokens, 0 to 1",
    "distance": "mean distance between the centres of query and key, in pixels of the LR input",
    "distance_uniform": "the same for attention that sees all tokens equally",
    "place": "attention by place alone is the softmax of a head's place term, whatever the image; uniform without one. "
    "Content is what queries and keys, which see the image and position embeddings, change about it",
    "content": "Jensen-Shannon divergence between attention and attention by place alone over ln 2: 0 looks by place, "
    "whatever the image, 1 has nothing in common with it",
    "by_place": "1 for a head that looks by place: content_importance (content_importance_loss where there is one) is "
    "not above 0, by the 95 % interval of its mean over the images (Student's t), else 0; of heads whose content is "
    "worth nothing one in 40 gets 0 by chance. The mean is the share of heads that look by place",
    "diversity": "Jensen-Shannon divergence of two heads' attention over ln 2, mean over pairs of heads, queries and "
    f"up to {COMPARED} test images: 0 alike, 1 nothing in common; left out where layers have one head",
    "output_diversity": "1 - linear CKA of two heads' outputs over the patches of these images together (Kornblith et "
    "al. 2019), mean over pairs of heads: 0 alike, 1 unrelated; left out where layers have one head",
    "outliers": "share of patches whose norm after a block is above median + 6 robust standard deviations and twice "
    "the median of the layer (after Darcet et al. 2023)",
    "norm_ratio": "largest norm of a patch after a block over the layer's median",
    "replaced": "the trained model with all its attention replaced, by the mean over all tokens, by the identity (each "
    "token sees only itself) or by the place term alone (null without one), and not trained again. An upper bound of "
    "what attention is worth: the rest of the model was trained to rely on it; only training again tells "
    "(docs/what-attention-is-worth.md, make controls)",
}
REGIONS_PROTOCOL = {
    "map": "where a head looks in an image: the class token's attention to the patches where there is one, else the "
    "non-self attention that patches receive, mean over queries; summing to one",
    "areas": "ellipses about both eyes, nose and mouth, scaled with the inter-eye and the eye-to-mouth distance; "
    "background: outside the ellipse of the face, hair included for the most part; cheeks, forehead and chin are "
    "in none",
    "regions": f"of each region the head with the highest lift_content on up to {CHOSEN_ON} validation images, scored "
    f"on the test images; layer and head count from 1; ends of 95 % bootstrap intervals over {RESAMPLES} draws of the "
    "images",
    "mass": "share of the map in the region",
    "lift": "mass over the region's share of the image's area, mean over images; 1 is what uniform attention has",
    "lift_place": "lift that the head would have by place alone",
    "lift_content": "mass over the mass that the head would have by place alone, mean over images: 1 for a head that "
    f"looks by place; at most {CAP:g}. Without a place term it is lift",
    "pointing": "covered share of the patch with the map's maximum (pointing game, Zhang et al. 2016); chance is "
    "about mass over lift",
    "content_lift": f"shift control: up to {MOVED} images are moved left, right, up and down by whole patches (half "
    "the inter-eye distance or a little more), edges replicated; lift of the moved image's map on the moved region "
    "over that of the unmoved image's map there: 1 for a head that looks at places, above 1 if it follows the "
    f"content; at most {CAP:g}",
    "lift_untrained": "lift (and under such names mass, pointing, lift_content and content_lift) of the untrained "
    "model's head, chosen and scored the same way",
    "survives": "1 if the lower ends of lift, lift_content and content_lift are all above 1 and above the untrained "
    "model's, else 0",
}
LANDMARKS = {
    "annotated": "annotated: those of each image",
    "mean": "mean: for some images or all, the mean ones of aligned faces",
}


@dataclass
class Measurements:
    """What one pass over the test images gave: measures of heads (l, h) and of layers (l,), and maps (f, l, h, n).

    l and h are 0 where the model computes no attention, but l of `outliers` and `norm_ratio` counts its blocks.
    """

    heads: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]
    maps: Tensor

    def means(self) -> dict[str, float | None]:
        """The mean of each measure over heads, or over layers for what only layers have; None where there are none."""
        every = self.heads | self.layers
        return {name: rounded(values.mean()) if values.size else None for name, values in every.items()}

    def by_layer(self) -> list[dict[str, Any]]:
        """The content of `layers`: numbers of each layer, and of each of its heads."""

        def at(values: dict[str, np.ndarray], *place: int) -> dict[str, float]:
            return {name: rounded(array[place]) for name, array in values.items()}

        depth, heads = self.heads["entropy"].shape
        return [
            at(self.layers, layer) | {"heads": [at(self.heads, layer, head) for head in range(heads)]}
            for layer in range(depth)
        ]


def measure(
    task: Task, model: nn.Module, untrained: nn.Module, val: PackedDataset, test: PackedDataset
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The content of reports/attention.json, and the arrays of the figure distances; both models are left as they were.

    Args:
        model: trained, of the task.
        untrained: the same with the weights that training began with.

    Returns:
        Numbers by the names of `PROTOCOL`, of the task's head scores and of `REGIONS_PROTOCOL`, rounded to six digits
        after the point, never NaN: means over heads, or over layers for what only layers have; `untrained`, the same
        of the untrained model; `replaced`, see `replacement_losses`; `regions`, where images have landmarks, by region;
        images; protocol and layers, as lists, which DVC leaves out of its tables. Heads of all layers have the same
        keys. Where the model computes no attention its measures and `regions` are None and `layers` is empty. And
        trained and untrained (l, h), the mean attention distance of each head, and uniform, that of uniform attention,
        in pixels.
    """
    encoder, rows = encoder_of(model), evenly_spaced(test, MEASURED)
    down, across = encoder.grid
    trained, fresh = (measure_model(task, net, test, rows) for net in (model, untrained))
    uniform = rounded(measures.uniform_distance(down * across, encoder.pixels, across))
    replaced = replacement_losses(task, model, test, zeroed_on(task, model, test))
    content: dict[str, Any] = {**trained.means(), "distance_uniform": uniform, "untrained": fresh.means()}
    content["replaced"] = replaced
    told = {*trained.heads, *replaced["mean"]}
    protocol = PROTOCOL | {name: text for name, text in task.explanation_protocol.items() if name in told}
    chosen_on, shown = faces(val, evenly_spaced(val, CHOSEN_ON)), faces(test, rows)
    if not attention_layers(model):
        content["regions"] = None
        protocol |= {"attention": NO_ATTENTION}
    elif chosen_on and shown:
        maps = trained.maps[shown.rows], fresh.maps[shown.rows]
        regions = compare_regions(model, untrained, chosen_on, shown, maps, task.settings.seed)
        own = head_lifts(maps[0], shown.shares(across))
        trained.heads |= {f"lift_{name}": own[..., REGIONS.index(name)] for name in regions}
        content |= {"regions": regions} if regions else {}
        protocol |= REGIONS_PROTOCOL | {"landmarks": LANDMARKS[shown.note]}
    else:
        protocol |= {"regions": f"not measured: fewer than {LEAST} images have landmarks"}
    content |= {"images": len(rows), "protocol": [protocol], "layers": trained.by_layer()}
    reach = {"trained": trained.heads["distance"], "untrained": fresh.heads["distance"], "uniform": np.array(uniform)}
    return content, reach


def zeroed_on(task: Task, model: nn.Module, test: PackedDataset) -> np.ndarray:
    """The rows of the test images that heads are zeroed on."""
    return evenly_spaced(test, task.effort.spent_on(encoder_of(model)).head_images)


def measure_model(task: Task, model: nn.Module, test: PackedDataset, rows: np.ndarray) -> Measurements:
    """Every measure of one model on the test images `rows`, and its maps."""
    encoder = encoder_of(model)
    prefix = encoder.num_prefix_tokens
    alone = measures.among_patches(place_weights(encoder), prefix)
    sums: dict[str, np.ndarray] = {}
    maps: list[Tensor] = []
    with recording([*encoder.blocks], lambda x, output: output.norm(dim=-1)) as norms:
        for weights in attention_batches(model, test.images("lr", rows)):
            maps.append(head_maps(weights, model).cpu())
            among = measures.among_patches(weights, prefix)
            found = {"self_weight": measures.self_weight(among), "entropy": measures.entropy(among)}
            found["distance"] = measures.distance(among, encoder.pixels, encoder.grid[1])
            found["content"] = measures.divergence(among, alone)
            for name, values in found.items():
                sums[name] = sums.get(name, 0) + values.double().mean(-1).sum(0).cpu().numpy()  # l h
    lengths = stacked(norms)[..., prefix:] if norms else torch.empty(len(rows), 0, 1)  # f l n
    layers = {"outliers": measures.outliers(lengths), "norm_ratio": measures.norm_ratio(lengths)}
    heads = {name: total / len(rows) for name, total in sums.items()}
    return Measurements(
        heads | head_importance(task, model, test, zeroed_on(task, model, test)),
        diversities(model, test) | {name: values.cpu().numpy() for name, values in layers.items()},
        torch.cat(maps),
    )


def diversities(model: nn.Module, test: PackedDataset) -> dict[str, np.ndarray]:
    """diversity and output_diversity of each layer (l,); nothing where layers have one head."""
    prefix, layers = encoder_of(model).num_prefix_tokens, attention_layers(model)
    if not layers:
        return {name: np.empty(0) for name in ("diversity", "output_diversity")}
    if layers[0].heads == 1:
        return {}
    images = test.images("lr", evenly_spaced(test, COMPARED))
    with recording([layer.proj for layer in layers], lambda heads, output: heads) as joined:
        among = (measures.among_patches(weights, prefix) for weights in attention_batches(model, images))
        diversity = torch.cat([measures.diversity(weights) for weights in among])
    outputs = rearrange(stacked(joined)[:, :, prefix:], "f l n (h e) -> 1 l h (f n) e", h=layers[0].heads)
    return {
        "diversity": diversity.double().mean(0).cpu().numpy(),
        "output_diversity": measures.output_diversity(outputs.float())[0].cpu().numpy(),
    }
