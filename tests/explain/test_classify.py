"""Every array of every picture belongs to the images of its ids, and nothing is shown that is not there."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import normalize
from vitpipe.errors import InputError
from vitpipe.explain import classify as explained
from vitpipe.explain import explanations
from vitpipe.explain.capture import record_attention
from vitpipe.explain.classify import attention_per_class, class_attention, pixels, views
from vitpipe.figures.heatmaps import draw
from vitpipe.training.compute import Compute
from vitpipe.tasks import classify
from vitpipe.training.checkpoint import save_weights
from vitpipe.training.loop import Training

CPU = torch.device("cpu")
COMPUTE = Compute(CPU, torch.float32)
CLASSES = ("east", "north", "south", "west")
CLASSIFY = {"task.name": "classify", "task.target": "label"}
ALL = np.arange(12)


def corner(sample: str) -> tuple[int, int]:
    """Row and column, in LR pixels, of the 2x2 square in a picture; no two of the test pictures have the same."""
    number = int(sample.removesuffix(".png"))
    return 2 * (number % 5), 2 * (number % 6)


class Squares:
    """A white square on grey. Grey is next to 0 for a model, so `Energy` depends on the square alone."""

    def read(self, sample: str) -> Image.Image:
        image = np.full((24, 24, 3), 128, np.uint8)
        row, column = (2 * place for place in corner(sample))
        image[row : row + 4, column : column + 4] = 255
        return Image.fromarray(image)


class Energy(nn.Module):
    """Logits +q and -q in turns, q the mean square of the pixels: a pixel's gradient grows with the pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        square = images.square().mean((1, 2, 3))
        return torch.stack([square, -square, square, -square], 1)


@pytest.fixture
def shapes() -> Squares:
    return Squares()


@pytest.fixture
def table(table) -> pd.DataFrame:
    """Of the 12 test images 4 are north, 4 south, 3 west and 1 is east."""
    label = [CLASSES[i % 4] for i in range(48)] + [*["north", "south", "west"] * 3, "north", "south", "east"]
    return table.assign(label=label)


@pytest.fixture
def test(packed) -> PackedDataset:
    return PackedDataset(packed / "test", "label")


@pytest.fixture
def build(settings):
    """A classifier whose attention differs from image to image: `build(seed, **settings)`."""

    def made(seed: int = 0, **changes):
        torch.manual_seed(seed)
        net = classify.build(settings(**CLASSIFY, **changes), CLASSES)
        for block in net.encoder.blocks:
            block.attention.qkv.weight.data *= 8
        return net

    return made


def weights_of(model, packed: PackedDataset) -> torch.Tensor:
    lr = torch.from_numpy(packed.images("lr", np.arange(len(packed)))).permute(0, 3, 1, 2)
    with torch.inference_mode(), record_attention(model) as record:
        model(normalize(lr))
    return record.weights


def moved(packed: PackedDataset, order: np.ndarray, folder) -> PackedDataset:
    """The same images under the same ids, in another order."""
    shutil.copytree(packed.folder, folder / "test")
    shutil.copy(packed.folder.parent / "manifest.json", folder)
    for name in ("lr", "hr"):
        np.save(folder / "test" / f"{name}-000.npy", packed.images(name, order))
    packed.samples.iloc[order].to_csv(folder / "test" / "samples.csv")
    return PackedDataset(folder / "test", "label")


def test_explanations_are_found_by_the_name_of_the_task():
    assert explanations("classify") is explained


@pytest.mark.parametrize("readout", ["token", "mean"])
def test_arrays_move_with_their_ids(build, test, tmp_path, readout):
    model, order = build(**{"model.readout": readout}), np.random.default_rng(0).permutation(12)
    other = moved(test, order, tmp_path / "moved")
    for view in (class_attention, lambda *given: pixels(*given, CPU)):
        before, after = view(model, test, ALL), view(model, other, ALL)
        assert list(before["ids"]) == list(test.samples.index)
        assert list(after["ids"]) == list(test.samples.index[order])
        for name, values in before.items():
            if name == "query":
                continue
            assert len(values) == 12, name
            if values.dtype.kind == "f":
                np.testing.assert_allclose(after[name], values[order], rtol=1e-3, atol=1e-6, err_msg=name)
                assert np.abs(values - values[order]).max() > 1e-3 * np.abs(values).max(), f"{name}: all alike"
            else:
                np.testing.assert_array_equal(after[name], values[order], err_msg=name)


