"""What a model makes of images without some of their patches.

Legend of the shapes: b images, s side of the input in pixels, g side of the grid, n = g * g patches, o orders,
t points of a curve, j images with patches missing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_input
from vitpipe.explain.capture import evaluating
from vitpipe.explain.local_attribution import blurred
from vitpipe.explain.methods import Maps
from vitpipe.metrics import faithfulness as measures
from vitpipe.progress import progress

BLUR = 8  # an image's side over the sigma of its heavy blur
PIXELS_AT_ONCE = 2**16  # of all images that go through the model together


@dataclass(frozen=True)
class Trial:
    """What is asked of a model for b images, and how its answer is scored; tensors lie on the model's device."""

    images: Tensor
    """(b, 3, s, s) on [-1, 1]."""
    deleted: Tensor
    """What patches become when they are deleted, (b, 3, s, s)."""
    fixed: np.ndarray
    """Patches that are never deleted (b, n), bool."""
    score: Callable[[Tensor, Tensor], Tensor]
    """Inputs (j, 3, s, s) and which of the b images each comes from (j,) to scores (j,) in [0, 1]."""
    maps: Callable[[nn.Module, int], Maps]
    """All methods' maps of a model, for the first so many images."""
    controls: dict[str, np.ndarray]
    """Orders that look at no model, as maps (b, g, g)."""
    shown: dict[str, np.ndarray]
    """What is explained in each image, for pictures."""

    @property
    def start(self) -> Tensor:
        """What patches are put back into, (b, 3, s, s)."""
        return heavily_blurred(self.images)


def curves(trial: Trial, places: np.ndarray, at: np.ndarray) -> dict[str, np.ndarray]:
    """Scores as patches are deleted, and as they are put back: deletion and insertion, (o, b, t) float64 each.

    Args:
        places: of each patch in each order (o, b, n), as `vitpipe.metrics.faithfulness.ranks` gives them.
        at: how many patches are deleted or put back, from 0 to all that can be (t,).
    """
    orders, count = places.shape[:2]
    found = {name: np.zeros((orders, count, len(at))) for name in ("deletion", "insertion")}
    start, size = trial.start, max(1, PIXELS_AT_ONCE // trial.images.shape[-1] ** 2)
    middle = np.array([[order, image, t] for order in range(orders) for image in range(count) for t in at[1:-1]])
    ends = np.array([[0, image, t] for image in range(count) for t in (at[0], at[-1])])  # the same in all orders
    jobs = np.concatenate([ends, middle.reshape(-1, 3)])
    with progress(2 * len(jobs), "deletion", "image") as bar:
        for name, scores in found.items():
            for first in range(0, len(jobs), size):
                order, image, t = jobs[first : first + size].T
                of = torch.from_numpy(image).to(trial.images.device)
                whole = trial.images[of]
                chosen = places[order, image] < t[:, None]
                if name == "deletion":
                    made = torch.where(on_pixels(chosen, whole), trial.deleted[of], whole)
                else:
                    made = torch.where(on_pixels(chosen | trial.fixed[image], whole), whole, start[of])
                values = trial.score(made, of).double().cpu().numpy()
                point = np.searchsorted(at, t)
                scores[order, image, point] = values
                alike = (t == at[0]) | (t == at[-1])
                scores[:, image[alike], point[alike]] = values[alike]
                bar.update(len(t))
    return found


def output(model: nn.Module, images: Tensor) -> Tensor:
    """The model's output in float32, without gradients."""
    with torch.no_grad(), evaluating(model), torch.autocast(images.device.type, enabled=False):
        return model(images)


def on_pixels(patches: np.ndarray, images: Tensor) -> Tensor:
    """Which pixels the chosen patches (j, n) cover in images (j, 3, s, s): (j, 1, s, s)."""
    grid = int(patches.shape[1] ** 0.5)
    chosen = torch.from_numpy(patches).to(images.device).unflatten(1, (1, grid, grid))
    patch = images.shape[-1] // grid
    return chosen.repeat_interleave(patch, 2).repeat_interleave(patch, 3)


def heavily_blurred(images: Tensor) -> Tensor:
    """Images under a Gaussian blur with a sigma of an eighth of their side."""
    return blurred(images, torch.full((1,), images.shape[-1] / BLUR, device=images.device))[0]


def rms(values: Tensor) -> Tensor:
    """Root of the mean square of each image (j, c, w, w): (j,)."""
    return values.square().mean((1, 2, 3)).sqrt()


def from_the_centre(grid: int, count: int) -> dict[str, np.ndarray]:
    """The maps centre and edge (b, g, g): highest in the middle of the image, and at its border."""
    centre = np.broadcast_to(measures.centre_first(grid), (count, grid, grid))
    return {"centre": centre, "edge": -centre}


def pixels(packed: PackedDataset, rows: np.ndarray, device: torch.device) -> Tensor:
    """What the model sees of some rows, (b, 3, s, s) on [-1, 1]."""
    return to_input(packed.images("lr", rows), device).contiguous()
