"""The settings that all tasks have: type, range, and rules across fields."""

from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from vitpipe.config.validation import Section, divisors, fail

Whole = Annotated[int, Strict()]
Share = Annotated[float, Field(gt=0, lt=0.5)]


class Data(Section):
    """Which images, how many, at which sizes, and how they are split."""

    name: Literal["celeba", "cifar10", "cifar100", "digits", "faces", "flowers102", "folder", "mnist", "pets"]
    root: str | None = None
    count: Annotated[Whole, Field(ge=3)] | None = None
    size: Annotated[Whole, Field(ge=8, le=4096)] = 192
    scale: Annotated[Whole, Field(ge=1, le=16)] = 4
    fit: Literal["stretch", "crop"] = "stretch"
    split: Literal["random", "official", "identity"] = "random"
    test: Share = 0.1
    val: Share = 0.1
    shots: Annotated[Whole, Field(ge=1)] | None = None

    @property
    def input_size(self) -> int:
        """Side of the LR input in pixels."""
        return self.size // self.scale


class Task(Section):
    """What the model learns."""

    name: str


class Model(Section):
    """The encoder and the convolutions around it. With `weights`, None means what the weights file says."""

    weights: str | None = None
    patch: Annotated[Whole, Field(ge=1)] | None
    dim: Annotated[Whole, Field(ge=4)] | None
    depth: Annotated[Whole, Field(ge=0, le=64)] | None
    heads: Annotated[Whole, Field(ge=1)] | None
    mlp_ratio: Annotated[float, Field(gt=0, le=16)] | None
    attention: Literal["softmax", "place", "uniform", "none"] = "softmax"  # weights saved earlier have neither of these
    place: bool = False
    position: Literal["none", "learned", "sincos"] | None
    proj: bool | None
    qkv_bias: bool | None
    final_norm: bool | None
    conv_channels: Annotated[Whole, Field(ge=0)]
    conv_blocks: Annotated[Whole, Field(ge=0, le=32)]
    conv_expansion: Annotated[Whole, Field(ge=1, le=16)]


class Train(Section):
    """How the model learns."""

    epochs: Annotated[Whole, Field(ge=0)]
    patience: Annotated[Whole, Field(ge=1)] | None
    batch: Annotated[Whole, Field(ge=1)]
    accumulate: Annotated[Whole, Field(ge=1)] = 1
    grad_checkpointing: bool = False
    processes: Annotated[Whole, Field(ge=1)]
    optimizer: Literal["adamw", "muon", "sgd"]
    lr: Annotated[float, Field(gt=0, le=10)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average: Literal["none", "best3", "greedy"] = "none"
    schedule: Literal["cosine", "linear", "step", "constant"]
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
        if data.shots and self.target is None:
            fail("data.shots", data.shots, f"must be null with task.name {self.task.name}: it counts images of a class")
        self.task_fields_agree()
        if model.conv_blocks and not model.conv_channels:
            fail("model.conv_blocks", model.conv_blocks, "must be 0 with model.conv_channels 0")
        if self.train.crop >= data.input_size:
            fail("train.crop", self.train.crop, f"must be less than the input size {data.input_size}")
        self.sizes_fit(model, data)
        train = self.train
        if train.batch % (train.processes * train.accumulate):
            key, other = ("processes", "accumulate") if train.processes > 1 else ("accumulate", "processes")
            rule = f"times train.{other} {getattr(train, other)} must divide train.batch {train.batch}"
            fail(f"train.{key}", getattr(train, key), rule)
        if train.layer_decay < 1 and train.optimizer == "muon":
            fail("train.layer_decay", train.layer_decay, "must be 1 with train.optimizer muon: use adamw or sgd")
        return self

    def sizes_fit(self, model: Model, data: Data) -> None:
        """Checks the sizes of the encoder, as far as they are given. Raises ValueError."""
        for key in ("patch", "dim", "depth", "heads", "mlp_ratio", "position", "proj", "qkv_bias", "final_norm"):
            if model.weights is None and getattr(model, key) is None:
                fail(f"model.{key}", None, "must be given where model.weights is null")
        side = data.input_size
        if model.patch and (side % model.patch or side == model.patch):  # attention needs other patches to look at
            origin = f"(data.size {data.size} / data.scale {data.scale})"
            rule = f"must divide the input size {side} {origin} into 2x2 or more"
            fail("model.patch", model.patch, rule, divisors(side, side // 2))
        if model.dim and model.heads and model.dim % model.heads:
            fail("model.heads", model.heads, f"must divide model.dim {model.dim}", divisors(model.dim, 64))
        if model.attention == "place" and not model.place:
            fail("model.attention", model.attention, "needs model.place true: nothing else says where a head looks")
        if model.dim and model.mlp_ratio and int(model.dim * model.mlp_ratio) < 1:
            fail("model.mlp_ratio", model.mlp_ratio, f"must be at least 1 / model.dim, {1 / model.dim:.3g}")
        if model.dim and model.position == "sincos" and model.dim % 4:
            fail("model.dim", model.dim, "must be a multiple of 4 with model.position sincos")

    def task_fields_agree(self) -> None:
        """Checks the rules of one task. Raises ValueError."""

    @property
    def target(self) -> str | None:
        """The label column that the model learns; None where the target is an image."""
        return None

    @property
    def pool(self) -> str | None:
        """How the tokens of an image become one vector, token or avg; None where the task reads all of them."""
        return None
