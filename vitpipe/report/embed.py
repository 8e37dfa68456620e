"""Pictures and arrays as text inside the page."""

import base64
import io
import zipfile
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitpipe.errors import InputError
from vitpipe.files import damaged, load_json, read

STAGE = "heatmap"  # makes the explorer's arrays
WEBP_SIDE = 16383  # pixels, the most that the format knows
ARRAYS = ("ids", "codes", "values", "error", "heads", "averaged", "grid", "token")
SUPERSAMPLED = ("lr", "bicubic", "model", "hr", "psnr_bicubic", "psnr_model")
CLASSIFIED = ("images", "classes", "actual", "predicted", "probabilities")


def figures(folder: Path, stage: str) -> list[dict[str, str]]:
    """Title, caption and picture as a data URI of every figure of a folder, in the order of its captions.

    Raises:
        InputError: captions and files do not match, or a picture is damaged.
    """
    captions = load_json(folder / "captions.json", stage)
    if bare := {path.name for path in folder.glob("*.png")} - set(captions):
        raise InputError(f"{folder / min(bare)} has no caption in {folder / 'captions.json'}: run {stage} again")
    with ThreadPoolExecutor() as pool:  # encoders leave Python's lock to others
        sources = pool.map(lambda name: figure(folder / name, stage), captions)
        return [
            {"file": name, "source": source} | captions[name] for name, source in zip(captions, sources, strict=True)
        ]


def figure(path: Path, stage: str) -> str:
    try:
        with Image.open(io.BytesIO(read(path, stage))) as image:
            return picture(image.convert("RGB"))
    except OSError:  # what Pillow raises
        raise damaged(path, stage) from None


def picture(image: Image.Image) -> str:
    """An RGB image as a data URI: WebP without loss, which takes two thirds of PNG's bytes, PNG if it is too large."""
    kind = "webp" if max(image.size) <= WEBP_SIDE else "png"
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"lossless": True, "quality": 50, "method": 2} if kind == "webp" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def explorer(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What the page needs of explorer.npz (see `vitpipe.explain.explorer`).

    Returns:
        The facts, ready for JSON: grid, token, layers, heads, averaged, error, classes (none where nothing is
        classified), values (256 weights) and the samples, one dict each: id, pictures (name to data URI) and psnr
        (name to dB), or actual, predicted and probabilities by class index. And the codes of each sample, (l, h, n, n)
        in C order, deflated and in base64.

    Raises:
        InputError: it is missing, damaged or holds other arrays.
    """
    try:
        with np.load(io.BytesIO(read(path, STAGE)), allow_pickle=False) as file:
            arrays = dict(file)
        outcome = CLASSIFIED if "classes" in arrays else SUPERSAMPLED
        found = {name: arrays[name] for name in (*ARRAYS, *outcome)}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile):
        raise damaged(path, STAGE) from None
    codes = found["codes"]
    facts = {
        "grid": int(found["grid"]),
        "token": bool(found["token"]),
        "layers": codes.shape[1],
        "heads": int(found["heads"]),
        "averaged": bool(found["averaged"]),
        "error": float(found["error"]),
        "values": found["values"].tolist(),
        "classes": arrays["classes"].tolist() if outcome is CLASSIFIED else [],
    }
    with ThreadPoolExecutor() as pool:
        facts["samples"] = list(pool.map(lambda row: sample(found, row), range(len(codes))))
        return facts, list(pool.map(deflated, codes))


def deflated(codes: np.ndarray) -> str:
    """Codes compressed, in base64."""
    return base64.b64encode(zlib.compress(codes.tobytes(), 6)).decode()


def sample(arrays: Mapping[str, np.ndarray], row: int) -> dict[str, Any]:
    """What the page shows of one image beside its attention."""

    def pictures(*names: str) -> dict[str, str]:
        return {name: picture(Image.fromarray(arrays[name][row])) for name in names}

    if "classes" in arrays:
        return {
            "id": str(arrays["ids"][row]),
            "pictures": {"input": pictures("images")["images"]},
            "actual": str(arrays["actual"][row]),
            "predicted": str(arrays["predicted"][row]),
            "probabilities": arrays["probabilities"][row].tolist(),
        }
    shown = pictures("lr", "bicubic", "model", "hr")
    return {
        "id": str(arrays["ids"][row]),
        "pictures": {"input": shown["lr"], "bicubic": shown["bicubic"], "model": shown["model"]}
        | {"original": shown["hr"]},
        "psnr": {name: float(arrays[f"psnr_{name}"][row]) for name in ("bicubic", "model")},
    }
