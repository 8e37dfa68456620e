"""Pictures and arrays as text inside the page."""

import base64
import io
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitpipe.errors import InputError
from vitpipe.files import damaged, load_arrays, load_json, read

WEBP_SIDE = 16383  # pixels, the most that the format allows


def figures(folder: Path, stage: str) -> list[dict[str, str]]:
    """Title, caption and picture as a data URI of every figure of a folder, in the order of its captions.

    Raises:
        InputError: captions and files do not match, or a picture is damaged.
    """
    captions = load_json(folder / "captions.json", stage)
    if bare := {path.name for path in folder.glob("*.png")} - set(captions):
        raise InputError(f"{folder / min(bare)} has no caption in {folder / 'captions.json'}: run {stage} again")
    with ThreadPoolExecutor() as pool:  # encoders release Python's lock
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
    """An RGB image as a data URI: lossless WebP, which takes two thirds of PNG's bytes, or PNG if it is too large."""
    kind = "webp" if max(image.size) <= WEBP_SIDE else "png"
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"lossless": True, "quality": 50, "method": 2} if kind == "webp" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def explorer(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What the page needs of explorer.npz (see `vitpipe.explain.explorer`).

    Returns:
        The info, ready for JSON: grid, rows and columns of patches; prefix, the number of tokens before them; layers,
        heads, averaged, error; values (256 weights); pictures, readings and classes, names; and samples, one dict
        each: id, pictures (name to data URI), readings (name to text) and, where there are classes, probabilities in
        their order and actual. And the codes of each sample, (l, h, t, t) in C order, compressed by zlib, in base64.

    Raises:
        InputError: the file is missing, damaged or holds other arrays.
    """
    arrays = load_arrays(path, "explain")
    try:
        codes = arrays["codes"]
        names = ("grid", "heads", "averaged", "error", "values", "pictures", "readings", "classes")
        info: dict[str, Any] = {name: arrays[name].tolist() for name in names}
        info |= {"prefix": int(arrays["prefix_tokens"]), "layers": codes.shape[1]}
        with ThreadPoolExecutor() as pool:
            info["samples"] = list(pool.map(lambda row: sample(arrays, info, row), range(len(codes))))
            return info, list(pool.map(compressed, codes))
    except KeyError:
        raise damaged(path, "explain") from None


def sample(arrays: dict[str, np.ndarray], info: dict[str, Any], row: int) -> dict[str, Any]:
    """What the page shows of one image besides its attention."""
    found: dict[str, Any] = {
        "id": str(arrays["ids"][row]),
        "pictures": {name: picture(Image.fromarray(arrays[f"picture_{name}"][row])) for name in info["pictures"]},
        "readings": {name: str(arrays[f"reading_{name}"][row]) for name in info["readings"]},
    }
    if info["classes"]:
        found |= {"actual": str(arrays["actual"][row]), "probabilities": arrays["probabilities"][row].tolist()}
    return found


def compressed(codes: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(codes.tobytes(), 6)).decode()
