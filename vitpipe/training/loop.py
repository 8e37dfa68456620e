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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitpipe.data.batches import Batch, batches_per_epoch, rank_slice, scoring_batches, shuffled
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import normalize
from vitpipe.errors import InputError
from vitpipe.files import write_csv
from vitpipe.progress import progress
from vitpipe.training.checkpoint import Resume, save_weights
from vitpipe.training.compute import Compute
from vitpipe.training.distributed import Group
from vitpipe.training.optimizers import optimizers
from vitpipe.training.replay import Replayed
from vitpipe.training.schedule import ema_decay, learning_rate
from vitpipe.training.task import TrainingTask

SAVE_EVERY = 20.0  # seconds between saved states: the most that a killed run loses
PROGRESS = ("epoch", "batch", "sums", "curve", "best")  # attributes of `Trainer` that change, beside the weights
SEED_STEP = 0x9E3779B1  # keeps the random numbers of neighbouring seeds apart in the 32 bits that torch uses on a CPU


class Trainer:
    """One run: model, averaged weights, optimizers, curve and the best epoch so far.

    Args:
        task: what to learn, with all settings.
        train: the images to learn from.
        val: the images that choose the epoch.
        group: the processes that train together; all of them hold the same model and curve.
    """

    def __init__(
        self,
        task: TrainingTask,
        train: PackedDataset,
        val: PackedDataset,
        compute: Compute,
        group: Group = Group(),  # noqa: B008 - frozen
    ) -> None:
        self.task, self.settings, self.train, self.val, self.compute = task, task.settings, train, val, compute
        self.group = group
        torch.manual_seed(self.settings.seed)
        self.model = task.build().to(compute.device)
        self.ema_model = copy.deepcopy(self.model).requires_grad_(False)
        self.wrapped = self.model if group.size == 1 else nn.parallel.DistributedDataParallel(self.model)
        self.weights: list[Tensor] = list(self.model.parameters())
        self.ema_weights: list[Tensor] = list(self.ema_model.parameters())
        self.optimizers = optimizers(self.model, self.settings.train, compute.dtype)
        self.parts: list[Any] = [self.model, self.ema_model, *self.optimizers]
        self.lr = torch.zeros((), device=compute.device)
        self.halves: tuple[Callable[..., Any], ...] = (self.compute_gradients, self.optimizer_step)
        if compute.device.type == "cuda":
            for dataset in (train, val):
                dataset.copy_to(compute.device)
            if group.size == 1:
                self.halves = (Replayed(self.compute_gradients), Replayed(self.optimizer_step))
        self.epoch = 0
        self.batch = 0  # batches done in this epoch
        self.sums: dict[str, float] = {}
        self.curve: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"epoch": 0, "score": -math.inf, "loss": math.inf, "weights": {}}
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
        saved, patience = time.monotonic(), train.patience or math.inf
        with progress(self.per_epoch * train.epochs, "train", "batch", done=self.step, shown=main) as bar:
            while self.epoch < train.epochs and self.epoch - self.best["epoch"] < patience:
                self.model.train()
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
                    if main and time.monotonic() - saved > SAVE_EVERY:
                        resume.save(self.state())
                        saved = time.monotonic()
                self.finish_epoch()
                if main:
                    shown = ", ".join(f"{name} {value:.4g}" for name, value in self.curve[-1].items() if "_" in name)
                    bar.write(f"epoch {self.epoch}/{train.epochs}: {shown}", file=sys.stderr)
                    resume.save(self.state())

    def training_step(self, batch: Batch, lr: float | None = None) -> None:
        """Changes the weights once, with the schedule's learning rate unless `lr` is given."""
        train = self.settings.train
        torch.manual_seed((self.settings.seed * SEED_STEP + self.step) % 2**32)  # for the augmentation
        compute_gradients, optimizer_step = self.halves
        found = compute_gradients(*self.task.augmented(batch))
        norm, *values = torch.stack(list(found.values())).tolist()
        means = self.group.means(dict(zip(list(found)[1:], values, strict=True)), len(batch.local))
        self.check_finite("the loss", means["loss"])
        self.check_finite("the gradient", norm)
        self.set_lr(learning_rate(self.step, self.per_epoch, train) if lr is None else lr)
        optimizer_step()
        with torch.no_grad():  # or autograd would keep every step in memory
            torch._foreach_lerp_(self.ema_weights, self.weights, 1 - ema_decay(self.step, train.ema))
        for name, mean in means.items():
            self.sums[name] = self.sums.get(name, 0.0) + mean
        self.batch += 1

    def compute_gradients(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Computes the gradients of the weights and clips them.

        Returns:
            `norm`, the norm of all gradients before clipping, `loss` and the other means of the curve, each ().
        """
        with self.compute.autocast():
            loss, means = self.task.loss(self.wrapped, inputs, targets)
        self.model.zero_grad()
        (loss * self.share).backward()
        norm = nn.utils.clip_grad_norm_(self.weights, self.settings.train.clip)
        return {"norm": norm, "loss": loss.detach()} | means

    def optimizer_step(self) -> None:
        """One step of each optimizer with the gradients that the weights have."""
        for optimizer in self.optimizers:
            optimizer.step()

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate of all optimizers: on a CUDA device in a tensor, which a recorded step reads anew."""
        value = self.lr.fill_(lr) if self.lr.is_cuda else lr
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = value

    def finish_epoch(self) -> None:
        """Validates the averaged weights, adds a row to the curve and keeps the weights of the best epoch.

        Of epochs with the same score, such as the accuracy on few images, the one with the lowest loss is the best.
        """
        row: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step}
        row["lr"] = learning_rate(self.step - 1, self.per_epoch, self.settings.train)
        row |= {f"train_{name}": total / self.per_epoch for name, total in self.sums.items()}
        row |= {f"val_{name}": mean for name, mean in self.validate().items()}
        for name in ("val_loss", self.task.best):
            self.check_finite(name, row[name])
        self.curve.append(row)
        score, loss = row[self.task.best], row["val_loss"]
        if (score, -loss) > (self.best["score"], -self.best["loss"]):
            weights = {name: tensor.clone() for name, tensor in self.ema_model.state_dict().items()}
            self.best = {"epoch": self.epoch + 1, "score": score, "loss": loss, "weights": weights}
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Means over the validation images of the task's `validation_scores`, of the averaged weights."""
        self.ema_model.eval()
        rows = np.arange(len(self.val))[rank_slice(len(self.val), self.group.rank, self.group.size)]
        sums: dict[str, float] = {}
        for some in scoring_batches(self.val, rows):
            batch = Batch(self.val, some, self.compute.device)
            images = normalize(batch.lr)
            with self.compute.autocast():
                output = self.ema_model(images).float()
            for name, values in self.task.validation_scores(output, images, self.task.targets(batch)).items():
                sums[name] = sums.get(name, 0.0) + float(values.sum())
        return self.group.means({name: total / len(rows) for name, total in sums.items()}, len(rows))

    def check_finite(self, name: str, value: float) -> None:
        """Raises InputError where the value is no finite number."""
        if not math.isfinite(value):
            raise InputError(
                f"{name} became {value} in epoch {self.epoch + 1} after {self.step} steps: lower train.lr (now "
                f"{self.settings.train.lr:g}) or set train.precision float32; the last good state is kept in .resume"
            )

    def save(self, weights: Path, curve: Path) -> None:
        """Writes the weights of the best epoch, with settings and classes in their metadata, and the curve (csv)."""
        settings = self.settings
        shared = settings.model_copy(update={"data": settings.data.model_copy(update={"root": None})})
        metadata = {
            "epoch": self.best["epoch"],
            self.task.best: self.best["score"],
            "settings": shared.model_dump(mode="json"),
            "classes": self.task.classes,
        }
        save_weights(weights, self.best["weights"], metadata)
        write_csv(curve, self.curve)
