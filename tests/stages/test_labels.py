"""Labels that cannot be learned: the stage that needs them says so in one line and writes nothing."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from vitpipe.config import Settings
from vitpipe.data.packing import pack
from vitpipe.data.split import split
from vitpipe.sources import folder
from vitpipe.stage import run
from vitpipe.tasks import training_task
from vitpipe.training.checkpoint import save_weights

CLASSIFY = {
    "task.target": "label",
    "data.root": "photos",
    "data.size": 16,
    "data.scale": 1,
    "data.test": 0.2,
    "data.val": 0.2,
    "model.patch": 4,
    "model.conv_channels": 0,
    "model.conv_blocks": 0,
}
TWENTY = {"cat": 20, "dog": 20}


@pytest.fixture
def photos(tmp_path, params, settings, monkeypatch) -> Callable[..., Settings]:
    """Packs pictures, a number for each folder, as the stages before training do: `photos({"cat": 20, "dog": 20})`.

    Also writes params.yaml into the working directory, and makes the stages importable.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[2])

    def made(counts: dict[str, int], **changes: object) -> Settings:
        random = np.random.default_rng(0)
        for name, count in counts.items():
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
                image.save(tmp_path / "photos" / name / f"{number:02d}.png")
        content = params("classify", **(CLASSIFY | changes))
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        chosen = settings("classify", **(CLASSIFY | changes))
        raw, packed = tmp_path / "data/raw", tmp_path / "data/packed"
        for path in (raw, packed):
            path.mkdir(parents=True)
        folder.fetch(chosen.data, chosen.seed, raw)
        pack(split(folder.samples(raw), chosen.data, chosen.seed), folder.open_images(raw), chosen.data, packed)
        return chosen

    return made


def told(name: str) -> str:
    """The message that the stage exits with, run in this process."""
    with pytest.raises(SystemExit) as stop:
        run(import_module(f"stages.{name}").main)
    assert isinstance(stop.value.code, str)
    return stop.value.code


def written(workspace: Path) -> set[str]:
    """All files except those of the fixture."""
    files = {path.relative_to(workspace).as_posix() for path in workspace.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(("photos/", "data/")) and name != "params.yaml"}


def test_labels_that_cannot_be_learned(photos, tmp_path):
    photos(TWENTY | {"": 3})
    for name in ("train", "baseline"):
        assert told(name) == f"{name}: 3 of 43 images have no label (task.target): label or remove them"
    assert not written(tmp_path)


def test_an_unknown_class_to_show(photos, tmp_path):
    chosen = photos(TWENTY, **{"task.show": ["dog", "caat"]})
    weights = training_task(chosen, ("cat", "dog")).build().state_dict()
    metadata = {"settings": chosen.model_dump(mode="json"), "classes": ["cat", "dog"], "epoch": 1}
    save_weights(tmp_path / "models" / "model.safetensors", weights, metadata)
    assert told("explain") == "explain: task.show names 'caat', but the classes are cat, dog"
    assert written(tmp_path) == {"models/model.safetensors"}