def test_images_and_classes_are_those_of_their_ids(build, test):
    model = build()
    for arrays in (class_attention(model, test, ALL[::-2]), pixels(model, test, ALL[::-2], CPU)):
        assert len(arrays["ids"]) == 6
        for i, sample in enumerate(arrays["ids"]):
            row, column = corner(sample)
            assert arrays["images"][i, row : row + 2, column : column + 2].min() > 230
            assert arrays["actual"][i] == test.samples.loc[sample, "label"]
            lr = torch.from_numpy(arrays["images"][i : i + 1]).permute(0, 3, 1, 2)
            assert arrays["predicted"][i] == CLASSES[int(model.eval()(normalize(lr)).argmax())]


def test_pixel_importance_lies_over_the_pixels_of_its_own_image(test):
    """Of `Energy` the gradient is the image itself: over any other image its square would be elsewhere."""
    assert len({corner(sample) for sample in test.samples.index}) == 12
    arrays = pixels(Energy(), PackedDataset(test.folder, "label"), ALL[::-1], CPU)
    for i, sample in enumerate(arrays["ids"]):
        row, column = corner(sample)
        for name in ("gradient", "smooth"):
            found = np.unravel_index(arrays[name][i].argmax(), (12, 12))
            assert (found[0] // 2 * 2, found[1] // 2 * 2) == (row, column), f"{name} of {sample}"
        value = np.abs(arrays["images"][i] / 127.5 - 1).sum(-1)
        gradient = arrays["gradient"][i]
        np.testing.assert_allclose(gradient / gradient.max(), value / value.max(), atol=1e-5)


def test_class_token_attends_as_recorded(build, test):
    model = build()
    weights = weights_of(model, test)
    arrays = class_attention(model, test, ALL)
    assert arrays["query"] == "class token"
    last = weights[:, -1, :, 0, 1:].reshape(12, 2, 4, 4).numpy()
    np.testing.assert_allclose(arrays["heads"], last * 17, rtol=1e-4)
    np.testing.assert_allclose(arrays["raw"], last.mean(1), rtol=1e-4)


def test_views_of_a_class_token(build, test, settings):
    found = views(build(), build(1), test, settings(**CLASSIFY), CPU)
    assert set(found) == {"maps", "class_attention", "pixels", "per_class", "filters", "positions"}
    assert list(found["class_attention"]["ids"]) == list(found["pixels"]["ids"])
    assert len(found["pixels"]["ids"]) == 6
    assert found["maps"]["received"].shape == (12, 2, 2, 4, 4)
    assert found["positions"]["trained"].shape == (16, 16)
    assert found["positions"]["token_trained"].shape == (4, 4)
    for arrays in found.values():
        assert all(isinstance(values, np.ndarray) and values.dtype.kind != "O" for values in arrays.values())


def test_views_of_a_mean_readout_are_drawn(build, test, settings, tmp_path):
    chosen = {"model.readout": "mean"}
    found = views(build(**chosen), build(1, **chosen), test, settings(**CLASSIFY, **chosen), CPU)
    assert found["class_attention"]["query"] == found["per_class"]["query"] == "mean of all patches"
    assert set(found["positions"]) == {"trained", "untrained"}
    draw(found, tmp_path)
    captions = json.loads((tmp_path / "captions.json").read_text())
    assert set(captions) == {path.name for path in tmp_path.glob("*.png")}
    assert len(captions) > len(found)


def test_mean_readout_attends_with_all_its_patches(build, test):
    model = build(**{"model.readout": "mean"})
    arrays = class_attention(model, test, ALL)
    expected = weights_of(model, test)[:, -1].mean(-2).reshape(12, 2, 4, 4).numpy()
    np.testing.assert_allclose(arrays["heads"], expected * 16, rtol=1e-4)
    np.testing.assert_allclose(arrays["raw"].sum((1, 2)), 1, rtol=1e-5)


def test_positions_that_are_not_there_are_not_shown(build, test, settings):
    chosen = {"model.position": "none"}
    found = views(build(**chosen), build(1, **chosen), test, settings(**CLASSIFY, **chosen), CPU)
    assert set(found) == {"maps", "class_attention", "pixels", "per_class", "filters"}


def test_attention_per_class_is_of_the_first_three_that_can_be_compared(build, test, settings):
    found = attention_per_class(build(), test, settings(**CLASSIFY), CPU)
    assert list(found["classes"]) == ["north", "south", "west"]
    assert found["counts"].tolist() == [4, 4, 3]
    assert found["median"].shape == found["difference"].shape == found["p"].shape == (3, 2, 4, 4)
    assert found["all_median"].shape == (2, 4, 4)


def test_attention_per_class_is_of_the_classes_that_are_asked_for(build, test, settings):
    model = build()
    found = attention_per_class(model, test, settings(**CLASSIFY, **{"task.show": ["west", "north"]}), CPU)
    assert list(found["classes"]) == ["west", "north"]
    rows = weights_of(model, test).mean(2)[:, :, 0, 1:].reshape(12, 2, 4, 4).numpy() * 17
    labels = test.samples["label"].to_numpy()
    np.testing.assert_allclose(found["all_median"], np.median(rows, axis=0), rtol=1e-4)
    images = test.images("lr", ALL)
    for i, name in enumerate(("west", "north")):
        np.testing.assert_allclose(found["median"][i], np.median(rows[labels == name], axis=0), rtol=1e-4)
        np.testing.assert_allclose(found["difference"][i], found["median"][i] - found["all_median"], atol=1e-6)
        np.testing.assert_allclose(found["images"][i], images[labels == name].mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("show", "told"),
    [
        (["north", "up"], "task.show names 'up', but the classes are east, north, south, west"),
        (["east", "north"], "task.show names 'east', but fewer than 2 of the 12 test images show it"),
    ],
)
def test_classes_that_cannot_be_shown(build, test, settings, show, told):
    with pytest.raises(InputError) as error:
        attention_per_class(build(), test, settings(**CLASSIFY, **{"task.show": show}), CPU)
    assert str(error.value) == told


def test_nothing_is_compared_where_every_class_has_one_image(build, test, settings, monkeypatch):
    monkeypatch.setattr(explained, "COMPARED", 1)
    assert "per_class" not in views(build(), build(1), test, settings(**CLASSIFY), CPU)


def test_explaining_leaves_the_model_as_it_was(build, test, settings):
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    said = classify.predict(model, test, CPU)
    views(model, build(1), test, settings(**CLASSIFY), CPU)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(block.attention.recorder is None for block in model.encoder.blocks)
    assert all(parameter.grad is None for parameter in model.parameters())
    np.testing.assert_array_equal(classify.predict(model, test, CPU), said)


def test_stage_keeps_the_arrays_beside_the_pictures(packed, stage, test, settings, tmp_path):
    """The control is the model that training begins with: of a model that learned nothing the two are the same."""
    chosen = settings(**CLASSIFY)
    begun = Training(classify, chosen, PackedDataset(packed / "train", "label"), PackedDataset(packed / "val", "label"), COMPUTE)
    save_weights(tmp_path / "models" / "model.safetensors", begun.model.state_dict(), {"settings": chosen.model_dump()})
    done = stage("heatmap", **CLASSIFY)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "reports" / "heatmaps"
    captions = json.loads((folder / "captions.json").read_text())
    assert set(captions) == {path.name for path in folder.glob("*.png")}
    expected = views(begun.model, begun.model, test, chosen, CPU)
    general = {"distances", "methods", "faithfulness", "explorer"}
    assert {path.stem for path in folder.glob("*.npz")} == set(expected) | general
    for name, arrays in expected.items():
        with np.load(folder / f"{name}.npz", allow_pickle=False) as saved:
            assert set(saved) == set(arrays)
            for key, values in arrays.items():
                if values.dtype.kind == "f":
                    np.testing.assert_allclose(saved[key], values, rtol=1e-3, atol=1e-6, err_msg=f"{name}, {key}")
                else:
                    np.testing.assert_array_equal(saved[key], values, err_msg=f"{name}, {key}")
    with np.load(folder / "positions.npz") as saved:
        np.testing.assert_array_equal(saved["trained"], saved["untrained"])
    trials = json.loads((tmp_path / "reports" / "faithfulness.json").read_text())["methods"]
    last = {trial["method"]: trial["randomised"][-1]["correlation"] for trial in trials}
    assert max(last.values()) < 0.9, last  # the weights that are put in are others than those training begins with
