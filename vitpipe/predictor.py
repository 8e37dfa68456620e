"""Trained models ready for use, from the weights file alone: `vitpipe.load(path).predict(image)`."""

import os
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from vitpipe.config import Settings, check_settings
from vitpipe.data.pixels import to_input
from vitpipe.errors import InputError
from vitpipe.sources.images import UnreadableImage, decode
from vitpipe.tasks.base import Task, scoring_task
from vitpipe.training.checkpoint import read_metadata, read_weights

BATCH = 32  # images that are predicted together
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Explanation:
    """Which patches of an image a prediction depends on."""

    method: str
    map: np.ndarray
    """(rows, columns) float32, one number for each patch; higher is more important. Units differ between methods."""
    image: np.ndarray
    """(s, s, 3) uint8: the image as the model saw it."""
    shown: dict[str, Any]
    """What the explanation is about, such as the predicted class."""


class Predictor:
    """A trained model with its task: images in, predictions and explanations out."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        self.task, self.model = task, model
        self.settings, self.classes, self.task_name = task.settings, task.classes, task.settings.task.name

    def predict(self, images: Any) -> Any:
        """The prediction for an image: an HR image (PIL), or the label and score of every class, the likeliest first.

        Args:
            images: a PIL image, the path of an image file, or a uint8 array (h, w), (h, w, 3) or (h, w, 4); or a list
                of these, for a list of predictions.

        Raises:
            InputError: an image cannot be read, has another type, or has a size that does not fit the model.
        """
        if not isinstance(images, list | tuple):
            return self.predict([images])[0]
        pixels = [self.prepare(image) for image in images]
        batches = [np.stack(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        return [self.task.present(made) for batch in batches for made in self.task.predict(self.model, batch)]

    def explain(self, image: Any, method: str = "rollout") -> Explanation:
        """Explains the prediction for one image.

        Args:
            image: as in `predict`.
            method: one of the methods in `vitpipe.explain.methods` that apply to the task and the model.

        Raises:
            InputError: there is no such method, or see `predict`.
        """
        methods = import_module("vitpipe.explain.methods")  # so that the stage evaluate does not depend on it
        pixels = self.prepare(image)
        images = to_input(pixels[None].copy(), next(self.model.parameters()).device)
        questions = self.task.questions(self.model, images)
        known = methods.applicable(self.model, questions)
        if method not in known:
            raise InputError(f"there is no method {method!r} for this {self.task_name} model: use {', '.join(known)}")
        maps = methods.attribution_maps(self.model, replace(questions, methods=(method,)), images)
        shown = {name: values[0] for name, values in questions.shown.items()}
        return Explanation(method, maps.patches[method][0].float().cpu().numpy(), pixels, shown)

    def prepare(self, image: Any) -> np.ndarray:
        """One image as the model sees it, (s, s, 3) uint8; takes and raises what `predict` does."""
        return self.task.prepare(read_image(image))


def load(path: str | os.PathLike[str], device: str = "cpu") -> Predictor:
    """The model in a weights file that the train stage wrote, on a torch device such as cpu or cuda:1.

    Raises:
        InputError: there is no such device, or see `load_model`.
    """
    try:
        chosen = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError):
        raise InputError(f"there is no device {device!r} here: use cpu, or cuda with a GPU") from None
    return Predictor(*load_model(Path(path), device=chosen))


def load_model(path: Path, settings: Settings | None = None, device: torch.device = CPU) -> tuple[Task, nn.Module]:
    """The task and the model in a weights file; the model is in evaluation mode.

    Args:
        settings: what the task gets in place of the settings in the file, which must have built the same model.

    Raises:
        InputError: there is no such file, it is damaged or comes from elsewhere, or the settings are others.
    """
    metadata = read_metadata(path)
    trained = check_settings(metadata.get("settings") or {}, str(path))
    if settings is not None and built_by(settings) != built_by(trained):
        raise InputError(f"{path} was trained with other model settings than params.yaml has: run dvc repro")
    task = scoring_task(settings or trained, tuple(metadata.get("classes") or ()), metadata.get("encoder"))
    with torch.random.fork_rng(devices=[]):  # the weights that building draws are replaced
        model = task.build()
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError:
        raise InputError(f"{path} does not hold the weights that its settings describe: train again") from None
    return task, model.to(device).eval()


def built_by(settings: Settings) -> tuple[object, ...]:
    """The settings that decide how a model is built and what it predicts."""
    return settings.task.name, settings.target, settings.data.size, settings.data.scale, settings.model


def read_image(image: Any) -> Image.Image:
    """An upright RGB image, from what `Predictor.predict` takes and by the rules of `vitpipe.sources.images.decode`."""
    if isinstance(image, np.ndarray):
        shape, dtype = image.shape, image.dtype
        if dtype != np.uint8 or not image.size or len(shape) < 2 or shape[2:] not in ((), (3,), (4,)):
            raise InputError(f"an array must be uint8 (h, w), (h, w, 3) or (h, w, 4), but is {dtype} {shape}")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image | str | os.PathLike):
        raise InputError(f"an image must be a PIL image, a path or a uint8 array, not {type(image).__name__}")
    try:
        return decode(image if isinstance(image, Image.Image) else Path(image).read_bytes())
    except OSError as error:
        raise InputError(f"{image}: {error.strerror}") from None
    except UnreadableImage as error:
        raise InputError(f"{image} {error}") from None
