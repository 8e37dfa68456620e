"""A map belongs to the image of its id, and its numbers are those of the weights."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import to_input
from vitpipe.explain import encoders
from vitpipe.explain.attention_maps import class_attention, maps, pixel_importance, six_steps
from vitpipe.explain.gradients import saliency, smooth
from vitpipe.metrics import attention as measures
from vitpipe.metrics.grid import token_box
from vitpipe.models.vit import ViT

CPU = torch.device("cpu")
ALL = np.arange(12)
WITHOUT_IDS = {"query", "queries", "boxes", "looks"}  # arrays that are not of every image


def place(sample: str) -> tuple[int, int]:
    """Row and column, in LR pixels, of the 2x2 square in an image; no two of the test images have the same."""
    number = int(sample.removesuffix(".png"))
    return 2 * (number % 5), 2 * (number % 6)


class Squares:
    """A white square on grey. Grey is next to 0 for a model, so what it computes depends on the square alone."""

    def read(self, sample: str) -> Image.Image:
        image = np.full((48, 48, 3), 128, np.uint8)
        row, column = (4 * start for start in place(sample))
        image[row : row + 8, column : column + 8] = 255
        return Image.fromarray(image)


@pytest.fixture
def shapes() -> Squares:
    return Squares()


def moved(part: PackedDataset, order: np.ndarray, folder) -> PackedDataset:
    """The same images under the same ids, in another order."""
    shutil.copytree(part.folder, folder / "test")
    shutil.copy(part.folder.parent / "manifest.json", folder)
    for name in ("lr", "hr"):
        np.save(folder / "test" / f"{name}-000.npy", part.images(name, order))
    part.samples.iloc[order].to_csv(folder / "test" / "samples.csv")
    return PackedDataset(folder / "test", "odd")


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_arrays_move_with_their_ids(made, test, tmp_path, pool):
    (task, model), order = made("classify", **{"model.pool": pool}), np.random.default_rng(0).permutation(12)
    other = moved(test, order, tmp_path / "moved")
    for view in (
        lambda part: maps(model, part),
        lambda part: class_attention(task, model, part, ALL),
        lambda part: pixel_importance(task, model, part, ALL),
    ):
        before, after = view(test), view(other)
        assert list(before["ids"]) == list(test.samples.index)
        assert list(after["ids"]) == list(test.samples.index[order])
        for name in before.keys() - WITHOUT_IDS:
            values = before[name]
            assert len(values) == 12, name
            if values.dtype.kind == "f":
                np.testing.assert_allclose(after[name], values[order], rtol=1e-3, atol=1e-6, err_msg=name)
                assert np.abs(values - values[order]).max() > 1e-3 * np.abs(values).max(), f"{name}: all alike"
            else:
                np.testing.assert_array_equal(after[name], values[order], err_msg=name)


@pytest.mark.parametrize("task", ["supersample", "classify"])
def test_maps_are_what_each_patch_receives(made, test, attention_of, task):
    _, model = made(task)
    arrays, weights = maps(model, test), attention_of(model, test)
    if task == "classify":  # without the class token
        weights = weights[..., 1:, 1:] / weights[..., 1:, 1:].sum(-1, keepdim=True)
    expected = measures.received(weights).reshape(12, 2, 2, 4, 4).numpy()
    np.testing.assert_allclose(arrays["received"], expected, rtol=1e-4)
    np.testing.assert_allclose(arrays["received"].mean((-2, -1)), 1, rtol=1e-5)
    np.testing.assert_array_equal(arrays["images"], test.images("hr", ALL))

    first = test.samples.iloc[0]
    mouth = (first["leftmouth_x"] + first["rightmouth_x"]) / 2, (first["leftmouth_y"] + first["rightmouth_y"]) / 2
    points = [(first["lefteye_x"], first["lefteye_y"]), mouth, (1, 1)]
    assert list(arrays["queries"]) == ["eye", "mouth", "background"]
    for (x, y), box, looks in zip(points, arrays["boxes"], arrays["looks"], strict=True):
        token = int(y // 6) * 4 + int(x // 6)  # patches of 3 LR pixels are 6 HR pixels wide
        assert tuple(box) == token_box(token, 6, 4)
        row = weights[0, :, :, token].clone()  # l h n
        row[..., token] = 0
        expected = (row / row.sum(-1, keepdim=True) * 15).unflatten(-1, (4, 4)).numpy()
        np.testing.assert_allclose(looks, expected, rtol=1e-4)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_class_attention_is_what_the_model_computes(made, test, attention_of, pool):
    task, model = made("classify", **{"model.pool": pool})
    found, weights = class_attention(task, model, test, ALL), attention_of(model, test)
    token, tokens = pool == "token", weights.shape[-1]
    assert found["query"] == ("class token" if token else "mean of all patches")
    probabilities = task.predict(model, test.images("lr", ALL))
    np.testing.assert_array_equal(found["predicted"], np.array(task.classes)[probabilities.argmax(1)])
    np.testing.assert_allclose(found["probability"], probabilities.max(1), rtol=1e-5)

    last = weights[:, -1].numpy()  # f h n n
    row = last[:, :, 0, 1:] if token else last.mean(-2)
    np.testing.assert_allclose(found["heads"], row.reshape(12, 2, 4, 4) * tokens, rtol=1e-4)
    np.testing.assert_allclose(found["raw"], row.mean(1).reshape(12, 4, 4), rtol=1e-4)
    steps = six_steps(torch.from_numpy(row), found["images"], model.encoder)
    for name in ("resized", "attended"):
        np.testing.assert_allclose(found[name], steps[name], atol=1e-4)
    through = np.eye(tokens)
    for layer in range(2):
        through = (weights[:, layer].numpy().mean(1) / 2 + np.eye(tokens) / 2) @ through
    expected = through[:, 0, 1:] if token else through.mean(1)
    np.testing.assert_allclose(found["rollout"], expected.reshape(12, 4, 4) * tokens, rtol=1e-4)


def test_images_and_classes_are_those_of_their_ids(made, test):
    task, model = made("classify")
    for arrays in (
        view(task, model, test, np.array([11, 8, 5, 4, 1, 0])) for view in (class_attention, pixel_importance)
    ):
        assert len(arrays["ids"]) == 6
        for i, sample in enumerate(arrays["ids"]):
            row, column = place(sample)
            assert arrays["images"][i, row : row + 2, column : column + 2].min() > 230
            assert arrays["actual"][i] == ("odd" if test.samples.loc[sample, "odd"] == 1 else "not odd")
            pixels = to_input(arrays["images"][i : i + 1], CPU)
            assert arrays["predicted"][i] == task.classes[int(model(pixels).argmax())]
            if "gradient" in arrays:
                loss = partial(F.cross_entropy, target=torch.tensor([task.classes.index(arrays["actual"][i])]))
                for name, method in (("gradient", saliency), ("smooth", smooth)):
                    expected = method(model, pixels, loss)[0]
                    np.testing.assert_allclose(arrays[name][i], expected, rtol=1e-3, atol=1e-6, err_msg=name)
    assert (arrays["predicted"] != arrays["actual"]).any()


def test_batches_change_nothing_and_the_model_stays(made, test, unchanged, monkeypatch):
    task, model = made("classify")
    with unchanged(model):
        pixel_importance(task, model, test, ALL)
        whole = maps(model, test), class_attention(task, model, test, ALL)
    monkeypatch.setattr(encoders, "WEIGHTS_AT_ONCE", 5 * 2 * 2 * 17 * 17)  # five images at a time
    parts = maps(model, test), class_attention(task, model, test, ALL)
    for one, other in zip(whole, parts, strict=True):
        for name, values in one.items():
            if values.dtype.kind == "f":
                np.testing.assert_allclose(other[name], values, rtol=1e-3, atol=1e-5, err_msg=name)


def grid(rows: int, columns: int) -> ViT:
    return ViT(size=(rows, columns), patch=1, channels=1, dim=2, depth=1, heads=1, position="none")


@pytest.mark.parametrize(("rows", "columns", "size"), [(4, 4, (32, 32)), (7, 7, (28, 28)), (3, 5, (10, 20))])
def test_six_steps_as_pillow_does_them(rows, columns, size):
    row = torch.randn(5, 3, rows * columns, generator=torch.Generator().manual_seed(1)).softmax(-1)
    images = np.random.default_rng(0).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    found = six_steps(row, images, grid(rows, columns))
    for i in range(5):
        mean = row[i].numpy().mean(0).reshape(rows, columns)
        np.testing.assert_allclose(found["raw"][i], mean, rtol=1e-5)
        large = np.asarray(Image.fromarray(mean).resize(size[::-1], Image.Resampling.BILINEAR))
        normal = (large - large.min()) / (large.max() - large.min())
        np.testing.assert_allclose(found["resized"][i], normal, atol=1e-5)
        attended = np.clip(normal[..., None] * (images[i] / 255) * 2, 0, 1)
        np.testing.assert_allclose(found["attended"][i], attended, atol=1e-5)
    assert all(values.dtype == np.float32 for values in found.values())


@pytest.mark.parametrize("weight", [0.0, 1 / 17, 1.0])
def test_a_constant_map_is_zero_not_rounding_and_not_nan(weight):
    row = torch.full((2, 3, 49), weight)
    row[1, :, 5] += 0.01  # the other image's map stays
    found = six_steps(row, np.full((2, 30, 30, 3), 99, np.uint8), grid(7, 7))
    assert np.all(found["resized"][0] == 0)
    assert np.all(found["attended"][0] == 0)
    assert [found["resized"][1].min(), found["resized"][1].max()] == [0, 1]
