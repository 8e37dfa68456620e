"""The training loop: a function of the settings and the data, and nothing else.

The order of the images depends on (seed, epoch) and the learning rate on the step, so a run that goes
on from its last state ends with the same weights as one that was never stopped, bit for bit on one machine. On a CUDA
device the steps are recorded once and then repeated, see `vitpipe.training.replay`.
"""

import copy
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from vitpipe.config import Settings
from vitpipe.data.batches import Batch, batches_per_epoch, rank_slice, shuffled
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.files import write_csv
from vitpipe.training.compute import Compute
from vitpipe.progress import progress
from vitpipe.training.checkpoint import Resume, save_weights
from vitpipe.training.distributed import Group
from vitpipe.training.optimizers import optimizers
from vitpipe.training.replay import Replayed
from vitpipe.training.schedule import ema_decay, learning_rate

SAVE_EVERY = 20.0  # seconds between saved states: what a killed run loses at most
SEED_STEP = 0x9E3779B1  # keeps the draws of neighbouring seeds apart in the 32 bits that torch reads on a CPU


class Training:
    """One run: model, averaged weights, optimisers, curve and the best epoch so far; the same in all of `group`."""

    def __init__(
        self,
        task: ModuleType,
        settings: Settings,
        train: PackedDataset,
        val: PackedDataset,
        compute: Compute,
        group: Group = Group(),  # noqa: B008 - frozen
    ) -> None:
        self.task, self.settings, self.train, self.val, self.compute = task, settings, train, val, compute
        self.group, self.own_val = group, part(len(val), group.rank, group.size)
        torch.manual_seed(settings.seed)
        self.model: nn.Module = task.build(settings, train.classes).to(compute.device)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.learner = group.wrap(self.model)
        self.weights, self.averages = (list(model.parameters()) for model in (self.model, self.averaged))
        self.optimizers = optimizers(self.model, settings.train, compute.dtype)
        alone = compute.device.type == "cuda" and group.size == 1
        self.halves: tuple[Callable[..., Any], ...] = tuple(
            Replayed(half) if alone else half for half in (self.gradients, self.descend)
        )
        self.rate = torch.zeros((), device=compute.device)
        if compute.device.type == "cuda":
            for packed in (train, val):
                packed.copy_to(compute.device)
        self.epoch = 0
        self.batch = 0  # batches done in this epoch
        self.sums: dict[str, float] = {}
        self.curve: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"epoch": 0, "score": -math.inf, "loss": math.inf, "weights": {}}
        size = min(settings.train.batch, len(train))
        own = part(size, group.rank, group.size)
        # averaged gradients are those of the whole batch where each process counts by its number of images
        self.share = (own.stop - own.start) * group.size / size
        self.per_epoch = batches_per_epoch(train, settings.train.batch)
        self.steps = self.per_epoch * settings.train.epochs

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs to go on as if nothing had happened."""
        plain = {name: getattr(self, name) for name in ("epoch", "batch", "sums", "curve", "best")}
        parts = {name: getattr(self, name).state_dict() for name in ("model", "averaged")}
        return plain | parts | {"optimizers": [each.state_dict() for each in self.optimizers]}

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            part = getattr(self, name)
            if name == "optimizers":
                for each, own in zip(part, value, strict=True):
                    each.load_state_dict(own)
            elif hasattr(part, "load_state_dict"):
                part.load_state_dict(value)
            else:
                setattr(self, name, value)

    @property
    def step(self) -> int:
        return self.epoch * self.per_epoch + self.batch

    @property
    def stalled(self) -> bool:
        """Whether `train.patience` epochs have gone by without a better one on validation images."""
        patience = self.settings.train.patience
        return patience is not None and self.epoch - self.best["epoch"] >= patience

    def run(self, resume: Resume) -> None:
        """Trains to the last epoch, saving the state now and then.

        Raises:
            InputError: the loss is not finite; the last state stays where it was.
        """
        main = self.group.main
        state = self.group.from_main(resume.load() if main else None)  # other machines may have none, or another
        if state is not None:
            self.restore(state)
            if main:
                print(f"going on from epoch {self.epoch + 1}, batch {self.batch} of {self.per_epoch}", file=sys.stderr)
        saved = time.monotonic()
        setting = self.settings.train
        with progress(self.steps, "train", "batch", done=self.step, shown=main) as bar:
            while self.epoch < setting.epochs and not self.stalled:
                self.model.train()
                for batch in shuffled(
                    self.train,
                    setting.batch,
                    self.compute.device,
                    seed=self.settings.seed,
                    epoch=self.epoch,
                    flip=setting.flip,
                    start=self.batch,
                    rank=self.group.rank,
                    processes=self.group.size,
                ):
                    self.learn(batch)
                    bar.update()
                    if main and time.monotonic() - saved > SAVE_EVERY:
                        resume.save(self.state())
                        saved = time.monotonic()
                self.finish_epoch()
                if main:
                    bar.write(self.line(), file=sys.stderr)
                    resume.save(self.state())
                    saved = time.monotonic()

    def learn(self, batch: Batch, rate: float | None = None) -> None:
        """One step down the gradient, with the schedule's learning rate unless `rate` is another."""
        setting = self.settings.train
        torch.manual_seed((self.settings.seed * SEED_STEP + self.step) % 2**32)  # of what augmentation draws
        gradients, descend = self.halves
        found = gradients(*self.task.inputs(batch, setting))
        norm, *own = torch.stack(list(found.values())).tolist()
        means = self.group.means(dict(zip(list(found)[1:], own, strict=True)), len(batch.local))
        where = f", batch {self.batch + 1}"
        self.finite("the loss", means["loss"], where)
        self.finite("the gradient", norm, where)
        self.set_rate(learning_rate(self.step, self.per_epoch, setting) if rate is None else rate)
        descend()
        with torch.no_grad():  # or the averages would remember every step
            torch._foreach_lerp_(self.averages, self.weights, 1 - ema_decay(self.step, setting.ema))
        for name, mean in means.items():
            self.sums[name] = self.sums.get(name, 0.0) + mean
        self.batch += 1

    def gradients(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Computes the weights' gradients and clips them.

        Returns `norm`, that of all gradients before clipping, `loss` and what else the curve shows, as tensors ().
        """
        setting = self.settings.train
        with self.compute.repeatable():
            with self.compute.autocast():
                loss, shown = self.task.loss(self.learner, *inputs, setting)
            self.model.zero_grad()
            (loss * self.share).backward()
            norm = nn.utils.clip_grad_norm_(self.weights, setting.clip)
        return {"norm": norm, "loss": loss.detach()} | shown

    def descend(self) -> None:
        """One step of every optimiser, by the gradients that the weights have."""
        for each in self.optimizers:
            each.step()

    def set_rate(self, rate: float) -> None:
        """Gives all optimisers this learning rate: on a CUDA device as one tensor, which a recorded step reads anew."""
        value = self.rate.fill_(rate) if self.rate.is_cuda else rate
        for group in (group for each in self.optimizers for group in each.param_groups):
            group["lr"] = value

    def finish_epoch(self) -> None:
        """Validates the averaged weights, adds a row to the curve and keeps the best.

        Of epochs with the same score, such as the accuracy on few images, the one with the lowest loss is better.
        """
        row: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step}
        row["lr"] = learning_rate(self.step - 1, self.per_epoch, self.settings.train)
        row |= {f"train_{name}": total / self.per_epoch for name, total in self.sums.items()}
        means = self.task.validate(self.averaged, self.val, self.compute, self.settings.train, self.own_val)
        row |= self.group.means(means, self.own_val.stop - self.own_val.start)
        for name in ("val_loss", self.task.BEST):
            self.finite(name, row[name])
        self.curve.append(row)
        score, loss = row[self.task.BEST], row["val_loss"]
        if (score, -loss) > (self.best["score"], -self.best["loss"]):
            weights = {name: tensor.clone() for name, tensor in self.averaged.state_dict().items()}
            self.best = {"epoch": self.epoch + 1, "score": score, "loss": loss, "weights": weights}
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}

    def finite(self, name: str, value: float, where: str = "") -> None:
        """Raises InputError where the value is no finite number; `where` says more than the epoch."""
        if not math.isfinite(value):
            raise InputError(
                f"{name} became {value} in epoch {self.epoch + 1}{where}: lower train.lr (now "
                f"{self.settings.train.lr:g}) or set train.precision float32; the last good state is kept in .resume"
            )

    def line(self) -> str:
        row = self.curve[-1]
        shown = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if "_" in name)
        return f"epoch {row['epoch']}/{self.settings.train.epochs}: {shown}"


def train(
    task: ModuleType,
    settings: Settings,
    train: PackedDataset,
    val: PackedDataset,
    compute: Compute,
    resume: Resume,
    models: Path,
    curve: Path,
    group: Group = Group(),  # noqa: B008 - frozen
) -> None:
    """Trains and writes `models`/model.safetensors (best epoch on validation) and the curve (csv).

    Args:
        train: what is learned from.
        val: what chooses the epoch.
        resume: where the state of an interrupted run is looked for, and kept until this one is done.
        group: the processes that train together; of these only the main one reads and writes these files.

    Raises:
        InputError: see `Training.run`.
    """
    training = Training(task, settings, train, val, compute, group)
    training.run(resume)
    if not group.main:
        return
    facts = {
        "epoch": training.best["epoch"],
        task.BEST: training.best["score"],
        "settings": settings.model_dump(exclude={"data": {"root"}}),  # where pictures lay changes no weights
        "classes": training.train.classes,
    }
    save_weights(models / "model.safetensors", training.best["weights"], facts)
    write_csv(curve, training.curve)
    resume.clear()
