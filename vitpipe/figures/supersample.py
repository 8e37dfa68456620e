"""The figures of super-resolution, from what the task's `examples` gives."""

from pathlib import Path

import pandas as pd

from vitpipe.figures.curves import curves
from vitpipe.figures.gallery import gallery, hero
from vitpipe.figures.style import save
from vitpipe.files import write_json

TITLES = {
    "gallery": (
        "Test images: input, bicubic, model and target",
        "Taken at even distances through the test images, not chosen by score. PSNR in dB under each; "
        "error maps share one scale.",
    ),
    "best": (
        "Where the model gains most over bicubic",
        "The test images with the largest difference in PSNR between model and bicubic.",
    ),
    "worst": (
        "Where the model gains least over bicubic",
        "The test images with the smallest difference in PSNR between model and bicubic.",
    ),
}


def draw(examples: dict[str, dict], curve: pd.DataFrame, folder: Path) -> None:
    """Writes curve, gallery, best, worst and the wide picture as PNG files, with their captions."""
    captions = {
        "curve.png": {
            "title": "Training",
            "caption": "Loss and PSNR per epoch; the marked epoch, best on validation images, was kept.",
        }
    }
    bicubic = ("bicubic", float(curve.val_bicubic_psnr.iloc[-1]))
    save(curves(curve, "psnr", bicubic), folder / "curve.png")
    for name, (title, caption) in TITLES.items():
        save(gallery(**examples[name], title=title), folder / f"{name}.png")
        captions[f"{name}.png"] = {"title": title, "caption": caption}
    faces = {key: value[:4] for key, value in examples["gallery"].items() if key != "ids"}
    save(hero(**faces), folder / "hero.png")
    captions["hero.png"] = {"title": "At a glance", "caption": "The first test images of the gallery, enlarged."}
    write_json(folder / "captions.json", captions)
