"""Settings: `params.yaml` in, frozen and checked models out. The only reader of that file.

`conf/config.yaml` says what each setting is for; here stand the types, the ranges and the rules
that hold across fields. Nothing heavy is imported, so a wrong value is told at once.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from vitpipe.errors import InputError

Whole = Annotated[int, Strict()]
Share = Annotated[float, Field(gt=0, lt=0.5)]
UNREAD: dict[str, dict[str, object]] = {
    "supersample": {
        "model.readout": "token",
        "model.channels": 3,
        "train.label_smoothing": 0.0,
        "train.randaugment": 0,
        "train.mix": "none",
    },
    "classify": {
        "model.skip": "bicubic",
        "model.mirrored": False,
        "model.consistent": False,
        "train.loss": "charbonnier",
    },
}
"""Settings that a task has no use for, each with the value of conf/config.yaml: another would be ignored."""
SOURCES = tuple(sorted(path.stem for path in (Path(__file__).parent / "data" / "sources").glob("[a-z]*.py")))


class Section(BaseModel):
    """A part of the settings: no unknown keys, no changes once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def no_switch_is_a_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is float:
            raise ValueError("must be a number")  # pydantic takes true for 1.0
        return value


class Data(Section):
    """Which images, how many, at which sizes, and how they are split."""

    name: str
    root: str | None = None
    count: Annotated[Whole, Field(ge=3)] | None = None
    size: Annotated[Whole, Field(ge=8, le=4096)] = 192
    scale: Annotated[Whole, Field(ge=1, le=16)] = 4
    fit: Literal["stretch", "crop"] = "stretch"
    split: Literal["random", "official", "identity"] = "random"
    test: Share = 0.1
    val: Share = 0.1

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        if name not in SOURCES:
            raise ValueError(f"must be one of {', '.join(SOURCES)}{nearest(name, SOURCES)}")
        return name

    @property
    def input_size(self) -> int:
        """Side of the LR input in pixels."""
        return self.size // self.scale


class Task(Section):
    """What is learned."""

    name: Literal["supersample", "classify"]
    target: str
    show: Annotated[tuple[str, ...], Field(min_length=1)] | None

    @field_validator("show", mode="before")
    @classmethod
    def names(cls, show: object) -> object:
        if show is None:
            return None
        if not isinstance(show, list | tuple) or not show:
            raise ValueError("must be a list of classes, such as [cat, dog], or null")
        return tuple(str(name) for name in show)  # YAML reads 3 as a number, and a class may be called so


class Model(Section):
    """The encoder and what stands around it."""

    patch: Annotated[Whole, Field(ge=1)]
    dim: Annotated[Whole, Field(ge=4)]
    depth: Annotated[Whole, Field(ge=1, le=64)]
    heads: Annotated[Whole, Field(ge=1)]
    mlp: Annotated[float, Field(gt=0, le=16)]
    position: Literal["none", "learned", "sincos"]
    projection: bool
    bias: bool
    norm: bool
    readout: Literal["token", "mean"]
    channels: Literal[1, 3]
    skip: Literal["nearest", "bicubic"]
    width: Annotated[Whole, Field(ge=0)]
    blocks: Annotated[Whole, Field(ge=0, le=32)]
    expansion: Annotated[Whole, Field(ge=1, le=16)]
    mirrored: bool
    consistent: bool


