"""Classification scored beside simple baselines, and what its explanations are about.

Shapes: b images, s side of the input in pixels, k classes, j images with patches missing.
"""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.labels import indices
from vitpipe.data.packing import targets_of
from vitpipe.data.pixels import to_input
from vitpipe.metrics.classification import PROTOCOL, classification, rounded, sample_scores
from vitpipe.tasks.base import Effort, Outcome, Predict, Questions, Scores, Task
from vitpipe.tasks.classify import logistic, neighbours
from vitpipe.tasks.classify.training import Training

SHOWN = 10  # images in each band of the ranking


class Scoring(Training, Task):
    """Classification."""

    explanation_protocol: ClassVar[dict[str, str]] = {
        "importance": "drop of the accuracy, a share, when that head alone outputs zeros (Michel et al. 2019), on up "
        "to 512 test images",
        "importance_loss": "rise of the mean cross-entropy in nats on the same",
        "drop": "drop of the accuracy, a share, when all attention is replaced, on the images of importance",
        "drop_loss": "rise of the mean cross-entropy in nats on the same",
        "content_importance": "drop of the accuracy when that head alone looks by place: its queries are zero",
        "content_importance_loss": "rise of the mean cross-entropy in nats at that",
        "score": "probability of the class that is predicted for the whole image",
        "gradient_score": "ln(p / (1 - p)) of the predicted class",
    }
    effort = Effort(curve_images=96, curve_points=16, randomised_images=24, head_images=512, local=False)

    @property
    def protocol(self) -> dict[str, str]:  # type: ignore[override]
        frozen = {"knn": neighbours.PROTOCOL, "probe": logistic.PROBE_PROTOCOL} if self.pretrained else {}
        majority = "baseline: the shares of the classes among the training images, whatever the image"
        own = PROTOCOL | {"majority": majority, "logistic": logistic.PROTOCOL} | frozen
        return own | {"gain": f"model minus {self.reference}"}

    @property
    def pretrained(self) -> bool:
        """Whether there are features of a pretrained encoder, so that baselines tell what fine-tuning it adds."""
        return self.settings.model.weights is not None

    @property
    def reference(self) -> str:  # type: ignore[override]
        return self.rivals[-1]

    @property
    def rivals(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("majority", "logistic", *(("knn", "probe") if self.pretrained else ()))

    @property
    def compared_classes(self) -> tuple[str, ...] | None:  # type: ignore[override]
        return self.settings.task.show

    @torch.inference_mode()
    def predict(self, model: nn.Module, images: np.ndarray) -> np.ndarray:
        """Class probabilities (b, k), float32."""
        model.eval()
        logits: Tensor = model(to_input(images, next(model.parameters()).device)).float()
        probabilities: np.ndarray = logits.softmax(-1).cpu().numpy()
        return probabilities

    def baselines(self, train: PackedDataset, val: PackedDataset) -> dict[str, Predict]:
        """The majority class and logistic regression on pixels; with pretrained weights also k nearest neighbours and
        logistic regression on frozen features."""
        shares = np.bincount(train.labels, minlength=len(self.classes)) / len(train)
        found: dict[str, Predict] = {
            "majority": lambda images: np.tile(shares, (len(images), 1)),
            "logistic": logistic.fit(train, val, grey=self.settings.model.in_chans == 1),
        }
        if self.pretrained:
            found |= {"knn": neighbours.fit(train, val), "probe": logistic.probe(train, val)}
        return found

    def truth(self, dataset: PackedDataset, rows: np.ndarray) -> np.ndarray:
        """Class indices (b,)."""
        labels: np.ndarray = dataset.labels[rows]
        return labels

    def score(self, predictions: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        return {"actual": truth, **sample_scores(truth, predictions), "probabilities": predictions}

    def scores(self, predict: Predict, dataset: PackedDataset, rows: np.ndarray | None = None) -> Scores:
        """Scores of single images; where people are known, also who is in each image."""
        found = super().scores(predict, dataset, rows)
        if dataset.persons is None:
            return found
        return {**found, "person": dataset.persons if rows is None else dataset.persons[rows]}

    def summary(self, scores: Scores) -> dict[str, Any]:
        return classification(scores["actual"], scores["probabilities"], self.classes, scores.get("person"))

    def table(self, scores: Scores) -> dict[str, np.ndarray]:
        names = np.array(self.classes)
        columns = {name: values for name, values in scores.items() if name not in ("probabilities", "person")}
        return columns | {name: names[scores[name]] for name in ("actual", "predicted")}

    def gain(self, own: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
        """Differences of accuracy, balanced accuracy and macro F1."""
        names = ("accuracy", "balanced_accuracy", "macro_f1")
        return {name: rounded(own[name] - reference[name]) for name in names}

    def head_scores(self, scores: Scores) -> Scores:
        right = scores["predicted"] == scores["actual"]
        return {"importance": right.astype(np.float64), "importance_loss": -scores["loss"]}

    def examples(
        self, model: nn.Module, dataset: PackedDataset, table: pd.DataFrame, curve: pd.DataFrame
    ) -> dict[str, dict[str, Any]]:
        """Arrays of the figures curve, confusion, ranking (highest, lowest and random losses) and patches."""
        net: Any = model
        order = np.argsort(-table["loss"].to_numpy(), kind="stable")
        count = min(SHOWN, len(table))
        random = np.sort(np.random.default_rng(0).permutation(len(table))[:count])
        ranking: dict[str, Any] = {}
        for band, rows in {"worst": order[:count], "best": order[::-1][:count], "random": random}.items():
            arrays = {"images": dataset.images("hr", rows), "ids": table.index[rows].to_numpy(dtype=str)}
            arrays |= {key: table[key].to_numpy(dtype=str)[rows] for key in ("predicted", "actual")}
            arrays |= {key: table[key].to_numpy()[rows] for key in ("probability", "loss")}
            ranking |= {f"{band}_{name}": values for name, values in arrays.items()}
        matrix = pd.crosstab(table["actual"], table["predicted"])
        matrix = matrix.reindex(index=self.classes, columns=self.classes, fill_value=0)
        patches = {
            "image": dataset.images("lr", random[:1])[0],
            "patch": np.array(net.encoder.pixels),
            "id": np.array(str(table.index[random[0]])),
            "prefix_tokens": np.array(net.encoder.num_prefix_tokens),
        }
        columns = {str(name): values.to_numpy() for name, values in curve.items()}
        return {
            "curve": columns | {"score": np.array("accuracy"), "training": np.array(self.training_label())},
            "confusion": {"matrix": matrix.to_numpy(), "classes": np.array(self.classes)},
            "ranking": ranking,
            "patches": patches,
        }

    def training_label(self) -> str:
        """What the curve of the training images is of, as its loss is not that of the validation images."""
        train = self.settings.train
        changes = {
            "augmented": train.flip or train.crop or train.randaugment or train.mix != "none",
            "smoothed labels": train.label_smoothing,
        }
        told = ", ".join(name for name, there in changes.items() if there)
        return f"training ({told})" if told else "training"

    def questions(self, model: nn.Module, images: Tensor, samples: pd.DataFrame | None = None) -> Questions:
        """The class that the model predicts for each image."""
        with torch.inference_mode():
            model.eval()
            predicted = torch.cat([model(image[None]).argmax(1) for image in images])
        labels = predicted.clone()  # a tensor that gradients may use
        shown = {"predicted": np.array(self.classes)[labels.cpu().numpy()]}
        if samples is not None:
            shown["actual"] = np.array(self.classes)[indices(samples, self.settings.task.target, self.classes)]
        return Questions(
            output_score=lambda logits: log_odds(logits, labels),
            kept=lambda logits, of, whole, blank: logits.softmax(1).gather(1, labels[of, None])[:, 0],
            methods=("raw", "rollout", "relevance", "gradient", "gradient_input", "smooth", "integrated"),
            shown=shown,
        )

    def outcome(self, model: nn.Module, dataset: PackedDataset, rows: np.ndarray) -> Outcome:
        """Images as the model sees them, their classes and what the model says."""
        images = dataset.images("lr", rows)
        return Outcome(
            pictures={"input": images},
            classes=self.classes,
            probabilities=self.predict(model, images),
            actual=[self.classes[label] for label in dataset.labels[rows]],
        )

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Resized as the downsample stage does it."""
        made = targets_of(image, self.settings.data)
        return made.get("lr", made["hr"])

    def present(self, prediction: np.ndarray) -> list[dict[str, Any]]:
        """Label and score of every class, the most probable first."""
        order = np.argsort(-prediction, kind="stable")
        return [{"label": self.classes[i], "score": float(prediction[i])} for i in order]


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """ln(p / (1 - p)) of the given classes (b,), from logits (b, k).

    Its gradient is that of the cross-entropy over -(1 - p), so a map has the same shape and does not vanish where
    the model is sure.
    """
    chosen = F.one_hot(labels, logits.shape[1]).bool()
    return logits[chosen] - logits.masked_fill(chosen, -torch.inf).logsumexp(1)
