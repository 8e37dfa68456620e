"""A map belongs to the image of its id, and its numbers are those of the weights."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from vitpipe.data.dataset import PackedDataset
from vitpipe.data.pixels import normalize
from vitpipe.explain import heatmaps
from vitpipe.explain.capture import record_attention
from vitpipe.explain.heatmaps import maps
from vitpipe.explain.measure import measure
from vitpipe.figures.heatmaps import draw, sharpest
from vitpipe.metrics import attention as measures
from vitpipe.metrics.grid import token_box
from vitpipe.tasks import classify, supersample
from vitpipe.training.checkpoint import save_weights

CPU = torch.device("cpu")


@pytest.fixture
def test(packed) -> PackedDataset:
    return PackedDataset(packed / "test")


@pytest.fixture
def model(settings):
    torch.manual_seed(0)
    net = supersample.build(settings())
    for block in net.encoder.blocks:  # attention that differs from image to image
        block.attention.qkv.weight.data *= 8
    return net


@pytest.fixture
def classifier(settings):
    torch.manual_seed(0)
    net = classify.build(settings(**{"task.name": "classify"}), ("round", "square"))
    for block in net.encoder.blocks:
        block.attention.qkv.weight.data *= 8
    return net


def weights_of(model, packed) -> torch.Tensor:
    lr = torch.from_numpy(packed.images("lr", np.arange(len(packed)))).permute(0, 3, 1, 2)
    with torch.inference_mode(), record_attention(model) as record:
        model(normalize(lr))
    return record.weights


def test_maps_are_what_each_image_receives(model, test):
    arrays = maps(model, test, CPU)
    assert list(arrays["ids"]) == list(test.samples.index)
    assert arrays["received"].shape == (12, 2, 2, 4, 4)
    np.testing.assert_array_equal(arrays["images"], test.images("hr", np.arange(12)))
    expected = measures.received(weights_of(model, test)).reshape(12, 2, 2, 4, 4).numpy()
    np.testing.assert_allclose(arrays["received"], expected, rtol=1e-4)
    np.testing.assert_allclose(arrays["received"].mean((-2, -1)), 1, rtol=1e-5)


def test_a_map_moves_with_its_id(model, test, tmp_path):
    order = np.random.default_rng(0).permutation(12)
    moved = tmp_path / "moved"
    shutil.copytree(test.folder, moved)
    for name in ("lr", "hr"):
        np.save(moved / f"{name}-000.npy", test.images(name, order))
    test.samples.iloc[order].to_csv(moved / "samples.csv")
    before, after = maps(model, test, CPU), maps(model, PackedDataset(moved), CPU)
    assert list(before["ids"]) != list(after["ids"])
    for row, sample in enumerate(after["ids"]):
        origin = list(before["ids"]).index(sample)
        np.testing.assert_array_equal(after["images"][row], before["images"][origin])
        np.testing.assert_allclose(after["received"][row], before["received"][origin], rtol=1e-4)
    assert np.abs(after["received"] - before["received"]).max() > 0.05  # images do differ


def test_looks_are_rows_of_the_first_image(model, test):
    arrays = maps(model, test, CPU)
    first = test.samples.iloc[0]
    mouth = (first["leftmouth_x"] + first["rightmouth_x"]) / 2, (first["leftmouth_y"] + first["rightmouth_y"]) / 2
    points = [(first["lefteye_x"], first["lefteye_y"]), mouth, (1, 1)]
    assert list(arrays["queries"]) == ["eye", "mouth", "background"]
    weights = weights_of(model, test)[0]
    for (x, y), box, looks in zip(points, arrays["boxes"], arrays["looks"], strict=True):
        token = int(y // 6) * 4 + int(x // 6)  # patches of 3 LR pixels are 6 HR pixels wide
        assert tuple(box) == token_box(token, 6, 4)
        row = weights[:, :, token].clone()  # l h n
        row[..., token] = 0
        expected = (row / row.sum(-1, keepdim=True) * 15).unflatten(-1, (4, 4)).numpy()
        np.testing.assert_allclose(looks, expected, rtol=1e-4)


def test_points_of_pictures_without_landmarks(model, test, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(test.folder, plain)
    test.samples[["odd"]].to_csv(plain / "samples.csv")
    arrays = maps(model, PackedDataset(plain), CPU)
    assert list(arrays["queries"]) == ["centre", "corner"]
    assert arrays["boxes"].tolist() == [[12, 12, 18, 18], [0, 0, 6, 6]]

    holes = test.samples.astype({"lefteye_x": float})
    holes.iloc[0, holes.columns.get_loc("lefteye_x")] = np.nan
    holes.to_csv(plain / "samples.csv")
    assert list(maps(model, PackedDataset(plain), CPU)["queries"]) == ["centre", "corner"]


def test_landmarks_that_are_a_mean_are_called_so(model, test, tmp_path):
    other = tmp_path / "mean"
    shutil.copytree(test.folder, other)
    test.samples.assign(landmarks="mean").to_csv(other / "samples.csv")
    assert maps(model, PackedDataset(other), CPU)["queries"][0] == "eye (mean landmark)"


def test_uniform_attention_is_received_alike(settings, test):
    model = supersample.build(settings())
    for block in model.encoder.blocks:
        torch.nn.init.zeros_(block.attention.qkv.weight)
    np.testing.assert_allclose(maps(model, test, CPU)["received"], 1, rtol=1e-5)


def test_batches_change_nothing(model, test, monkeypatch):
    whole = maps(model, test, CPU)
    monkeypatch.setattr(heatmaps, "WEIGHTS_AT_ONCE", 5 * 2 * 2 * 16 * 16)  # five images at a time
    parts = maps(model, test, CPU)
    for name in ("received", "looks"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-4)


def test_explaining_leaves_the_model_as_it_was(model, test):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lr = test.images("lr", np.arange(12))
    predicted = supersample.predict(model, lr, CPU)
    maps(model, test, CPU)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(block.attention.recorder is None for block in model.encoder.blocks)
    np.testing.assert_array_equal(supersample.predict(model, lr, CPU), predicted)


def test_class_token_is_left_out_of_maps(classifier, test):
    arrays, weights = maps(classifier, test, CPU), weights_of(classifier, test)
    assert weights.shape == (12, 2, 2, 17, 17)
    patches = weights[..., 1:, 1:] / weights[..., 1:, 1:].sum(-1, keepdim=True)
    assert arrays["received"].shape == (12, 2, 2, 4, 4)
    expected = measures.received(patches).reshape(12, 2, 2, 4, 4).numpy()
    np.testing.assert_allclose(arrays["received"], expected, rtol=1e-4)
    np.testing.assert_allclose(arrays["received"].mean((-2, -1)), 1, rtol=1e-5)
    np.testing.assert_allclose(arrays["looks"].sum((-2, -1)), 15, rtol=1e-5)  # rows sum to one, times n - 1
    for box, looks in zip(arrays["boxes"], arrays["looks"], strict=True):
        assert (looks[:, :, box[1] // 6, box[0] // 6] == 0).all(), "of another token than the box"


def test_sharpest_head_is_the_one_furthest_from_uniform():
    mean = np.ones((3, 2, 4, 4))
    mean[1, 0, 0, 0], mean[1, 0, 3, 3] = 1.5, 0.5
    mean[2, 1] = 0
    mean[2, 1, 1, 1] = 16
    assert sharpest(mean) == (2, 1)
    assert sharpest(mean[:2]) == (1, 0)
    mean[0, 0, :2], mean[0, 0, 2:] = 2, 0  # half of the patches: ln 2 = 0.69
    mean[0, 1] = 8 / 15
    mean[0, 1, 0, 0] = 8  # half of the attention on one patch: 0.73
    assert sharpest(mean[:2]) == (0, 1)


def test_drawn_with_captions(model, test, tmp_path):
    folder = tmp_path / "heatmaps"
    folder.mkdir()
    draw({"maps": maps(model, test, CPU)}, folder)
    captions = json.loads((folder / "captions.json").read_text())
    assert set(captions) == {path.name for path in folder.glob("*.png")}
    assert {"overview.png", "received_head.png", "received_layer1.png", "received_layer2.png", "queries.png"} == set(
        captions
    )
    assert "over 12 test images" in captions["received_head.png"]["caption"]


def test_stage_writes_arrays_measures_and_pictures(packed, stage, model, test, tmp_path, settings):
    save_weights(tmp_path / "models" / "model.safetensors", model.state_dict(), {"settings": settings().model_dump()})
    done = stage("heatmap")
    assert done.returncode == 0, done.stderr
    reports = tmp_path / "reports"
    torch.manual_seed(settings().seed)
    untrained = supersample.build(settings())
    expected, _ = measure(model, untrained, "supersample", PackedDataset(packed / "val"), test, settings(), CPU)
    written = json.loads((reports / "attention.json").read_text())
    assert written.keys() == expected.keys()
    assert written["entropy"] == pytest.approx(expected["entropy"], abs=1e-5)
    assert written["focus"]["eyes"]["lift"] == pytest.approx(expected["focus"]["eyes"]["lift"], rel=1e-3)
    trust = json.loads((reports / "faithfulness.json").read_text())
    assert {"raw", "rollout", "relevance", "gradient", "smooth", "local"} <= trust.keys()
    with np.load(reports / "heatmaps" / "maps.npz") as saved:
        assert list(saved["ids"]) == list(pd.read_csv(packed / "test" / "samples.csv", dtype=str)["id"])
        np.testing.assert_allclose(saved["received"], maps(model, test, CPU)["received"], rtol=1e-4)
    captions = json.loads((reports / "heatmaps" / "captions.json").read_text())
    assert set(captions) == {path.name for path in (reports / "heatmaps").glob("*.png")}
    arrays = {path.stem for path in (reports / "heatmaps").glob("*.npz")}
    assert arrays == {"maps", "methods", "faithfulness", "distances", "filters", "positions", "explorer"}
