"""The interface of a task: what scoring and explaining need on top of what training needs.

Shapes: b images, s side of the input, n patches, k classes.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor, nn

from vitpipe.config import Settings
from vitpipe.data.batches import scoring_batches
from vitpipe.data.dataset import PackedDataset
from vitpipe.models.attention import Attention
from vitpipe.models.vit import ViT
from vitpipe.training.task import TrainingTask

PRODUCTS = 4.5e8
"""Multiplications in one pass of an encoder for which the whole effort is spent."""

HEADS = 20
"""Heads of an encoder that are zeroed on all of `Effort.head_images`."""

Predict = Callable[[np.ndarray], np.ndarray]
"""Images (b, s, s, 3) uint8, as models see them, to one prediction for each."""


@dataclass(frozen=True)
class OfFeatures:
    """A predictor that reads what the pretrained encoder makes of images, (b, d) float32, in place of the images."""

    predict: Predict

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return self.predict(features)


Scores = Mapping[str, np.ndarray]
"""Scores of single images by name, each with the images along the first axis."""


@dataclass(frozen=True)
class Questions:
    """The numbers that explanations of b images are about, and the tokens whose attention explains them."""

    output_score: Callable[[Tensor], Tensor]
    """The model's output for all b images to one number for each (b,): what gradients are of."""
    kept: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """`kept(output, of, whole, blank)`: how much of the answer is left when patches are missing, (j,) in [0, 1].

    output (j, ...) are outputs for images with patches missing, of (j,) the index of the image that each comes from;
    whole and blank (b, ...) are the outputs for all images as they are and with all patches deleted."""
    methods: tuple[str, ...]
    """The methods that apply, by the names of `vitpipe.explain.methods`."""
    tokens: Tensor | None = None
    """The query patch of each image (b,); None for the token that the head reads."""
    every_layer: bool = False
    """Whether raw attention is the mean over all layers, not that of the last one."""
    fill: Literal["mean", "blur"] = "mean"
    """What deleted patches become: the image's mean colour or its blur."""
    samples: int = 25
    """Noisy copies for SmoothGrad."""
    steps: int = 20
    """Steps of a path of gradients."""
    shown: dict[str, np.ndarray] = field(default_factory=dict)
    """What is asked about each image, for pictures."""


@dataclass(frozen=True)
class Outcome:
    """What a model makes of some images, for a reader."""

    pictures: dict[str, np.ndarray]
    """By name, (b, h, w, 3) uint8; the first is the input."""
    readings: dict[str, list[str]] = field(default_factory=dict)
    """By name, one value for each image, written with its unit."""
    classes: tuple[str, ...] = ()
    probabilities: np.ndarray | None = None
    """(b, k) float32, where there are classes."""
    actual: list[str] = field(default_factory=list)
    """The class of each image, where it is known."""


@dataclass(frozen=True)
class Effort:
    """How many images and points the explanations of a task's models take."""

    curve_images: int
    """Images that deletion and insertion are measured on."""
    curve_points: int
    """Points of such a curve, beside its start."""
    randomised_images: int
    """Of these images, those whose maps are made again with random weights."""
    head_images: int
    """Images that zeroing a head is scored on."""
    local: bool
    """Whether an answer depends on a few patches, so that a curve bends at its start."""

    def spent_on(self, encoder: ViT) -> "Effort":
        """The same for an encoder that may be large: fewer images, in proportion to the products of one pass.

        Heads are zeroed on still fewer images where there are many of them. At least four images remain, or as many as
        there were.
        """
        tokens = encoder.num_prefix_tokens + encoder.grid[0] * encoder.grid[1]
        products = len(encoder.blocks) * tokens * encoder.dim * (12 * encoder.dim + 2 * tokens)
        share = min(1.0, PRODUCTS / max(1, products))
        heads = sum(layer.heads for layer in encoder.modules() if isinstance(layer, Attention))
        shares = {
            "curve_images": share,
            "randomised_images": share,
            "head_images": share * min(1, HEADS / max(1, heads)),
        }
        counts = {name: (getattr(self, name), own) for name, own in shares.items()}
        return replace(self, **{name: max(min(4, most), round(most * own)) for name, (most, own) in counts.items()})


