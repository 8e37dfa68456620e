"""Super-resolution scored beside interpolation, and what its explanations are about.

Shapes: b images, s side of the input in pixels, k scale, j images with patches missing.
"""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from vitpipe.data.batches import evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_images, to_input
from vitpipe.errors import InputError
from vitpipe.metrics.image_quality import PROTOCOL, image_quality
from vitpipe.models.supersampler import upsample
from vitpipe.tasks.base import Effort, Outcome, Predict, Questions, Scores, Task
from vitpipe.tasks.supersample.training import Training
from vitpipe.tasks.supersample.windows import query_patches, window_questions

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
SHOWN = 8  # images in the gallery


class Scoring(Training, Task):
    """Super-resolution."""

    protocol: ClassVar[dict[str, str]] = PROTOCOL | {
        "self_ensemble": "the mean of the model's prediction and that for the mirrored image, mirrored back, before "
        "rounding (Lim et al. 2017, arXiv:1707.02921, with two of the eight transformations); all other scores and "
        "pictures of the model are of a single pass"
    }
    explanation_protocol: ClassVar[dict[str, str]] = {
        "importance": "drop of the mean PSNR in dB (RGB, uint8) when that head alone outputs zeros (Michel et al. "
        "2019), on up to 16 test images",
        "drop": "drop of the mean PSNR in dB when all attention is replaced, on the images of importance",
        "content_importance": "drop of the same when that head alone looks by place: its queries are zero",
        "score": "1 - RMS change of the window's output / its RMS change with all patches deleted, at least "
        "0; the window is the patch at an eye, the centre without landmarks, and its own patch is never deleted",
        "gradient_score": "sum of gradient lengths of the output within the window",
    }
    reference = "bicubic"
    rivals = ("bicubic",)
    effort = Effort(curve_images=8, curve_points=7, randomised_images=3, head_images=16, local=True)

    def predict(self, model: nn.Module, images: np.ndarray) -> np.ndarray:
        """HR images (b, k*s, k*s, 3) uint8."""
        return to_images(forward(model, images))

    def variants(self, model: nn.Module) -> dict[str, Predict]:
        def self_ensemble(images: np.ndarray) -> np.ndarray:
            mirrored = forward(model, images[:, :, ::-1].copy()).flip(-1)
            return to_images((forward(model, images) + mirrored) / 2)

        return {"self_ensemble": self_ensemble}

    def baselines(self, train: PackedDataset, val: PackedDataset) -> dict[str, Predict]:
        """Interpolations, which learn nothing."""
        return {name: self.interpolation(name) for name in INTERPOLATIONS}

    def untrained_baselines(self) -> dict[str, Predict]:
        return {"bicubic": self.interpolation("bicubic")}

    def interpolation(self, method: str) -> Predict:
        scale = self.settings.data.scale
        return lambda images: interpolate(images, scale, method)

    def truth(self, dataset: PackedDataset, rows: np.ndarray) -> np.ndarray:
        """HR images (b, k*s, k*s, 3) uint8."""
        return dataset.images("hr", rows)

    def score(self, predictions: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        return image_quality(predictions, truth, self.settings.data.scale)

    def summary(self, scores: Scores) -> dict[str, Any]:
        """Means over the images, to six significant digits."""
        return {name: float(f"{values.mean():.6g}") for name, values in scores.items()}

    def table(self, scores: Scores) -> dict[str, np.ndarray]:
        return dict(scores)

    def gain(self, own: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
        """How far the PSNR is above the reference's, in dB, and the ratio of the mean squared errors."""
        return {
            "psnr": round(own["psnr"] - reference["psnr"], 6),
            "mse_ratio": round(own["mse"] / reference["mse"], 6),
        }

    def head_scores(self, scores: Scores) -> Scores:
        return {"importance": scores["psnr"]}

    def examples(
        self, model: nn.Module, dataset: PackedDataset, table: pd.DataFrame, curve: pd.DataFrame
    ) -> dict[str, dict[str, Any]]:
        """Arrays of the figures curve and gallery.

        The gallery takes evenly spaced images of the test part, which no score chose; best and worst are the largest
        and smallest gain in PSNR over bicubic.
        """
        gains = (table["psnr"] - table["bicubic_psnr"]).to_numpy()
        count = min(SHOWN, len(table))
        few = max(1, count // 2)
        bands = {
            "gallery": evenly_spaced(table, count),
            "best": np.argsort(-gains, kind="stable")[:few],
            "worst": np.argsort(gains, kind="stable")[:few],
        }
        gallery: dict[str, Any] = {}
        for band, rows in bands.items():
            lr = dataset.images("lr", rows)
            arrays = {
                "ids": table.index[rows].to_numpy(dtype=str),
                "lr": lr,
                "bicubic": self.interpolation("bicubic")(lr),
                "model": self.predict(model, lr),
                "hr": dataset.images("hr", rows),
                "psnr_bicubic": table["bicubic_psnr"].to_numpy()[rows],
                "psnr_model": table["psnr"].to_numpy()[rows],
            }
            gallery |= {f"{band}_{name}": values for name, values in arrays.items()}
        columns = {str(name): values.to_numpy() for name, values in curve.items()}
        return {"curve": columns | {"score": np.array("psnr"), "reference": np.array("bicubic")}, "gallery": gallery}

    def questions(self, model: nn.Module, images: Tensor, samples: pd.DataFrame | None = None) -> Questions:
        """One window of the output for each image: the place of the patch at an eye, or in the centre."""
        net: Any = model
        patch: int = net.encoder.patch
        where = query_patches(images, patch, self.settings, samples)
        return window_questions(images, where, patch, self.settings.data.scale)

    def outcome(self, model: nn.Module, dataset: PackedDataset, rows: np.ndarray) -> Outcome:
        """Input, bicubic, prediction and original, scored as evaluation scores them."""
        lr, hr = dataset.images("lr", rows), dataset.images("hr", rows)
        enlarged = {"bicubic": self.interpolation("bicubic")(lr), "model": self.predict(model, lr)}
        readings = {name: self.score(images, hr)["psnr"] for name, images in enlarged.items()}
        return Outcome(
            pictures={"input": lr, **enlarged, "original": hr},
            readings={name: [f"{value:.2f} dB" for value in values] for name, values in readings.items()},
        )

    def prepare(self, image: Image.Image) -> np.ndarray:
        side = self.settings.data.input_size
        if image.size != (side, side):
            raise InputError(
                f"the image has {image.width}x{image.height} pixels, but this super-sampler takes {side}x{side}: "
                "resize or crop it"
            )
        return np.asarray(image)

    def present(self, prediction: np.ndarray) -> Image.Image:
        return Image.fromarray(prediction)


@torch.inference_mode()
def forward(model: nn.Module, images: np.ndarray) -> Tensor:
    """The output of the model in evaluation mode for images (b, s, s, 3) uint8: float32, not clipped."""
    model.eval()
    output: Tensor = model(to_input(images, next(model.parameters()).device)).float()
    return output


def interpolate(lr: np.ndarray, scale: int, method: str) -> np.ndarray:
    """LR images (b, s, s, 3) enlarged by the named interpolation, both uint8."""
    if method == "lanczos":
        size = (lr.shape[2] * scale, lr.shape[1] * scale)
        return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)) for image in lr])
    return to_images(upsample(to_input(lr, torch.device("cpu")), scale, method))
