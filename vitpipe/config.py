"""Settings: reads `params.yaml` into frozen, checked models. Nothing else reads that file.

`conf/` says what each setting is for, this module its type, range and rules across fields. It imports nothing heavy, so
a wrong value is reported at once.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, Strict, ValidationError, field_validator, model_validator

from vitpipe.errors import InputError
from vitpipe.validation import Section, describe, divisors, fail, keys_of, nearest

Whole = Annotated[int, Strict()]
Share = Annotated[float, Field(gt=0, lt=0.5)]


class Data(Section):
    """Which images, how many, at which sizes, and how they are split."""

    name: Literal["celeba", "cifar10", "digits", "faces", "folder", "mnist"]
    root: str | None = None
    count: Annotated[Whole, Field(ge=3)] | None = None
    size: Annotated[Whole, Field(ge=8, le=4096)] = 192
    scale: Annotated[Whole, Field(ge=1, le=16)] = 4
    fit: Literal["stretch", "crop"] = "stretch"
    split: Literal["random", "official", "identity"] = "random"
    test: Share = 0.1
    val: Share = 0.1

    @property
    def input_size(self) -> int:
        """Side of the LR input in pixels."""
        return self.size // self.scale


class Task(Section):
    """What the model learns."""

    name: str


class Model(Section):
    """The encoder and the convolutions around it."""

    patch: Annotated[Whole, Field(ge=1)]
    dim: Annotated[Whole, Field(ge=4)]
    depth: Annotated[Whole, Field(ge=0, le=64)]
    heads: Annotated[Whole, Field(ge=1)]
    mlp_ratio: Annotated[float, Field(gt=0, le=16)]
    attention: Literal["softmax", "place", "uniform", "none"] = "softmax"  # weights saved earlier have neither of these
    place: bool = False
    position: Literal["none", "learned", "sincos"]
    proj: bool
    qkv_bias: bool
    final_norm: bool
    conv_channels: Annotated[Whole, Field(ge=0)]
    conv_blocks: Annotated[Whole, Field(ge=0, le=32)]
    conv_expansion: Annotated[Whole, Field(ge=1, le=16)]


class Train(Section):
    """How the model learns."""

    epochs: Annotated[Whole, Field(ge=1)]
    patience: Annotated[Whole, Field(ge=1)] | None
    batch: Annotated[Whole, Field(ge=1)]
    processes: Annotated[Whole, Field(ge=1)]
    optimizer: Literal["adamw", "muon", "sgd"]
    lr: Annotated[float, Field(gt=0, le=10)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    schedule: Literal["cosine", "step", "constant"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    ema: Annotated[float, Field(ge=0, lt=1)]
    clip: Annotated[float, Field(gt=0)]
    flip: bool
    crop: Annotated[Whole, Field(ge=0)]
    precision: Literal["auto", "float32", "bfloat16"]
    device: Literal["auto", "cpu", "cuda"]


class Settings(Section):
    """Everything in `params.yaml`, checked as a whole. Each task has a subclass with the settings of its own."""

    recipe: str
    seed: Annotated[Whole, Field(ge=0, lt=2**31)]
    data: Data
    task: Task
    model: Model
    train: Train
    dvc: dict[str, Any] = Field(default={}, exclude=True)  # read by dvc.yaml alone

    @model_validator(mode="after")
    def fields_agree(self) -> "Settings":
        data, model = self.data, self.model
        if data.size % data.scale:
            fail("data.scale", data.scale, f"must divide data.size {data.size}", divisors(data.size, 16))
        self.task_fields_agree()
        if model.conv_blocks and not model.conv_channels:
            fail("model.conv_blocks", model.conv_blocks, "must be 0 with model.conv_channels 0")
        if self.train.crop >= data.input_size:
            fail("train.crop", self.train.crop, f"must be less than the input size {data.input_size}")
        side = data.input_size
        if side % model.patch or side == model.patch:  # attention needs other patches to look at
            origin = f"(data.size {data.size} / data.scale {data.scale})"
            rule = f"must divide the input size {side} {origin} into 2x2 or more"
            fail("model.patch", model.patch, rule, divisors(side, side // 2))
        if model.dim % model.heads:
            fail("model.heads", model.heads, f"must divide model.dim {model.dim}", divisors(model.dim, 64))
        if model.attention == "place" and not model.place:
            fail("model.attention", model.attention, "needs model.place true: nothing else says where a head looks")
        if int(model.dim * model.mlp_ratio) < 1:
            fail("model.mlp_ratio", model.mlp_ratio, f"must be at least 1 / model.dim, {1 / model.dim:.3g}")
        if model.position == "sincos" and model.dim % 4:
            fail("model.dim", model.dim, "must be a multiple of 4 with model.position sincos")
        if self.train.batch % self.train.processes:
            fail("train.processes", self.train.processes, "must divide train.batch", divisors(self.train.batch, 64))
        return self

    def task_fields_agree(self) -> None:
        """Checks the rules of one task. Raises ValueError."""

    @property
    def target(self) -> str | None:
        """The label column that the model learns; None where the target is an image."""
        return None


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

    @property
    def target(self) -> str:
        return self.task.target


TASKS: dict[str, type[Settings]] = {"supersample": SupersampleSettings, "classify": ClassifySettings}


def load_settings(path: Path = Path("params.yaml")) -> Settings:
    """Reads and checks the settings.

    Raises:
        InputError: the file is missing or no YAML, or a value in it is wrong; the message names
            the key, the value and what would be right.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run from the repository's root, or make one with dvc exp run") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold sections such as data: and model:, but holds {type(content).__name__}")
    settings = check_settings(content, str(path))
    known = sorted(recipe.stem for recipe in Path("conf/recipe").glob("*.yaml"))
    if known and settings.recipe not in known:
        choices = f"{', '.join(known)}{nearest(settings.recipe, known)}"
        raise InputError(f"{path}: recipe is {settings.recipe!r}, but must be one of {choices}")
    return settings


def check_settings(content: dict[str, Any], where: str) -> Settings:
    """The settings in `content`, nested as in params.yaml, as the class of their task.

    Args:
        where: where they come from, for messages.

    Raises:
        InputError: see `load_settings`.
    """
    task = content.get("task")
    name = task.get("name") if isinstance(task, dict) else None
    if name not in TASKS:
        known = ", ".join(TASKS)
        raise InputError(f"{where}: task.name is {name!r}, but must be one of {known}{nearest(str(name), [*TASKS])}")
    try:
        return TASKS[name].model_validate(content)
    except ValidationError as error:
        text = describe(error, TASKS[name])
    for other, kind in TASKS.items():
        if other != name and set(content.get("model") or ()) == set(keys_of(kind, ["model"])):
            text = f"task.name is {name!r}, but the other settings are those of {other}: choose a recipe of {name}"
    raise InputError(f"{where}: {text}")
