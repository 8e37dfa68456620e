"""The numbers of reports/attention.json: what every head does, and how sure one can be of it.

Legend of the shapes: f images, l layers, h heads, n tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.config import Settings
from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.explain import explanations, focus
from vitpipe.explain.capture import encoder_of, watch
from vitpipe.explain.importance import head_importance, record_norms, record_outputs
from vitpipe.metrics import attention as measures
from vitpipe.metrics.regions import REGIONS
from vitpipe.progress import progress

MEASURED = 128  # test images in the measures
COMPARED = 16  # of them in the diversities, which compare all pairs of heads
CHOSEN_ON = 64  # validation images that choose the heads of each region
MOVED = 32  # test images that the shift control moves

PROTOCOL = {
    "average": f"mean over all queries of up to {MEASURED} test images at even distances, per layer and head; above "
    "that the mean of all heads",
    "class_token": "left out where there is one: attention among the patches, rows summing to one again",
    "untrained": "the same means of the model with the weights that training began with",
    "self_weight": "attention that a token gives itself, 0 to 1",
    "entropy": "entropy of a query's attention, itself included, over ln of the number of tokens, 0 to 1",
    "distance": "mean distance between the centres of query and key, in pixels of the LR input",
    "distance_uniform": "the same for attention that sees all tokens equally",
    "diversity": "Jensen-Shannon divergence of two heads' attention over ln 2, mean over pairs of heads, queries and "
    f"up to {COMPARED} test images: 0 alike, 1 nothing in common; left out where layers have one head",
    "output_diversity": "1 - linear CKA of two heads' outputs over the patches of these images together (Kornblith et "
    "al. 2019), mean over pairs of heads: 0 alike, 1 unrelated; left out where layers have one head",
    "outliers": "share of patches whose norm after a block is above median + 6 robust standard deviations and twice "
    "the median of the layer (after Darcet et al. 2023)",
    "norm_ratio": "largest norm of a patch after a block over the layer's median",
}
FOCUS = {
    "map": "where a head looks in an image: the class token's attention to the patches where there is one, else the "
    "non-self attention that patches receive, mean over queries; summing to one",
    "regions": "ellipses about both eyes, nose and mouth, scaled with the inter-eye and the eye-to-mouth distance; "
    "background: outside the ellipse of the face, hair included for the most part; cheeks, forehead and chin are "
    "in none",
    "focus": f"of each region the head with the highest mean lift on up to {CHOSEN_ON} validation images, scored on "
    f"the test images; layer and head count from 1; ends of 95 % bootstrap intervals over {focus.RESAMPLES} draws of "
    "the images",
    "mass": "share of the map in the region",
    "lift": "mass over the region's share of the image's area, mean over images; 1 is what uniform attention has",
    "pointing": "covered share of the patch with the map's maximum (pointing game, Zhang et al. 2016); chance is "
    "about mass over lift",
    "content_lift": f"shift control: up to {MOVED} images are moved left, right, up and down by whole patches (half "
    "the inter-eye distance or a little more), edges replicated; lift of the moved image's map on the moved region "
    "over that of the unmoved image's map there: 1 for a head that looks at places, above 1 if it follows the "
    f"content; at most {focus.CONTENT_CAP:g}",
    "lift_untrained": "lift (and under such names mass, pointing and content_lift) of the untrained model's head, "
    "chosen and scored the same way",
    "survives": "1 if the lower ends of lift and content_lift are both above 1 and above the untrained model's, else 0",
}

BESIDE = ("mass", "lift", "pointing", "content_lift")  # of a region, told of the untrained model too
LANDMARKS = {
    "annotated": "annotated: those of each image",
    "mean": "mean: for some images or all, the mean ones of aligned faces",
}


@dataclass
class Seen:
    """What one look at the test images gave: measures of heads (l, h) and of layers (l,), and maps (f, l, h, n)."""

    heads: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]
    maps: Tensor


def measure(
    model: nn.Module,
    untrained: nn.Module,
    task: str,
    val: PackedDataset,
    test: PackedDataset,
    settings: Settings,
    device: torch.device,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The content of reports/attention.json, and how far each head looks; both models are left as they were.

    Args:
        model: trained, of the task.
        untrained: the same with the weights that training began with.
        task: supersample or classify.

    Returns:
        Numbers by the names of `PROTOCOL`, the task's `IMPORTANCE` and `FOCUS`, which say what they are, rounded to six
        digits, never NaN: means over heads, or over layers for what only layers have; `untrained`, the same of the
        untrained model; `focus`, where images have landmarks, by region; images; protocol and layers, as lists,
        which DVC leaves out of its tables. Heads of all layers have the same keys. And what
        `vitpipe.figures.distances` draws: trained and untrained (l, h), mean attention distance, and uniform.

    Raises:
        InputError: the model has no attention.
    """
    rows = evenly_spaced(test, MEASURED)
    trained, fresh = (look(net, task, test, rows, device) for net in (model, untrained))
    plain, beside, protocol = means(trained), means(fresh), PROTOCOL | explanations(task).IMPORTANCE
    focused: dict[str, dict[str, float]] = {}
    chosen_on, shown = focus.faces(val, evenly_spaced(val, CHOSEN_ON)), focus.faces(test, rows)
    if chosen_on and shown:
        own = focus.head_lifts(trained.maps[shown.rows], shown.shares(encoder_of(model).grid))
        focused = regional((model, trained), (untrained, fresh), chosen_on, shown, settings.seed, device)
        trained.heads |= {f"lift_{name}": own[..., REGIONS.index(name)] for name in focused}
        protocol = protocol | FOCUS | {"landmarks": LANDMARKS[shown.note]}
    else:
        protocol = protocol | {"focus": f"not measured: fewer than {focus.LEAST} images have landmarks"}
    encoder = encoder_of(model)
    uniform = rounded(measures.uniform_distance(encoder.grid**2, encoder.patch, encoder.grid))
    content = {
        **plain,
        "distance_uniform": uniform,
        "untrained": beside,
        **({"focus": focused} if focused else {}),
        "images": len(rows),
        "protocol": [protocol],
        "layers": by_layer(trained),
    }
    reach = {"trained": trained.heads["distance"], "untrained": fresh.heads["distance"], "uniform": np.array(uniform)}
    return content, reach