class Train(Section):
    """How it is learned."""

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
    loss: Literal["mse", "l1", "charbonnier", "spectral"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    flip: bool
    crop: Annotated[Whole, Field(ge=0)]
    randaugment: Annotated[Whole, Field(ge=0, le=8)]
    mix: Literal["none", "mixup", "cutmix", "both"]
    precision: Literal["auto", "float32", "bfloat16"]
    device: Literal["auto", "cpu", "cuda"]


class Settings(Section):
    """Everything in `params.yaml`, checked as a whole."""

    recipe: str
    seed: Annotated[Whole, Field(ge=0, lt=2**31)]
    data: Data
    task: Task
    model: Model
    train: Train
    plots: dict[str, Any] = Field(default={}, exclude=True)  # read by dvc.yaml alone

    @field_validator("recipe")
    @classmethod
    def exists(cls, recipe: str) -> str:
        recipes = tuple(sorted(path.stem for path in Path("conf/recipe").glob("*.yaml")))
        if recipes and recipe not in recipes:
            raise ValueError(f"must be one of {', '.join(recipes)}{nearest(recipe, recipes)}")
        return recipe

    @model_validator(mode="after")
    def fields_agree(self) -> "Settings":
        data, model = self.data, self.model
        if data.size % data.scale:
            fail("data.scale", data.scale, f"must divide data.size {data.size}", divisors(data.size, 16))
        if self.task.name == "supersample":
            self.super_sampling_agrees()
        for key, idle in UNREAD[self.task.name].items():
            section, _, name = key.partition(".")
            value = getattr(getattr(self, section), name)
            if value != idle:
                shown = yaml.safe_dump(idle).split()[0]
                fail(key, value, f"must be {shown} for task.name {self.task.name}, which does not read it")
        if model.blocks and not model.width:
            fail("model.blocks", model.blocks, "must be 0 with model.width 0, which leaves convolutions out")
        if self.train.crop >= data.input_size:
            fail("train.crop", self.train.crop, f"must be less than the input size {data.input_size}")
        side = data.input_size
        if side % model.patch or side == model.patch:  # attention needs other patches to look at
            origin = f"(data.size {data.size} / data.scale {data.scale})"
            rule = f"must divide the input size {side} {origin} into 2x2 or more"
            fail("model.patch", model.patch, rule, divisors(side, side // 2))
        if model.dim % model.heads:
            fail("model.heads", model.heads, f"must divide model.dim {model.dim}", divisors(model.dim, 64))
        if int(model.dim * model.mlp) < 1:
            fail(
                "model.mlp",
                model.mlp,
                f"must be at least 1 / model.dim: the MLP is model.dim {model.dim} times as wide",
            )
        if model.position == "sincos" and model.dim % 4:
            fail("model.dim", model.dim, "must be a multiple of 4 with model.position sincos")
        if self.train.batch % self.train.processes:
            rule = f"must divide train.batch {self.train.batch}"
            fail("train.processes", self.train.processes, rule, divisors(self.train.batch, 64))
        if self.plots and self.plots.get("shown") != self.plots.get(self.task.name):
            rule = "is of another task: change that with dvc exp run -S recipe=..., not by hand"
            raise ValueError(f"plots.shown {rule}")
        return self

    def super_sampling_agrees(self) -> None:
        data, model = self.data, self.model
        if data.scale < 2:
            fail("data.scale", data.scale, "must be at least 2 for task.name supersample", divisors(data.size, 16)[1:])
        smallest = 11 + 2 * data.scale
        if data.size < smallest:
            fail("data.size", data.size, f"must be at least {smallest}: SSIM's 11-pixel window and the border to crop")
        if model.width < 4:
            fail("model.width", model.width, "must be at least 4 for task.name supersample")

    @property
    def target(self) -> str | None:
        """The column of labels that is learned; None where the target is an image."""
        return self.task.target if self.task.name == "classify" else None


def fail(key: str, value: object, rule: str, choices: list[int] | None = None) -> None:
    choice = f": {', '.join(map(str, choices))}" if choices else ""
    raise ValueError(f"{key} is {value!r}, but {rule}{choice}")


def divisors(number: int, largest: int) -> list[int]:
    return [d for d in range(1, largest + 1) if number % d == 0]


def nearest(word: str, choices: Sequence[str]) -> str:
    """The choice that was probably meant, as the end of a sentence; nothing where none is near."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def load_settings(path: Path = Path("params.yaml")) -> Settings:
    """Reads and checks the settings.

    Raises:
        InputError: the file is missing or no YAML, or a value in it is wrong; the message names
            the key, the value and what would be right.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run from the repository's root, or make one with dvc exp run") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold sections such as data: and model:, but holds {type(content).__name__}")
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """The first fault in one line, and how many more there are."""
    fault = error.errors(include_url=False)[0]
    location = [str(part) for part in fault["loc"]]
    key, value = ".".join(location), fault["input"]
    if fault["type"] == "extra_forbidden":
        known = keys_of(location[:-1])
        text = f"unknown key {key}{nearest(location[-1], known)}; known there: {', '.join(known)}"
    elif fault["type"] == "missing":
        text = f"{key} is missing"
    elif fault["type"] == "value_error" and not key:
        text = str(fault["ctx"]["error"])
    elif fault["type"] == "value_error":
        text = f"{key} is {value!r}, but {fault['ctx']['error']}"
    else:
        text = f"{key} is {value!r}, but {fault['msg'][0].lower()}{fault['msg'][1:]}"
    more = error.error_count() - 1
    return " ".join(text.split()) + (f" (and {more} more)" if more else "")


def keys_of(location: list[str]) -> tuple[str, ...]:
    section: type[BaseModel] = Settings
    for part in location:
        section = section.model_fields[part].annotation  # type: ignore[assignment]
    return tuple(section.model_fields)
