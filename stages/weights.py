"""Reads pretrained weights of the encoder: model.weights -> data/weights. Without them the folder says so."""

from pathlib import Path

from vitpipe.config import Settings
from vitpipe.stage import run

FOLDER = Path("data/weights")


def main(settings: Settings) -> None:
    from vitpipe.files import atomic_folder, write_json

    if settings.model.weights is None:
        with atomic_folder(FOLDER) as folder:
            write_json(folder / "none.json", {})
        print(f"{FOLDER}: none, the encoder starts with random weights")
        return
    from vitpipe.models.pretrained import write_pretrained
    from vitpipe.weights.agreement import check_agreement
    from vitpipe.weights.loading import read_source

    pretrained = read_source(settings.model.weights, settings.model.heads)
    check_agreement(settings, pretrained)
    with atomic_folder(FOLDER) as folder:
        write_pretrained(folder / "encoder.safetensors", pretrained)
    encoder, (height, width) = pretrained.encoder, pretrained.size
    print(
        f"{FOLDER}: {pretrained.source} ({pretrained.family}), depth {encoder['depth']}, dim {encoder['dim']}, "
        f"patch {encoder['patch']}, for {height}x{width} images of mean {encoder.get('mean') or 0.5}; "
        f"dropped: {', '.join(pretrained.dropped[:4]) or 'nothing'}{', ...' if len(pretrained.dropped) > 4 else ''}"
    )
    if Path(settings.model.weights).suffix and pretrained.family != "vitpipe":
        told = f"{encoder['act']}, mean and standard deviation are those that most files with such names have"
        print(f"{FOLDER}: {told}; a config.json of timm or Hugging Face beside the file is believed more")


if __name__ == "__main__":
    run(main)
