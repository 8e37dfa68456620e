"""Which parts of a face the heads look at, and whether they would find them elsewhere.

Shapes: f faces, l layers, h heads, r regions, t tokens, n patches, s side of the input in pixels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor, nn

from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.explain.encoders import attention_batches, encoder_of, query_row, reads_class_token
from vitpipe.explain.place import place_weights
from vitpipe.metrics.attention import among_patches, received
from vitpipe.metrics.faithfulness import RESAMPLES, interval
from vitpipe.metrics.regions import CAP, REGIONS, TINY, lift, lift_over, mass, pointing, regions
from vitpipe.sources import LANDMARKS

LEAST = 8  # faces that an interval needs: of fewer, bootstrap intervals are too narrow
MOVED = 32  # faces that the shift control moves, at most
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
OF_BOTH = ("mass", "lift", "lift_content", "pointing", "content_lift")  # numbers of the trained and the untrained model


@dataclass(frozen=True)
class Faces:
    """Images with landmarks.

    Args:
        rows: (f,), indices into the rows that `faces` was given.
        images: (f, s, s, 3) uint8 as the model sees them.
        landmarks: (f, 5, 2) as (x, y) in pixels of HR images.
        size: side of HR images in pixels.
        note: annotated, or mean where any landmarks are the mean of other images'.
    """

    rows: np.ndarray
    images: np.ndarray
    landmarks: np.ndarray
    size: int
    note: str

    def shares(self, columns: int) -> Tensor:
        """(f, r, n), see `vitpipe.metrics.regions.regions`."""
        return regions(self.landmarks, self.size, columns)

    def some(self, count: int) -> "Faces":
        """At most `count` faces, evenly spaced."""
        kept = evenly_spaced(self.rows, count)
        return replace(self, rows=self.rows[kept], images=self.images[kept], landmarks=self.landmarks[kept])


def faces(dataset: PackedDataset, rows: np.ndarray) -> Faces | None:
    """The images in `rows` whose landmarks make regions (eyes and mouth in a line, as in a profile, make none); None
    where these are fewer than `LEAST`."""
    samples = dataset.samples.iloc[rows]
    if not set(LANDMARKS) <= set(samples):
        return None
    size = dataset.images("hr", rows[:1]).shape[1]
    landmarks = samples[list(LANDMARKS)].to_numpy(dtype=np.float64).reshape(len(rows), -1, 2)
    there = np.flatnonzero(regions(landmarks, size, 1).isfinite().all(-1).all(-1).numpy())
    if len(there) < LEAST:
        return None
    kinds = samples["landmarks"].iloc[there] if "landmarks" in samples else []
    note = "annotated" if all(kind == "annotated" for kind in kinds) else "mean"
    return Faces(there, dataset.images("lr", rows[there]), landmarks[there], size, note)


def head_maps(weights: Tensor, model: nn.Module) -> Tensor:
    """Where each head looks, (b, l, h, n) of weights (b, l, h, t, t), each map summing to one, or to zero where every
    patch sees only itself: the class token's attention to the patches where the head reads it, else the non-self
    attention that each patch receives, mean over queries."""
    if reads_class_token(model):
        maps = query_row(weights, model)
    else:
        maps = received(among_patches(weights, encoder_of(model).num_prefix_tokens))
    return maps / maps.sum(-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def maps_of(model: nn.Module, images: np.ndarray) -> Tensor:
    """`head_maps` of all images (f, s, s, 3) uint8: (f, l, h, n) on the CPU."""
    return torch.cat([head_maps(weights, model).cpu() for weights in attention_batches(model, images)])


def place_maps(model: nn.Module) -> Tensor:
    """`head_maps` of attention by place alone, which is the same in all images: (1, l, h, n) on the CPU."""
    return head_maps(place_weights(encoder_of(model))[None], model).cpu()


def compare_regions(
    model: nn.Module, untrained: nn.Module, val: Faces, test: Faces, test_maps: tuple[Tensor, Tensor], seed: int
) -> dict[str, dict[str, float]]:
    """The head whose content looks most at each region that enough images show, its numbers and the untrained model's.

    Args:
        val: faces that heads are chosen on.
        test: faces that heads are scored on.
        test_maps: `maps_of` the trained and the untrained model on `test`.

    Returns:
        By region layer and head, counted from 1, and the numbers of `vitpipe.explain.measure.REGIONS_PROTOCOL`.
    """
    columns = encoder_of(model).grid[1]
    before, after = val.shares(columns), test.shares(columns)
    names, moved = visible(before, after), test.some(MOVED)
    chosen, numbers = [], []
    for net, maps in zip((model, untrained), test_maps, strict=True):
        alone = place_maps(net)
        heads = best_heads(lift_over(maps_of(net, val.images).double(), alone.double(), before), names)
        control = shift_control(net, moved, heads, seed)
        chosen.append(heads)
        found = {name: scores(maps, alone, after, name, heads[name], seed) for name in names}
        numbers.append({name: found[name] | control.get(name, {}) for name in names})
    report: dict[str, dict[str, float]] = {}
    for name, (layer, head) in chosen[0].items():
        own, other = (of_model[name] for of_model in numbers)
        own |= {f"{key}_untrained": other[key] for key in OF_BOTH if key in other}
        told = {key: rounded(value) for key, value in own.items()}
        report[name] = {"layer": layer + 1, "head": head + 1, **told, "survives": int(survives(told))}
    return report


def rounded(value: float) -> float:
    """Six digits after the point: the last bits differ between machines and stay out of the JSON."""
    return round(float(value), 6) + 0.0  # turns -0.0 into 0.0


def survives(numbers: Mapping[str, float]) -> bool:
    """Whether a head follows content: the intervals of all three lifts lie above 1 and above the untrained model's."""
    keys = ("lift", "lift_content", "content_lift")
    return all(numbers.get(f"{key}_low", 0) > max(1, numbers.get(f"{key}_untrained", 1)) for key in keys)


