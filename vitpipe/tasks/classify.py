"""Classification: from an LR image to one of a few classes."""

import time
import warnings

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitpipe.config import Settings, Train
from vitpipe.data.augment import augment, mix
from vitpipe.data.batches import Batch, in_order, evenly_spaced
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import normalize
from vitpipe.errors import InputError
from vitpipe.metrics.classification import PROTOCOL as MEASURES
from vitpipe.metrics.classification import classification, rounded, sample_scores
from vitpipe.models.classifier import Classifier
from vitpipe.training.compute import Compute
from vitpipe.progress import progress

BEST = "val_accuracy"
BATCH, PIXELS = 256, 2**20  # scored at once, whichever is less; no score depends on it
LEARNED_FROM = 10_000  # training images that logistic regression sees at most
FINEST = 32  # side in pixels of the images that logistic regression sees at most
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of logistic regression, of which validation images choose one
SHOWN = 10  # images in each band of the ranking

PROTOCOL = MEASURES | {
    "majority": "baseline: the shares of the classes among the training images, whatever the image",
    "logistic": "baseline: multinomial logistic regression on standardised input pixels, averaged to at most "
    f"{FINEST}x{FINEST}, of at most {LEARNED_FROM:,} training images evenly through the part, at most 100 iterations "
    "of L-BFGS; "
    f"C of {', '.join(f'{c:g}' for c in PENALTIES)} by log loss on validation images",
    "gain": "model minus logistic",
}


def build(settings: Settings, classes: tuple[str, ...]) -> Classifier:
    """The classifier that the settings describe, with fresh weights from torch's generator."""
    model = settings.model.model_dump(exclude={"skip", "mirrored", "consistent"})
    return Classifier(classes=len(classes), size=settings.data.input_size, **model)


def inputs(batch: Batch, train: Train) -> tuple[Tensor, Tensor]:
    """Augmented images on [-1, 1], and their labels: class indices (b,), of mixed images the classes' shares (b, k).

    Each of several processes draws for the whole batch, as what is drawn for an image depends on those before it.
    """
    if not (train.crop or train.randaugment or train.mix != "none"):
        batch = batch.local
    images = normalize(augment(batch.lr, train))
    images, target = mix(images, batch.labels, len(batch.packed.classes), train.mix)
    return images[batch.part], target[batch.part]


