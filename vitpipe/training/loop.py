"""The training loop: a function of the settings and the data, and nothing else.

The order of the images depends on (seed, epoch) and the learning rate on the step, so a run that goes on from its last
state ends with the same weights as one that was never stopped, bit for bit on one machine. On a CUDA device the steps
are recorded once and then replayed, see `vitpipe.training.replay`.
"""

import copy
import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitpipe.data.batches import Batch, batches_per_epoch, rank_slice, shuffled
from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.files import write_csv
from vitpipe.models.pretrained import Pretrained, start_from
from vitpipe.progress import progress
from vitpipe.training.averaging import averaged, best_epochs, save_average
from vitpipe.training.checkpoint import Resume
from vitpipe.training.compute import Compute
from vitpipe.training.distributed import Group
from vitpipe.training.optimizers import optimizers, set_lr
from vitpipe.training.replay import Replayed
from vitpipe.training.schedule import ema_decay, learning_rate
from vitpipe.training.task import TrainingTask
from vitpipe.training.validation import validation_means

SAVE_EVERY = 20.0  # seconds between saved states, or times as long as saving takes: the most that a killed run loses
PROGRESS = ("epoch", "batch", "sums", "curve", "kept")  # attributes of `Trainer` that change, beside the weights
SEED_STEP = 0x9E3779B1  # keeps the random numbers of neighbouring seeds apart in the 32 bits that torch uses on a CPU


