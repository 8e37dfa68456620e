"""Trains the Vision Transformer: data/packed -> models, reports/curve.csv. Goes on where it was killed."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run

PRETRAINED, FEATURES = Path("data/weights/encoder.safetensors"), Path("data/features")


def main(settings: Settings) -> None:
    from torch.distributed import is_torchelastic_launched

    from vitpipe.models.pretrained import read_pretrained
    from vitpipe.tasks import open_part, training_task
    from vitpipe.training.checkpoint import Resume, file_digest, resume_folder
    from vitpipe.training.compute import use_deterministic_cuda
    from vitpipe.training.distributed import join, launch
    from vitpipe.training.loop import Trainer

    if settings.train.processes > 1 and not is_torchelastic_launched():
        launch("stages.train", settings.train.processes)
        return
    with join(settings.train) as (group, compute):
        if compute.device.type == "cuda":
            use_deterministic_cuda()
        train, val = (open_part(settings, Path("data/packed") / part) for part in ("train", "val"))
        pretrained = read_pretrained(PRETRAINED) if settings.model.weights else None
        task = training_task(settings, train.classes, pretrained.encoder if pretrained else None)
        read = [PRETRAINED] if pretrained else []
        read += [FEATURES / f"{part}.npy" for part in ("train", "val")] if task.frozen else []
        digests = [train.digest, val.digest, *map(file_digest, read)]
        resume = Resume(resume_folder(settings, digests, compute))
        group.agree(resume.folder.name)
        trainer = Trainer(task, train, val, compute, group, pretrained)
        del pretrained  # the model has a copy
        trainer.run(resume)
        if group.rank == 0:
            trainer.save(Path("models/model.safetensors"), Path("reports/curve.csv"))
            resume.clear()


if __name__ == "__main__":
    run(main)