def loss(model: nn.Module, images: Tensor, target: Tensor, train: Train) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy with label smoothing, and the batch's accuracy.

    Where images are mixed, accuracy counts the class that has the larger share.
    """
    logits = model(images).float()
    with torch.no_grad():
        wanted = target if target.ndim == 1 else target.argmax(1)
        shown = {"accuracy": (logits.argmax(1) == wanted).float().mean()}
    return F.cross_entropy(logits, target, label_smoothing=train.label_smoothing), shown


@torch.inference_mode()
def validate(
    model: nn.Module, packed: PackedDataset, compute: Compute, train: Train, only: slice = slice(None)
) -> dict[str, float]:
    """Cross-entropy and accuracy, averaged over the images, which are as they are."""
    model.eval()
    sums = {"val_loss": 0.0, "val_accuracy": 0.0}
    for batch in in_order(packed, at_once(packed), compute.device, only):
        with compute.autocast():
            logits = model(normalize(batch.lr)).float()
        sums["val_loss"] += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        sums["val_accuracy"] += float((logits.argmax(1) == batch.labels).sum())
    count = len(range(len(packed))[only])
    return {name: total / count for name, total in sums.items()}


def at_once(packed: PackedDataset) -> int:
    """How many images are scored at once: of large ones fewer, or it would take more memory than training."""
    return max(1, min(BATCH, PIXELS // packed.shards["lr"][0].shape[1] ** 2))


def baseline(train: PackedDataset, val: PackedDataset, test: PackedDataset, settings: Settings) -> dict:
    """Test scores of the majority class and of logistic regression on pixels."""
    shares = np.bincount(train.labels, minlength=len(train.classes)) / len(train)
    majority = np.broadcast_to(shares, (len(test), len(shares)))
    scores = {"majority": majority, "logistic": logistic(train, val, test, grey=settings.model.channels == 1)}
    return {name: numbers(classification(test.labels, p, test.classes)) for name, p in scores.items()} | {
        "images": len(test),
        "protocol": [PROTOCOL],
    }


def logistic(train: PackedDataset, val: PackedDataset, test: PackedDataset, *, grey: bool) -> np.ndarray:
    """Class probabilities (n, k) of the test images by logistic regression on pixels; see `PROTOCOL`.

    With `grey` on the mean of the three channels.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    def pixels(part: PackedDataset, rows: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(part.images("lr", rows)).permute(0, 3, 1, 2).float()
        images = F.adaptive_avg_pool2d(images, min(images.shape[-1], FINEST))
        return (images.mean(1) if grey else images).flatten(1).numpy()

    def probabilities(model: LogisticRegression, part: PackedDataset) -> np.ndarray:
        found = np.zeros((len(part), len(part.classes)))
        for start in range(0, len(part), LEARNED_FROM):
            rows = np.arange(start, min(start + LEARNED_FROM, len(part)))
            found[rows[:, None], model.classes_] = model.predict_proba(scaler.transform(pixels(part, rows)))
        return found

    rows = evenly_spaced(train, LEARNED_FROM)
    scaler = StandardScaler()
    images, labels = scaler.fit_transform(pixels(train, rows)), train.labels[rows]
    if len(np.unique(labels)) < 2:
        raise InputError(f"{train.classes[labels[0]]!r} is the class of all {len(rows)} images that are learned from")
    least, best = np.inf, None
    with progress(len(PENALTIES), "logistic regression", "fit") as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in PENALTIES:
            model = LogisticRegression(C=penalty, max_iter=100).fit(images, labels)
            error = sample_scores(val.labels, probabilities(model, val))["loss"].mean()
            if error < least:
                least, best = error, model
            bar.update()
    return probabilities(best, test)


@torch.inference_mode()
def predict(model: nn.Module, packed: PackedDataset, device: torch.device) -> np.ndarray:
    """Class probabilities (n, k) of every image, in float32."""
    model.eval()
    parts = []
    with progress(len(packed), "evaluate", "image") as bar:
        for batch in in_order(packed, at_once(packed), device):
            parts.append(model(normalize(batch.lr)).softmax(-1).cpu().numpy())
            bar.update(len(batch))
    return np.concatenate(parts)


def evaluate(
    model: nn.Module, packed: PackedDataset, baseline: dict, settings: Settings, compute: Compute
) -> tuple[dict, pd.DataFrame]:
    """Test scores of the model beside the baselines', in float32; `seconds` is the whole scoring on this machine."""
    start = time.perf_counter()
    probabilities = predict(model, packed, compute.device)
    names = np.array(packed.classes)
    scores = sample_scores(packed.labels, probabilities)
    columns = {"actual": names[packed.labels], **scores, "predicted": names[scores["predicted"]]}
    metrics = classification(packed.labels, probabilities, packed.classes)
    rivals = {name: baseline[name] for name in ("majority", "logistic")}
    gain = ("accuracy", "balanced_accuracy", "macro_f1")
    metrics |= rivals | {
        "gain": {name: rounded(metrics[name] - rivals["logistic"][name]) for name in gain},
        "seconds": round(time.perf_counter() - start, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return metrics, pd.DataFrame(columns, index=packed.samples.index)


def examples(
    model: nn.Module, packed: PackedDataset, table: pd.DataFrame, settings: Settings, compute: Compute
) -> dict[str, dict]:
    """What the figures show: confusion matrix, highest, lowest and random losses by `evaluate`'s table, patches."""
    order = np.argsort(-table["loss"].to_numpy(), kind="stable")
    count = min(SHOWN, len(table))
    random = np.sort(np.random.default_rng(0).permutation(len(table))[:count])
    bands = {"worst": order[:count], "best": order[::-1][:count], "random": random}
    matrix = pd.crosstab(table["actual"], table["predicted"]).reindex(
        index=packed.classes, columns=packed.classes, fill_value=0
    )
    first = random[:1]
    return {
        "confusion": {"matrix": matrix.to_numpy(), "classes": packed.classes},
        "ranking": {
            name: {"images": packed.images("hr", rows), "ids": list(table.index[rows])}
            | {key: table[key].to_numpy()[rows] for key in ("predicted", "actual", "probability", "loss")}
            for name, rows in bands.items()
        },
        "patches": {
            "image": packed.images("lr", first)[0],
            "patch": settings.model.patch,
            "id": table.index[first[0]],
            "class_token": settings.model.readout == "token",
        },
        "training": {"label": training_label(settings.train)},
    }


def training_label(train: Train) -> str:
    """What the curve of the training images is of, as its loss is not that of the validation images."""
    changes = {
        "augmented": train.flip or train.crop or train.randaugment or train.mix != "none",
        "smoothed labels": train.label_smoothing,
    }
    told = ", ".join(name for name, there in changes.items() if there)
    return f"training ({told})" if told else "training"


def numbers(scores: dict) -> dict:
    """The scores without lists."""
    return {name: value for name, value in scores.items() if not isinstance(value, list)}
