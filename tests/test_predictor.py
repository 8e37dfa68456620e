"""A weights file is all that it takes: in another process, in an empty folder, for whatever holds an image."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

import vitpipe
from vitpipe.data.packing import targets_of
from vitpipe.errors import InputError
from vitpipe.predictor import load_model
from vitpipe.tasks.base import scoring_task
from vitpipe.training.checkpoint import read_metadata, save_weights

CLASSES = ("not odd", "odd")


@pytest.fixture
def weights(tmp_path, settings):
    """Writes the weights of an untrained model: `weights("classify", **{"model.dim": 32})`."""

    def made(task: str = "supersample", **changes: object) -> Path:
        chosen, classes, path = settings(task, **changes), CLASSES[: 2 * (task == "classify")], tmp_path / task
        torch.manual_seed(0)
        metadata = {"settings": chosen.model_dump(mode="json"), "classes": classes}
        save_weights(path, scoring_task(chosen, classes).build().state_dict(), metadata)
        return path

    return made


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_the_file_alone_is_enough_in_another_process(weights, tmp_path):
    """The import is light, and everything else happens when it is asked for."""
    empty = tmp_path / "empty"
    empty.mkdir()
    Image.fromarray(noise(30, 40, 3)).save(tmp_path / "photo.png")
    code = f"""
import json, sys
import vitpipe
assert not {{"torch", "numpy", "PIL", "pydantic"}} & set(sys.modules)
assert {{"load", "capture", "Predictor"}} <= set(dir(vitpipe))
model = vitpipe.load({str(weights("classify"))!r})
found = model.predict({str(tmp_path / "photo.png")!r})
explanation = model.explain({str(tmp_path / "photo.png")!r})
print(json.dumps([found, model.task_name, model.classes, explanation.map.shape, explanation.shown["predicted"]]))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=empty, env=environment)
    found, task, classes, shape, predicted = json.loads(printed)
    assert (task, classes, shape) == ("classify", list(CLASSES), [4, 4])
    assert predicted == found[0]["label"]
    here = vitpipe.load(tmp_path / "classify").predict(tmp_path / "photo.png")
    assert [entry["label"] for entry in found] == [entry["label"] for entry in here]
    assert [entry["score"] for entry in found] == pytest.approx([entry["score"] for entry in here])
    assert sum(entry["score"] for entry in found) == pytest.approx(1)


def test_a_super_sampler_gives_images(weights):
    model = vitpipe.load(weights(**{"model.consistent": True}))
    image = noise(12, 12, 3)
    made = model.predict([image, Image.fromarray(image), image[..., 0]])
    assert [type(each) for each in made] == [Image.Image] * 3
    assert np.array_equal(made[0], made[1])
    expected = model.task.predict(model.model, image[None])[0]
    assert np.array_equal(made[0], expected)
    with pytest.raises(InputError, match="40x30 pixels, but this super-sampler takes 12x12"):
        model.predict(noise(30, 40, 3))
    assert model.predict([]) == []


def test_images_of_all_kinds_are_read_as_the_pipeline_reads_them(weights, tmp_path):
    model = vitpipe.load(weights("classify"))
    image = Image.fromarray(noise(31, 20, 3))
    image.save(tmp_path / "a.png")
    seen = targets_of(image, model.settings.data)["lr"]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    turned = Image.open(tmp_path / "turned.png")
    for other in (noise(31, 20, 3), image, tmp_path / "a.png", f"{tmp_path}/a.png", tmp_path / "turned.png", turned):
        assert np.array_equal(model.prepare(other), seen)
    assert turned.getexif()[0x0112] == 6, "as it was"
    assert (model.prepare(Image.fromarray(np.full((20, 20), 257 * 100, np.uint16))) == 100).all()
    assert (model.prepare(np.dstack([noise(20, 20, 3), np.zeros((20, 20), np.uint8)])) == 255).all()
    assert np.array_equal(model.prepare(noise(20, 20)), model.prepare(np.dstack([noise(20, 20)] * 3)))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (3, "must be a PIL image, a path or a uint8 array, not int"),
        (np.zeros((9, 9, 3), np.float32), r"must be uint8 \(h, w\).* but is float32 \(9, 9, 3\)"),
        (np.zeros((1, 9, 9, 3), np.uint8), r"but is uint8 \(1, 9, 9, 3\)"),
        (np.zeros((9, 9, 2), np.uint8), r"but is uint8 \(9, 9, 2\)"),
        (np.zeros((0, 9, 3), np.uint8), r"but is uint8 \(0, 9, 3\)"),
        (np.zeros(9, np.uint8), r"but is uint8 \(9,\)"),
        ("nowhere.png", "nowhere.png: No such file"),
        ("folder", "folder: Is a directory"),
        ("text.png", "text.png is no picture"),
        ("cut.png", "cut.png is damaged"),
    ],
)
def test_what_is_no_image_is_one_line(weights, tmp_path, monkeypatch, image, reason):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("text.png").write_text("no picture", encoding="utf-8")
    content = io.BytesIO()
    Image.fromarray(noise(50, 50, 3)).save(content, "PNG")
    Path("cut.png").write_bytes(content.getvalue()[:-3000])
    with pytest.raises(InputError, match=reason) as caught:
        vitpipe.load(weights("classify")).predict([noise(9, 9, 3), image])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", ["classify", "supersample"])
