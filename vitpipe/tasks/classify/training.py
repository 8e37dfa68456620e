"""What training a classifier needs: the model, its inputs, its loss.

Shapes: b images, s side of the input in pixels, k classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.config import ClassifySettings
from vitpipe.data.augment import augment, mix
from vitpipe.data.batches import Batch
from vitpipe.data.pixels import normalize
from vitpipe.models.classifier import Classifier
from vitpipe.training.task import TrainingTask


class Training(TrainingTask):
    """Classification: from an LR image to one of a few classes."""

    settings: ClassifySettings
    best = "val_accuracy"

    def build(self) -> Classifier:
        return Classifier(
            self.settings.model,
            size=self.settings.data.input_size,
            classes=len(self.classes),
            encoder=self.encoder,
            **self.regular(),
        )

    @property
    def frozen(self) -> bool:
        return self.settings.train.freeze == "encoder"

    def inputs(self, batch: Batch) -> Tensor:
        """Images (b, 3, s, s) on [-1, 1]; if `frozen`, what the encoder made of them (b, d)."""
        return batch.features if self.frozen else super().inputs(batch)

    def targets(self, batch: Batch) -> Tensor:
        """Class indices (b,), int64."""
        return batch.labels

    def augmented(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images on [-1, 1] and their labels: class indices (b,), or of mixed images the classes' shares (b, k).

        If `frozen`, what `inputs` returns, and class indices.
        """
        train = self.settings.train
        if self.frozen:
            return batch.local.features, batch.local.labels
        if not (train.crop or train.randaugment or train.mix != "none"):
            batch = batch.local  # nothing is drawn at random, so the other images of the batch do not matter
        images = normalize(augment(batch.lr, crop=train.crop, randaugment=train.randaugment))
        images, targets = mix(images, batch.labels, len(self.classes), train.mix)
        return images[batch.part], targets[batch.part]

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy with label smoothing, and the accuracy; a mixed image counts as its larger class."""
        logits = model(inputs).float()
        with torch.no_grad():
            actual = targets if targets.ndim == 1 else targets.argmax(1)
            means = {"accuracy": (logits.argmax(1) == actual).float().mean()}
        return F.cross_entropy(logits, targets, label_smoothing=self.settings.train.label_smoothing), means

    def validation_scores(self, output: Tensor, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {
            "loss": F.cross_entropy(output, targets, reduction="none"),
            "accuracy": (output.argmax(1) == targets).float(),
        }