def head_lifts(maps: Tensor, shares: Tensor) -> np.ndarray:
    """Mean lift of each head on each region over the faces, (l, h, r); NaN for a region that lies in no image."""
    return lift(maps.double(), shares).nanmean(0).numpy()


def visible(*parts: Tensor) -> list[str]:
    """The regions that lie in at least `LEAST` images of each part, given its shares (f, r, n)."""
    enough = torch.stack([((shares.sum(-1) > 0).sum(0) >= LEAST) for shares in parts]).all(0)
    return [name for name, there in zip(REGIONS, enough.tolist(), strict=True) if there]


def best_heads(lifts: Tensor, names: list[str]) -> dict[str, tuple[int, int]]:
    """The head (layer, head) with the highest mean over the faces of `lifts` (f, l, h, r) on each named region."""
    means = lifts.nanmean(0).numpy()
    return {name: divmod(int(means[..., REGIONS.index(name)].argmax()), means.shape[1]) for name in names}


def scores(
    maps: Tensor, alone: Tensor, shares: Tensor, region: str, head: tuple[int, int], seed: int
) -> dict[str, float]:
    """mass, pointing, lift and lift_content with their intervals, and lift_place, of one head on one region, means over
    the faces that show it. `alone`: `place_maps`."""
    index = REGIONS.index(region)
    there = shares[:, index].sum(-1) > 0
    own, placed = (x[:, head[0], head[1]][:, None, None].double() for x in (maps[there], alone))
    area = shares[there][:, index : index + 1]
    values = {"mass": mass(own, area), "pointing": pointing(own, area), "lift": lift(own, area)}
    values |= {"lift_place": lift(placed.expand_as(own), area), "lift_content": lift_over(own, placed, area)}
    found = {name: float(x.mean()) for name, x in values.items()}
    for name in ("lift", "lift_content"):
        found[f"{name}_low"], found[f"{name}_high"] = interval(values[name].flatten().numpy(), seed)[1:].tolist()
    return found


def shift_control(
    model: nn.Module, found: Faces, heads: dict[str, tuple[int, int]], seed: int
) -> dict[str, dict[str, float]]:
    """Whether the maps of heads follow the content when it moves.

    Each image is moved left, right, up and down by whole patches, see `move_length`, and its landmarks with it. Moves
    count that leave eyes, nose and mouth inside the image. `content_lift` is the lift of the moved image's map on the
    moved region over the lift that the unmoved image's map has there: exactly 1 for a head that looks at places,
    whatever they show, above 1 for one that follows the content; at most 100. It is the mean over a face's moves, then
    the ratio of the means over faces, which is robust to small denominators of single faces.

    Args:
        heads: (layer, head) of each region to look at.

    Returns:
        For each region content_lift, content_lift_low and content_lift_high, the ends of its 95 % bootstrap interval
        over the faces (percentile method, Efron & Tibshirani 1993, "An introduction to the bootstrap", chapter 13);
        nothing for a region that fewer than `LEAST` faces keep.
    """
    columns = encoder_of(model).grid[1]
    shares, still = found.shares(columns), maps_of(model, found.images)
    patches = move_length(found.landmarks, found.size / columns)
    moves = torch.zeros(len(found.rows), len(REGIONS))  # f r
    follows, stays = torch.zeros(2, *still.shape[:3], len(REGIONS), dtype=torch.float64)  # f l h r
    for dx, dy in DIRECTIONS:
        after = regions(found.landmarks + np.array([dx, dy]) * patches * (found.size // columns), found.size, columns)
        inside = (after.sum(-1) - shares.sum(-1)).abs()[:, :3].amax(1) < 1e-3  # eyes, nose, mouth
        step = patches * (found.images.shape[1] // columns)
        moved = maps_of(model, move(found.images, dx * step, dy * step))
        kept = inside[:, None] & (after.sum(-1) > 0)  # f r
        moves += kept
        for total, maps in ((follows, moved), (stays, still)):
            total += lift(maps, after).where(kept[:, None, None], 0)
    report = {}
    for name, (layer, head) in heads.items():
        region = REGIONS.index(name)
        there = moves[:, region] > 0
        if there.sum() < LEAST:
            continue
        pair = [(x[:, layer, head, region] / moves[:, region])[there].numpy() for x in (follows, stays)]
        drawn = bootstrap(pair, mean_ratio, n_resamples=RESAMPLES, paired=True, method="percentile", rng=seed)
        low, high = drawn.confidence_interval
        report[name] = {"content_lift": mean_ratio(*pair), "content_lift_low": low, "content_lift_high": high}
    return report


def move_length(landmarks: np.ndarray, side: float) -> int:
    """The fewest patches of `side` pixels that make half the mean distance of the eyes, at least one."""
    between = float(np.linalg.norm(landmarks[:, 1] - landmarks[:, 0], axis=-1).mean())
    return max(1, math.ceil(between / 2 / side))


def move(images: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """Images (f, s, s, 3) moved by dx pixels to the right and dy down; the edge is replicated."""
    rows, columns = (np.clip(np.arange(images.shape[1]) - by, 0, images.shape[1] - 1) for by in (dy, dx))
    return images[:, rows[:, None], columns]


def mean_ratio(above: np.ndarray, below: np.ndarray, axis: int = -1) -> np.ndarray:
    """mean(above) / mean(below), at most `CAP`; 1 where both are zero."""
    ratio: np.ndarray = np.minimum((above.mean(axis) + TINY) / (below.mean(axis) + TINY), CAP)
    return ratio