class Task(TrainingTask):
    """Everything that evaluation, explanations, the page and `vitpipe.load` need of a task."""

    protocol: ClassVar[dict[str, str]]
    """How each number of `summary` is measured, in words."""
    explanation_protocol: ClassVar[dict[str, str]]
    """What `Questions` and `head_scores` are about, in words."""
    reference: ClassVar[str]
    """The baseline that `gain` is over."""
    rivals: ClassVar[tuple[str, ...]]
    """The baselines that metrics.json repeats beside the model, the reference last."""
    effort: ClassVar[Effort]
    compared_classes: tuple[str, ...] | None = None
    """Classes whose attention is compared; None for the first ones."""

    @abstractmethod
    def predict(self, model: nn.Module, images: np.ndarray) -> np.ndarray:
        """Predictions for images (b, s, s, 3) uint8, in float32 on the model's device, in evaluation mode."""

    def untrained_baselines(self) -> dict[str, Predict]:
        """Baselines that learn nothing; metrics.csv scores them image by image."""
        return {}

    def variants(self, model: nn.Module) -> dict[str, Predict]:
        """Other ways to predict with the same model, by name; each is scored beside it."""
        return {}

    @abstractmethod
    def baselines(self, train: PackedDataset, val: PackedDataset) -> dict[str, Predict]:
        """Predictors that a model has to beat, by name."""

    @abstractmethod
    def truth(self, dataset: PackedDataset, rows: np.ndarray) -> np.ndarray:
        """What predictions for these rows are scored against."""

    @abstractmethod
    def score(self, predictions: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of single images."""

    def scores(self, predict: Predict, dataset: PackedDataset, rows: np.ndarray | None = None) -> Scores:
        """Scores of what `predict` makes of the images in these rows, or of all images of a part."""
        name, batches = "features" if isinstance(predict, OfFeatures) else "lr", scoring_batches(dataset, rows)
        parts = [self.score(predict(dataset.images(name, some)), self.truth(dataset, some)) for some in batches]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @abstractmethod
    def summary(self, scores: Scores) -> dict[str, Any]:
        """Scores of all images as metrics.json has them."""

    @abstractmethod
    def table(self, scores: Scores) -> dict[str, np.ndarray]:
        """The columns of metrics.csv, one value for each image."""

    @abstractmethod
    def gain(self, own: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
        """How much better a summary is than that of the reference."""

    @abstractmethod
    def head_scores(self, scores: Scores) -> Scores:
        """Scores of single images whose mean drop without a head is its importance, by the names `importance`, ...

        Higher is better. The last one decides which heads look by place, so it is no mere hit or miss.
        """

    @abstractmethod
    def examples(
        self, model: nn.Module, dataset: PackedDataset, table: pd.DataFrame, curve: pd.DataFrame
    ) -> dict[str, dict[str, Any]]:
        """The arrays of the result figures by the name of the figure, see `vitpipe.figures`.

        Args:
            table: metrics.csv, indexed by sample id.
            curve: the training curve.
        """

    @abstractmethod
    def questions(self, model: nn.Module, images: Tensor, samples: pd.DataFrame | None = None) -> Questions:
        """What explanations of these images are about.

        Args:
            images: (b, 3, s, s) on [-1, 1], on the model's device.
            samples: their annotation, one row for each image, where there is one.
        """

    @abstractmethod
    def outcome(self, model: nn.Module, dataset: PackedDataset, rows: np.ndarray) -> Outcome:
        """What the explorer shows of the images in these rows beside their attention."""

    @abstractmethod
    def prepare(self, image: Image.Image) -> np.ndarray:
        """An RGB image of any size as the model sees it, (s, s, 3) uint8.

        Raises:
            InputError: its size does not fit.
        """

    @abstractmethod
    def present(self, prediction: np.ndarray) -> Any:
        """One prediction as `vitpipe.load(...).predict` returns it."""


def scoring_task(settings: Settings, classes: tuple[str, ...] = (), encoder: Mapping[str, Any] | None = None) -> Task:
    """The task that the settings name: the class `Scoring` of its module `scoring`."""
    task: Task = import_module(f"vitpipe.tasks.{settings.task.name}.scoring").Scoring(settings, classes, encoder)
    return task
