"""What a model predicts for images without some of their patches.

Shapes: b images, s side of the input in pixels, g rows and columns of patches, n patches, o orders, t points of a
curve, j images with patches missing.
"""

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.explain.encoders import encoder_of, evaluating
from vitpipe.explain.gradients import blurred
from vitpipe.metrics.faithfulness import centre_first, nearest_first
from vitpipe.progress import progress
from vitpipe.tasks.base import Questions

BLUR = 8  # an image's width over the sigma of the Gaussian blur that patches are put back into
PIXELS_AT_ONCE = 2**14  # of all images that go through the model together; more is slower on a CPU


class Deletion:
    """Scores of a model for b images from which patches are deleted, or into which patches are put back.

    Args:
        model: left as it was.
        images: (b, 3, s, s) on [-1, 1], on the model's device.
        questions: about these images.
    """

    def __init__(self, model: nn.Module, images: Tensor, questions: Questions) -> None:
        self.model, self.images, self.questions = model, images, questions
        self.rows, self.columns = encoder_of(model).grid
        self.batch = max(1, PIXELS_AT_ONCE // images[0, 0].numel())
        self.blurred = blurred(images, torch.full((1,), images.shape[-1] / BLUR, device=images.device))[0]
        """What patches are put back into, (b, 3, s, s)."""
        mean = images.mean((2, 3), keepdim=True).expand_as(images)
        self.deleted = mean if questions.fill == "mean" else self.blurred
        """What deleted patches become, (b, 3, s, s)."""
        self.fixed = np.zeros((len(images), self.rows * self.columns), bool)
        """Patches that are never deleted (b, n): those that are asked about."""
        if questions.tokens is not None:
            self.fixed[np.arange(len(images)), questions.tokens.cpu().numpy()] = True
        blank = torch.where(self.on_pixels(self.fixed), images, self.deleted)
        self.whole, self.blank = self.output(images), self.output(blank)

    def output(self, images: Tensor) -> Tensor:
        """The model's output in float32, without gradients."""
        with torch.no_grad(), evaluating(self.model), torch.autocast(images.device.type, enabled=False):
            return torch.cat([self.model(some) for some in torch.split(images, self.batch)])

    def on_pixels(self, patches: np.ndarray) -> Tensor:
        """The pixels that the chosen patches (j, n) cover: (j, 1, s, s), bool."""
        chosen = torch.from_numpy(patches.reshape(-1, 1, self.rows, self.columns)).to(self.images.device)
        patch = self.images.shape[-1] // self.columns
        return chosen.repeat_interleave(patch, 2).repeat_interleave(patch, 3)

    def controls(self) -> dict[str, np.ndarray]:
        """Orders that depend on no model, as maps (b, g, g): from the centre, from the edge, from the patch that is
        asked about, where there is one."""
        grid = self.rows, self.columns
        centre = np.broadcast_to(centre_first(*grid), (len(self.images), *grid))
        found = {"centre": centre, "edge": -centre}
        if self.questions.tokens is not None:
            points = [divmod(token, self.columns) for token in self.questions.tokens.tolist()]
            found["near"] = np.stack([nearest_first(point, *grid) for point in points])
        return found

    def curves(self, places: np.ndarray, at: np.ndarray) -> dict[str, np.ndarray]:
        """Scores as patches are deleted, and as they are put back: deletion and insertion, (o, b, t) float64 each.

        Args:
            places: of each patch in each order (o, b, n), as `vitpipe.metrics.faithfulness.ranks` gives them.
            at: how many patches are deleted or put back, from 0 to all that can be (t,).
        """
        shape = (*places.shape[:2], len(at))
        found = {name: np.empty(shape) for name in ("deletion", "insertion")}
        every = np.arange(np.prod(shape))
        with progress(2 * len(every), "deletion", "image") as bar:
            for name, scores in found.items():
                for some in np.split(every, range(self.batch, len(every), self.batch)):
                    order, image, point = np.unravel_index(some, shape)
                    of = torch.from_numpy(image).to(self.images.device)
                    chosen = places[order, image] < at[point, None]
                    if name == "deletion":
                        made = torch.where(self.on_pixels(chosen), self.deleted[of], self.images[of])
                    else:
                        made = torch.where(
                            self.on_pixels(chosen | self.fixed[image]), self.images[of], self.blurred[of]
                        )
                    values = self.questions.kept(self.output(made), of, self.whole, self.blank)
                    scores.flat[some] = values.double().cpu().numpy()
                    bar.update(len(some))
        return found
