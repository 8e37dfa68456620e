"""Every kind of figure is drawn from its arrays alone, with captions, byte for byte the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from vitpipe.figures import KINDS, draw

FILES = {
    "gallery": ["gallery", "best", "worst", "hero"],
    "confusion": ["confusion", "confusion_rows"],
    "class_attention": ["class_attention", "class_heads"],
    "maps": ["overview", "received_head", "received_layer1", "queries"],
    "place": ["place", "content"],
    "positions": ["positions", "position_matrix"],
}
OPTIONS = {
    "ranking": {"count": 2},
    "maps": {"layers": 1, "heads": 2},
    "class_attention": {"images": 1},
    "pixels": {"images": 1},
    "methods": {"windows": True},
    "filters": {"count": 3},
}
ODD = {
    "font.size": 30,
    "axes.facecolor": "red",
    "lines.marker": "x",
    "savefig.bbox": "tight",
    "text.usetex": True,
    "text.antialiased": False,
    "image.origin": "lower",
    "image.aspect": "auto",
    "image.cmap": "gray",
    "figure.autolayout": True,
    "figure.dpi": 50,
    "path.sketch": (1, 100, 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_saved_arrays_give_the_same_figures_whatever_matplotlibrc_says(make, tmp_path, kind):
    arrays, again = make(kind, **OPTIONS.get(kind, {})), tmp_path / "again"
    draw({kind: arrays}, tmp_path)
    captions = json.loads((tmp_path / "captions.json").read_text(encoding="utf-8"))
    assert list(captions) == [f"{name}.png" for name in FILES.get(kind, [kind])]
    assert sorted(captions) == sorted(path.name for path in tmp_path.glob("*.png"))
    assert all(text["title"] and text["caption"] for text in captions.values())

    again.mkdir()
    np.savez_compressed(tmp_path / "arrays.npz", allow_pickle=False, **arrays)
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as file, matplotlib.rc_context(ODD):
        before = dict(matplotlib.rcParams)
        draw({kind: file}, again)
        assert dict(matplotlib.rcParams) == before
    for name in captions:
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes(), name
        assert Image.open(again / name).text == {}  # no dates or versions


def test_captions_have_an_order_and_arrays_of_others_are_skipped(make, tmp_path):
    kinds = ("distances", "explorer", "curve")
    draw({kind: make(kind) if kind in KINDS else {"codes": np.zeros(1)} for kind in kinds}, tmp_path)
    assert list(json.loads((tmp_path / "captions.json").read_text(encoding="utf-8"))) == ["curve.png", "distances.png"]


BACKEND = """
import sys
import vitpipe.figures
import matplotlib
assert "matplotlib.pyplot" not in sys.modules
print(matplotlib.rcParams._get("backend") if sys.argv[1:] else "")
from vitpipe.figures.style import Sheet, save
from pathlib import Path
save(Sheet(50, 50).figure, Path("a.png"))
"""


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_not_here", "nonsense", "tkagg", "svg"])
def test_figures_are_drawn_whatever_mplbackend_says(tmp_path, backend):
    (tmp_path / "matplotlibrc").write_text("image.origin: lower\ntext.usetex: True\n", encoding="utf-8")
    environment = os.environ | {"MPLBACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-c", BACKEND, *(["told"] if backend in ("tkagg", "svg") else [])]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (backend if len(words) > 3 else "")  # the user's own figures keep theirs
    assert Image.open(tmp_path / "a.png").size == (50, 50)