class Trainer:
    """One run: model, averaged weights, optimizers, curve and the best epochs so far.

    Args:
        task: what to learn, with all settings.
        train: the images to learn from.
        val: the images that choose the epoch.
        group: the processes that train together; all of them hold the same model and curve.
        pretrained: weights that the encoder starts with, see `vitpipe.models.pretrained`; None for random ones.
    """

    def __init__(
        self,
        task: TrainingTask,
        train: PackedDataset,
        val: PackedDataset,
        compute: Compute,
        group: Group = Group(),  # noqa: B008 - frozen
        pretrained: Pretrained | None = None,
    ) -> None:
        self.task, self.settings, self.train, self.val, self.compute = task, task.settings, train, val, compute
        self.group = group
        torch.manual_seed(self.settings.seed)
        self.model: Any = task.build()
        if pretrained is not None:
            start_from(self.model, pretrained)
        self.model.to(compute.device)
        self.ema_model = copy.deepcopy(self.model).requires_grad_(False)
        learning: list[Any] = [model.head if task.frozen else model for model in (self.model, self.ema_model)]
        self.learner, self.ema = learning
        self.wrapped: Any = self.learner if group.size == 1 else nn.parallel.DistributedDataParallel(self.learner)
        self.weights: list[Tensor] = list(self.learner.parameters())
        self.ema_weights: list[Tensor] = list(self.ema.parameters())
        self.optimizers = optimizers(self.learner, self.settings.train, compute.dtype)
        self.parts: list[Any] = [self.learner, self.ema, *self.optimizers]
        self.halves: tuple[Callable[..., Any], ...] = (self.compute_gradients, self.optimizer_step)
        if compute.device.type == "cuda":
            for dataset in () if task.frozen else (train, val):
                dataset.copy_to(compute.device)
            if group.size == 1 and not any(task.regular().values()):  # a graph draws no new random numbers
                self.halves = (Replayed(self.compute_gradients), Replayed(self.optimizer_step))
        self.epoch = 0
        self.batch = 0  # batches done in this epoch
        self.sums: dict[str, float] = {}
        self.curve: list[dict[str, Any]] = []
        self.kept: list[dict[str, Any]] = []  # the best epochs, see `vitpipe.training.averaging`
        size = min(self.settings.train.batch, len(train))
        local = rank_slice(size, group.rank, group.size)
        # gradients of the processes, each weighted by its number of images, average to those of the whole batch
        self.share = (local.stop - local.start) * group.size / size
        self.per_epoch = batches_per_epoch(train, self.settings.train.batch)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs to go on as if nothing had happened."""
        plain = {name: getattr(self, name) for name in PROGRESS}
        return plain | {"parts": [part.state_dict() for part in self.parts]}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)
        for name in PROGRESS:
            setattr(self, name, state[name])

    @property
    def step(self) -> int:
        """Number of batches done in all epochs."""
        return self.epoch * self.per_epoch + self.batch

    def run(self, resume: Resume) -> None:
        """Trains to the last epoch, from the saved state where there is one; process 0 saves it now and then.

        Raises:
            InputError: the loss is not finite; the last state stays where it was.
        """
        train, main = self.settings.train, self.group.rank == 0
        state = self.group.from_main(resume.load() if main else None)  # other machines may have none, or another
        if state is not None:
            self.restore(state)
            if main:
                print(f"going on from epoch {self.epoch + 1}, batch {self.batch} of {self.per_epoch}", file=sys.stderr)
        saved, pause, patience = time.monotonic(), SAVE_EVERY, train.patience or math.inf
        with progress(self.per_epoch * train.epochs, "train", "batch", done=self.step, shown=main) as bar:
            while self.epoch < train.epochs and self.epoch - (self.kept[0]["epoch"] if self.kept else 0) < patience:
                self.learner.train()
                for batch in shuffled(
                    self.train,
                    train.batch,
                    self.compute.device,
                    seed=self.settings.seed,
                    epoch=self.epoch,
                    flip=train.flip,
                    start=self.batch,
                    rank=self.group.rank,
                    processes=self.group.size,
                ):
                    self.training_step(batch)
                    bar.update()
                    if main and (start := time.monotonic()) - saved > pause:
                        resume.save(self.state())
                        saved = time.monotonic()
                        pause = SAVE_EVERY * max(1.0, saved - start)
                self.finish_epoch(self.epoch + 1)
                if main:
                    shown = ", ".join(f"{name} {value:.4g}" for name, value in self.curve[-1].items() if "_" in name)
                    bar.write(f"epoch {self.epoch}/{train.epochs}: {shown}", file=sys.stderr)
                    resume.save(self.state())
        if not self.curve:  # no epochs: the model stays as it is
            self.finish_epoch(0)
        self.average = averaged(self.kept, train.average, self.score)

    def training_step(self, batch: Batch, lr: float | None = None) -> None:
        """Changes the weights once, with the schedule's learning rate unless `lr` is given."""
        train = self.settings.train
        torch.manual_seed((self.settings.seed * SEED_STEP + self.step) % 2**32)  # for the augmentation
        compute_gradients, optimizer_step = self.halves
        inputs = self.task.augmented(batch)
        if self.group.rank:  # or dropout would be that of the first process
            torch.manual_seed((torch.initial_seed() + (self.group.rank << 24)) % 2**32)
        found = compute_gradients(*inputs)
        norm, *values = torch.stack(list(found.values())).tolist()
        means = self.group.means(dict(zip(list(found)[1:], values, strict=True)), len(batch.local))
        self.check_finite("the loss", means["loss"])
        self.check_finite("the gradient", norm)
        set_lr(self.optimizers, learning_rate(self.step, self.per_epoch, train) if lr is None else lr)
        optimizer_step()
        with torch.no_grad():  # or autograd would keep every step in memory
            torch._foreach_lerp_(self.ema_weights, self.weights, 1 - ema_decay(self.step, train.ema))
        for name, mean in means.items():
            self.sums[name] = self.sums.get(name, 0.0) + mean
        self.batch += 1

    def compute_gradients(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Computes the gradients of the weights, of `train.accumulate` parts one after the other, and clips them.

        Returns:
            `norm`, the norm of all gradients before clipping, `loss` and the other means of the curve, each ().
        """
        self.learner.zero_grad()
        sums: dict[str, Tensor] = {}
        parts = list(zip(*(each.chunk(self.settings.train.accumulate) for each in (inputs, targets)), strict=True))
        for number, part in enumerate(parts, 1):
            share = len(part[0]) / len(inputs)
            alone = self.group.size > 1 and number < len(parts)  # processes exchange gradients once
            with self.wrapped.no_sync() if alone else nullcontext():
                with self.compute.autocast():
                    loss, means = self.task.loss(self.wrapped, *part)
                (loss * (self.share * share)).backward()
            for name, mean in ({"loss": loss.detach()} | means).items():
                sums[name] = mean * share + sums.get(name, 0)
        norm = nn.utils.clip_grad_norm_(self.weights, self.settings.train.clip)
        return {"norm": norm} | sums

    def optimizer_step(self) -> None:
        """One step of each optimizer with the gradients that the weights have."""
        for optimizer in self.optimizers:
            optimizer.step()

    def finish_epoch(self, epoch: int) -> None:
        """Validates the averaged weights, adds a row to the curve and keeps the weights if the epoch is a good one.

        Args:
            epoch: its number; 0 before the first step, when there are no means over training images.
        """
        row: dict[str, Any] = {"epoch": epoch, "step": self.step}
        row["lr"] = learning_rate(self.step - 1, self.per_epoch, self.settings.train)
        row |= {f"train_{name}": total / self.per_epoch for name, total in self.sums.items()}
        if not epoch:
            row |= dict.fromkeys(("train_loss", self.task.best.replace("val_", "train_")))
        row |= {f"val_{name}": mean for name, mean in self.validate().items()}
        for name in ("val_loss", self.task.best):
            self.check_finite(name, row[name])
        self.curve.append(row)
        found = {"epoch": epoch, "score": row[self.task.best], "loss": row["val_loss"]}
        self.kept = best_epochs([*self.kept, found], self.settings.train.average)
        if any(each is found for each in self.kept):
            found["weights"] = {name: each.to("cpu", copy=True) for name, each in self.ema.state_dict().items()}
        self.epoch, self.batch, self.sums = epoch, 0, {}

    def score(self, weights: dict[str, Tensor]) -> float:
        """The validation score of weights, which the averaged model then has."""
        self.ema.load_state_dict(weights)
        scores = self.validate()
        self.check_finite("val_loss", scores["loss"])
        return scores[self.task.best.removeprefix("val_")]

    def validate(self) -> dict[str, float]:
        """Means over the validation images of the task's `validation_scores`, of the averaged weights."""
        return validation_means(self.task, self.ema, self.val, self.compute, self.group)

    def check_finite(self, name: str, value: float) -> None:
        """Raises InputError where the value is no finite number."""
        if not math.isfinite(value):
            raise InputError(
                f"{name} became {value} in epoch {self.epoch + 1} after {self.step} steps: lower train.lr (now "
                f"{self.settings.train.lr:g}) or set train.precision float32; the last good state is kept in .resume"
            )

    def save(self, weights: Path, curve: Path) -> None:
        """Writes the weights that the run ended with, see `save_average`, and the curve (csv)."""
        save_average(weights, self.average, self.task, self.whole)
        write_csv(curve, self.curve)

    def whole(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the whole model, given those of what learns."""
        self.ema.load_state_dict(weights)
        return self.ema_model.state_dict()
