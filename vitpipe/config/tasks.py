"""The settings that a single task has, and its rules."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from vitpipe.config.sections import Model, Settings, Task, Train, Whole
from vitpipe.config.validation import divisors, fail


class SupersampleTask(Task):
    name: Literal["supersample"]


class SupersampleModel(Model):
    skip: Literal["nearest", "bicubic"]
    consistent: bool


class SupersampleTrain(Train):
    loss: Literal["mse", "l1", "charbonnier", "spectral"]


class SupersampleSettings(Settings):
    """Settings of super-resolution."""

    task: SupersampleTask
    model: SupersampleModel
    train: SupersampleTrain

    def task_fields_agree(self) -> None:
        data = self.data
        if data.scale < 2:
            fail("data.scale", data.scale, "must be at least 2 for task.name supersample", divisors(data.size, 16)[1:])
        if data.size < (smallest := 11 + 2 * data.scale):
            fail("data.size", data.size, f"must be at least {smallest}: SSIM's 11-pixel window and the border to crop")


class ClassifyTask(Task):
    name: Literal["classify"]
    target: str
    show: Annotated[tuple[str, ...], Field(min_length=1)] | None

    @field_validator("show", mode="before")
    @classmethod
    def names(cls, show: object) -> object:
        if show is None:
            return None
        if isinstance(show, list | tuple) and show:
            return tuple(str(name) for name in show)  # YAML reads 3 as a number, and a class may be called so
        raise ValueError("must be a list of classes, such as [cat, dog], or null")


class ClassifyModel(Model):
    pool: Literal["token", "avg"]
    in_chans: Literal[1, 3]


class ClassifyTrain(Train):
    freeze: Literal["none", "encoder"] = "none"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    randaugment: Annotated[Whole, Field(ge=0, le=8)]
    mix: Literal["none", "mixup", "cutmix", "both"]


class ClassifySettings(Settings):
    """Settings of classification."""

    task: ClassifyTask
    model: ClassifyModel
    train: ClassifyTrain

    def task_fields_agree(self) -> None:
        for name, nothing in (("depth", 0), ("attention", "none")) if self.model.pool == "token" else ():
            if getattr(self.model, name) == nothing:
                fail(f"model.{name}", nothing, "needs model.pool avg: a class token would see no patch; use uniform")
        if self.train.freeze == "encoder":
            self.features_stay(self.train)

    def features_stay(self, train: ClassifyTrain) -> None:
        """A frozen encoder reads each image once, so nothing may change images or encoder. Raises ValueError."""
        if self.model.weights is None:
            fail("train.freeze", train.freeze, "needs model.weights: an encoder with random weights knows nothing")
        still = {"flip": False, "crop": 0, "randaugment": 0, "mix": "none", "drop_path": 0, "dropout": 0}
        for key, value in (still | {"layer_decay": 1, "grad_checkpointing": False}).items():
            if (found := getattr(train, key)) != value:
                right = str(value).lower()
                fail(f"train.{key}", found, f"must be {right} with train.freeze encoder, which reads each image once")

    @property
    def target(self) -> str:
        return self.task.target

    @property
    def pool(self) -> str:
        return self.model.pool


TASKS: dict[str, type[Settings]] = {"supersample": SupersampleSettings, "classify": ClassifySettings}