def test_explanations_by_every_method(weights, task):
    model = vitpipe.load(weights(task, **{"data.scale": 1} if task == "classify" else {}))
    image = noise(*[model.settings.data.input_size] * 2, 3)
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    methods = model.task.questions(model.model, torch.zeros(1, 3, *image.shape[:2])).methods
    found = {method: model.explain(image, method=method) for method in methods}
    for method, explanation in found.items():
        assert explanation.method == method
        assert explanation.map.dtype == np.float32
        assert explanation.map.shape == model.model.encoder.grid
        assert np.isfinite(explanation.map).all()
        assert np.array_equal(explanation.image, image)
        assert explanation.shown
    assert np.array_equal(model.explain(image).map, found["rollout"].map)
    assert not np.array_equal(found["raw"].map, found["rollout"].map)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.model.state_dict().items())
    with pytest.raises(InputError, match=f"no method 'magic' for this {task} model: use raw, rollout, "):
        model.explain(image, method="magic")


def test_a_model_without_attention_is_explained_by_gradients(weights):
    model = vitpipe.load(weights("supersample", **{"model.attention": "none"}))
    assert model.explain(noise(12, 12, 3), method="gradient").map.shape == (4, 4)
    with pytest.raises(InputError, match="no method 'rollout' for this supersample model: use gradient, smooth, local"):
        model.explain(noise(12, 12, 3))


def test_loading_draws_no_numbers_and_takes_other_settings_of_the_same_model(weights, settings):
    path = weights("classify")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    task, model = load_model(path, settings("classify", **{"task.show": ["odd"], "train.lr": 0.1}))
    assert torch.equal(torch.rand(1), expected)
    assert not model.training
    assert task.compared_classes == ("odd",)
    assert (task.classes, task.settings.train.lr) == (CLASSES, 0.1)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("supersample", {"model.skip": "nearest"}),  # of these the weights have the same shapes
        ("supersample", {"model.consistent": True}),
        ("supersample", {"model.heads": 4}),
        ("supersample", {"data.size": 48, "data.scale": 4}),
        ("classify", {"task.target": "even"}),
        ("classify", {"model.dim": 32}),
    ],
)
def test_weights_of_another_model_are_refused(weights, settings, task, changes):
    with pytest.raises(InputError, match=r"trained with other model settings than params\.yaml has: run dvc repro"):
        load_model(weights(task), settings(task, **changes))


def test_files_that_do_not_fit_themselves_are_one_line(weights, tmp_path):
    path = weights("classify")
    metadata = read_metadata(path)
    other = tmp_path / "other.safetensors"
    cases = {
        "does not hold the weights that its settings describe": metadata | {"classes": ["a", "b", "c"]},
        "task.name is None": metadata | {"settings": {}},
        "model.patch is missing": metadata | {"settings": metadata["settings"] | {"model": {"width": 1}}},
    }
    for reason, changed in cases.items():
        save_weights(other, scoring_task(load_model(path)[0].settings, CLASSES).build().state_dict(), changed)
        with pytest.raises(InputError, match=rf"other\.safetensors.*{reason}") as caught:
            vitpipe.load(other)
        assert "\n" not in str(caught.value)
    other.write_bytes(save({"a": torch.ones(2)}))
    with pytest.raises(InputError, match="does not say how its model was built"):
        vitpipe.load(other)


def test_names_that_do_not_exist():
    with pytest.raises(AttributeError, match="module 'vitpipe' has no attribute 'magic'"):
        vitpipe.magic  # noqa: B018
