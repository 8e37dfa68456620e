"""The interface of a task, as far as training needs it; `vitpipe.tasks.base` has the rest.

Shapes: b images, s side of the input.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from vitpipe.config import Settings
from vitpipe.data.batches import Batch
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import normalize


class TrainingTask(ABC):
    """What training needs of a task.

    Args:
        settings: the settings of the task.
        classes: the classes of the target; none where the target is an image.
        encoder: how the encoder of a weights file is built, see `vitpipe.models.vit.build_vit`; None where the settings
            say how.
    """

    best: ClassVar[str]
    """The column of the training curve whose highest value chooses the epoch."""

    settings: Settings

    def __init__(
        self, settings: Settings, classes: tuple[str, ...] = (), encoder: Mapping[str, Any] | None = None
    ) -> None:
        self.settings, self.classes, self.encoder = settings, classes, encoder

    @property
    def frozen(self) -> bool:
        """Whether only the model's head learns, from what the encoder made of the images before: `inputs` are that."""
        return False

    @classmethod
    def open(cls, folder: Path, settings: Settings) -> PackedDataset:
        """A part of the packed images as the models of the task see it: its images, classes, labels and annotation."""
        return PackedDataset(folder, settings.target)

    @abstractmethod
    def build(self) -> nn.Module:
        """The model with fresh weights from torch's generator; it takes images (b, 3, s, s) on [-1, 1].

        Explanations need its parts `encoder`, a `vitpipe.models.vit.ViT`, `stem`, what comes before the encoder, and
        `head`, its last layer, and the method `forward_features(images)`, which returns the encoder's output.
        """

    def regular(self) -> dict[str, Any]:
        """The settings of training that concern the encoder, as arguments of `vitpipe.models.vit.ViT`."""
        return {name: getattr(self.settings.train, name) for name in ("drop_path", "dropout", "grad_checkpointing")}

    @abstractmethod
    def targets(self, batch: Batch) -> Tensor:
        """What the model should make of `batch.lr`: one target for each image."""

    def inputs(self, batch: Batch) -> Tensor:
        """What the model, or its head if `frozen`, sees of the images of a batch, not augmented."""
        return normalize(batch.lr)

    @abstractmethod
    def augmented(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a training step, of the images `batch.local`.

        Random numbers come from torch's generator and must not depend on which part of the batch is local.
        """

    @abstractmethod
    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of what `augmented` returned, a mean over images, and means that the training curve shows.

        It reads no value on the CPU and, apart from the model, draws no random numbers, so that a CUDA graph can repeat
        it.
        """

    @abstractmethod
    def validation_scores(self, output: Tensor, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Columns of the training curve, each (b,): `loss`, the one that `best` names, and more.

        Args:
            output: float32, of the model, or its head if `frozen`, for `images`.
            images: what `inputs` returned.
            targets: what `targets` returned.
        """