def look(model: nn.Module, task: str, test: PackedDataset, rows: np.ndarray, device: torch.device) -> Seen:
    """Every measure of one model on the test images `rows`, and its maps."""
    encoder = encoder_of(model)
    token = encoder.token is not None
    sums: dict[str, np.ndarray] = {}
    maps: list[Tensor] = []
    with record_norms(model) as norms, progress(len(rows), "attention", "image") as bar:
        for weights in watch(model, test.images("lr", rows), device, focus.WEIGHTS_AT_ONCE):
            maps.append(focus.head_maps(weights, token).cpu())
            among = measures.among_patches(weights) if token else weights
            for name, values in {
                "self_weight": measures.self_weight(among),
                "entropy": measures.entropy(among),
                "distance": measures.distance(among, encoder.patch, encoder.grid),
            }.items():
                sums[name] = sums.get(name, 0) + values.double().mean(-1).sum(0).cpu().numpy()  # l h
            bar.update(len(weights))
    lengths = norms.values[..., int(token) :]  # f l n
    layers = {"outliers": measures.outliers(lengths), "norm_ratio": measures.norm_ratio(lengths)}
    heads = {name: total / len(rows) for name, total in sums.items()}
    scored = evenly_spaced(test, explanations(task).SCORED)
    return Seen(
        heads | head_importance(model, task, test, scored, device),
        diversities(model, test, device) | {name: values.cpu().numpy() for name, values in layers.items()},
        torch.cat(maps),
    )


def diversities(model: nn.Module, test: PackedDataset, device: torch.device) -> dict[str, np.ndarray]:
    """diversity and output_diversity of each layer (l,); nothing where layers have one head."""
    encoder = encoder_of(model)
    if encoder.blocks[0].attention.heads == 1:
        return {}
    token, images = encoder.token is not None, test.images("lr", evenly_spaced(test, COMPARED))
    with record_outputs(model) as outputs:
        parts = [
            measures.diversity(measures.among_patches(weights) if token else weights)
            for weights in watch(model, images, device, focus.WEIGHTS_AT_ONCE)
        ]
    patches = outputs.values[..., int(token) :, :]  # f l h n e
    together = patches.permute(1, 2, 0, 3, 4).flatten(2, 3)[None].float()  # 1 l h f*n e
    return {
        "diversity": torch.cat(parts).double().mean(0).cpu().numpy(),
        "output_diversity": measures.output_diversity(together)[0].cpu().numpy(),
    }


def regional(
    trained: tuple[nn.Module, Seen],
    fresh: tuple[nn.Module, Seen],
    chosen_on: focus.Faces,
    shown: focus.Faces,
    seed: int,
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """The focus of attention.json: of each region that images show, its head's numbers by the names of `FOCUS`."""
    model, grid = trained[0], encoder_of(trained[0]).grid
    before, after = chosen_on.shares(grid), shown.shares(grid)
    names = focus.visible(before, after)
    heads, others = (
        focus.best_heads(focus.head_lifts(focus.maps_of(net, chosen_on.images, device), before), names)
        for net in (model, fresh[0])
    )
    moved = shown.some(MOVED)
    control = focus.shift_control(model, moved, heads, device, seed)
    rival_control = focus.shift_control(fresh[0], moved, others, device, seed)
    found: dict[str, dict[str, float]] = {}
    for name, (layer, head) in heads.items():
        own = focus.scores(trained[1].maps[shown.rows], after, name, (layer, head), seed) | control.get(name, {})
        rival = focus.scores(fresh[1].maps[shown.rows], after, name, others[name], seed) | rival_control.get(name, {})
        beside = {f"{key}_untrained": rounded(rival[key]) for key in BESIDE if key in rival}
        numbers = {key: rounded(value) for key, value in own.items()} | beside
        found[name] = {"layer": layer + 1, "head": head + 1, **numbers, "survives": int(survives(numbers))}
    return found


def survives(numbers: Mapping[str, float]) -> bool:
    """Whether a focus is one on content: both lifts' intervals lie above 1 and above the untrained model's lifts."""
    keys = ("lift", "content_lift")
    return all(numbers.get(f"{key}_low", 0) > max(1, numbers.get(f"{key}_untrained", 1)) for key in keys)


def means(seen: Seen) -> dict[str, float]:
    """The mean of each measure over heads, or over layers for what only layers have."""
    return {name: rounded(values.mean()) for name, values in (seen.heads | seen.layers).items()}


def by_layer(seen: Seen) -> list[dict]:
    """The content of `layers`: numbers of each layer, and of each of its heads."""
    depth, heads = seen.heads["entropy"].shape

    def at(values: dict[str, np.ndarray], *place: int) -> dict[str, float]:
        return {name: rounded(array[place]) for name, array in values.items()}

    return [
        {**at(seen.layers, layer), "heads": [at(seen.heads, layer, head) for head in range(heads)]}
        for layer in range(depth)
    ]


def rounded(value: float) -> float:
    """Six digits after the point: the last bits, in which machines differ, stay out of the JSON."""
    return round(float(value), 6) + 0.0  # turns -0.0 into 0.0
