"""Peak memory and time of one training step of a Vision Transformer with random weights.

python -m benchmarks.memory b_16 --accumulate 2        # ViT-B/16, 16 images of 384 px, in two parts
python -m benchmarks.memory l_16 --checkpointing --precision bfloat16

The peak is the largest resident set of the process, with model, averaged weights, gradients and AdamW's state.
"""

import argparse
import resource
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml

from vitpipe.config import Settings, check_settings
from vitpipe.data.batches import Batch
from vitpipe.data.dataset import PackedDataset
from vitpipe.tasks import training_task
from vitpipe.training.compute import select_compute
from vitpipe.training.loop import Trainer

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"b_16": (768, 12, 12), "b_32": (768, 12, 12), "l_16": (1024, 24, 16), "l_32": (1024, 24, 16)}
CLASSES = tuple(str(number) for number in range(37))  # as Oxford-IIIT Pets has


class Noise:
    """Random images, in place of packed ones."""

    copies: dict[str, torch.Tensor] = {}  # noqa: RUF012 - read only

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self.labels = np.arange(count) % len(CLASSES)

    def __len__(self) -> int:
        return self.count

    def images(self, name: str, rows: np.ndarray) -> np.ndarray:
        """(len(rows), size, size, 3) uint8."""
        return np.random.default_rng(0).integers(0, 256, (len(rows), self.size, self.size, 3), np.uint8)


def settings_of(options: argparse.Namespace) -> Settings:
    """The defaults of a classifier with the encoder and the batch that the options name."""
    content: dict[str, Any] = {"recipe": "memory"}
    for name in ("config", "task/classify"):
        for key, value in yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text(encoding="utf-8")).items():
            if key not in ("defaults", "dvc"):
                content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    dim, depth, heads = SIZES[options.encoder]
    content["data"] |= {"size": options.size, "scale": 1}
    content["model"] |= {"patch": int(options.encoder[2:]), "dim": dim, "depth": depth, "heads": heads}
    content["model"] |= {"mlp_ratio": 4.0, "position": "learned", "conv_channels": 0, "conv_blocks": 0}
    content["train"] |= {"batch": options.batch, "accumulate": options.accumulate, "drop_path": 0.1, "device": "cpu"}
    content["train"] |= {"grad_checkpointing": options.checkpointing, "precision": options.precision}
    return check_settings(content, "benchmarks.memory")


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("encoder", choices=SIZES)
    parser.add_argument("--size", type=int, default=384, help="side of the images in pixels (default: 384)")
    parser.add_argument("--batch", type=int, default=16, help="(default: 16)")
    parser.add_argument("--accumulate", type=int, default=1, help="parts of the batch (default: 1)")
    parser.add_argument("--checkpointing", action="store_true", help="compute blocks again in the backward pass")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    settings = settings_of(options)
    noise = cast(PackedDataset, Noise(options.batch, options.size))
    compute = select_compute(settings.train)
    run = Trainer(training_task(settings, CLASSES), noise, noise, compute)
    run.learner.train()
    start = time.perf_counter()
    run.training_step(Batch(noise, np.arange(options.batch), compute.device))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    millions = sum(weight.numel() for weight in run.weights) / 1e6
    print(f"{options.encoder}: {millions:.0f} M weights, peak {peak:.2f} GB, {seconds:.1f} s", vars(options))


if __name__ == "__main__":
    main()
