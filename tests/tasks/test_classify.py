"""A classifier learns a planted label; its scores stand beside the baselines', each with the image of its id."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

from vitpipe.data.batches import Batch
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import pack
from vitpipe.data.pixels import normalize
from vitpipe.errors import InputError
from vitpipe.figures.classify import draw
from vitpipe.metrics.classification import sample_scores
from vitpipe.training.compute import Compute
from vitpipe.tasks import classify, task
from vitpipe.training.checkpoint import Resume, load_weights, read_metadata
from vitpipe.training.loop import train

CPU = Compute(torch.device("cpu"), torch.float32)
CLASSIFY = {"task.name": "classify", "task.target": "label", "train.flip": False}
MEASURES = [
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "balanced_accuracy",
    "macro_f1",
    "log_loss",
    "calibration_error",
    "images",
]


class Squares:
    """A bright square in the left or the right half of a dark noisy picture, as `where` of its id says."""

    def __init__(self, where: dict[str, str]) -> None:
        self.where = where

    def read(self, sample: str) -> Image.Image:
        random = np.random.default_rng(list(sample.encode()))
        pixels = random.integers(0, 100, (24, 24, 3), dtype=np.uint8)
        top, left = 8, random.integers(1, 4) + 12 * (self.where[sample] == "right")
        pixels[top : top + 8, left : left + 8] = random.integers(180, 256, 3)
        return Image.fromarray(pixels)


@pytest.fixture
def table(table) -> pd.DataFrame:
    """Three of four squares are in the left half."""
    return table.assign(label=["right" if i % 4 == 3 else "left" for i in range(len(table))])


@pytest.fixture
def shapes(table) -> Squares:
    return Squares(dict(table["label"]))


@pytest.fixture
def parts(packed) -> list[PackedDataset]:
    return [PackedDataset(packed / part, "label") for part in ("train", "val", "test")]


@pytest.fixture
def test(parts) -> PackedDataset:
    return parts[2]


@pytest.fixture
def model(settings, test):
    """It learned nothing, but says different things of different test images: their logits vary by 1 around 0."""
    torch.manual_seed(0)
    net = classify.build(settings(**CLASSIFY), ("left", "right")).eval()
    with torch.no_grad():
        images = normalize(Batch(test, np.arange(len(test)), CPU.device).lr)
        net.head.weight /= net(images).std(0)[:, None]
        net.head.bias -= net(images).mean(0)
    return net


@pytest.fixture
def rivals(parts, settings) -> dict:
    return classify.baseline(*parts, settings(**CLASSIFY))


def relabelled(packed: PackedDataset, values: list) -> PackedDataset:
    """The same images with other labels."""
    packed.samples.assign(label=values).to_csv(packed.folder / "samples.csv")
    return PackedDataset(packed.folder, packed.target)


def learned(settings, parts: list[PackedDataset], folder) -> nn.Module:
    chosen = settings(**CLASSIFY, **{"train.epochs": 12, "train.lr": 0.01, "train.ema": 0.8})
    train(classify, chosen, *parts[:2], CPU, Resume(folder / "resume"), folder / "models", folder / "curve.csv")
    net = classify.build(chosen, parts[0].classes)
    load_weights(folder / "models" / "model.safetensors", net, chosen)
    return net


def test_tasks_are_found_by_name():
    assert task("classify") is classify


def test_a_planted_label_is_learned_and_beats_the_majority(settings, parts, rivals, tmp_path):
    net = learned(settings, parts, tmp_path)
    metrics, table = classify.evaluate(net, parts[2], rivals, settings(**CLASSIFY), CPU)
    assert metrics["accuracy"] == 1
    assert metrics["log_loss"] < metrics["majority"]["log_loss"] / 2
    assert (table["predicted"] == table["actual"]).all()
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy"} <= set(curve)
    facts = read_metadata(tmp_path / "models" / "model.safetensors")
    assert facts["classes"] == ["left", "right"]
    best = curve[curve["val_accuracy"] == curve["val_accuracy"].max()]
    assert facts["epoch"] == best.loc[best["val_loss"].idxmin(), "epoch"]


def test_metrics_have_the_keys_that_scripts_rely_on(model, test, rivals, settings):
    metrics, table = classify.evaluate(model, test, rivals, settings(**CLASSIFY), CPU)
    own = [*MEASURES, "per_class", "confusion"]
    assert list(metrics) == [*own, "majority", "logistic", "gain", "seconds", "parameters"]
    assert list(metrics["majority"]) == list(metrics["logistic"]) == MEASURES
    assert list(metrics["gain"]) == ["accuracy", "balanced_accuracy", "macro_f1"]
    assert metrics["images"] == np.sum(metrics["confusion"]) == 12
    assert [row["class"] for row in metrics["per_class"]] == ["left", "right"]
    assert metrics["parameters"] == sum(p.numel() for p in model.parameters())
    assert list(table.columns) == ["actual", "predicted", "probability", "probability_actual", "loss"]
    assert list(table.index) == list(test.samples.index)
    json.dumps(metrics, allow_nan=False)


def test_every_number_has_its_protocol(rivals, test, model, settings):
    metrics, _ = classify.evaluate(model, test, rivals, settings(**CLASSIFY), CPU)
    told = {**classify.PROTOCOL, "seconds": "", "parameters": ""}  # these two say it by their names
    assert set(metrics) <= set(told)
    assert rivals["protocol"] == [classify.PROTOCOL]


def test_metrics_are_those_of_the_table(model, test, rivals, settings):
    metrics, table = classify.evaluate(model, test, rivals, settings(**CLASSIFY), CPU)
    assert set(table["predicted"]) == {"left", "right"}  # else the numbers below tell little
    right = table["actual"] == table["predicted"]
    assert metrics["accuracy"] == pytest.approx(right.mean(), rel=1e-5)
    assert metrics["log_loss"] == pytest.approx(table["loss"].mean(), rel=1e-5)
    assert metrics["confusion"] == pd.crosstab(table["actual"], table["predicted"]).to_numpy().tolist()
    for name, value in metrics["gain"].items():
        assert value == pytest.approx(metrics[name] - rivals["logistic"][name], abs=1e-5)
    assert metrics["logistic"] == rivals["logistic"]


def test_what_is_said_belongs_to_the_image_of_its_id(model, test, rivals, settings):
    _, table = classify.evaluate(model, test, rivals, settings(**CLASSIFY), CPU)
    assert table["probability"].std() > 0.01  # images do differ
    for row, sample in enumerate(table.index):
        logits = model(normalize(Batch(test, np.array([row]), CPU.device).lr))[0].detach()
        name = ("left", "right")[int(logits.argmax())]
        assert table.loc[sample, "predicted"] == name
        assert table.loc[sample, "probability"] == pytest.approx(float(logits.softmax(-1).max()), rel=1e-4)
        assert table.loc[sample, "actual"] == test.samples.loc[sample, "label"]


def test_no_score_depends_on_the_batch(model, test, settings, monkeypatch):
    found = []
    for batch in (1, 5, 256):
        monkeypatch.setattr(classify, "BATCH", batch)
        found.append(
            (classify.predict(model, test, CPU.device), classify.validate(model, test, CPU, settings(**CLASSIFY).train))
        )
    for probabilities, shown in found[1:]:
        np.testing.assert_allclose(probabilities, found[0][0], rtol=1e-4)
        assert shown == pytest.approx(found[0][1], rel=1e-5)


def test_of_large_images_fewer_are_scored_at_once(model, test, settings, monkeypatch):
    sizes, found = [], classify.in_order
    monkeypatch.setattr(
        classify, "in_order", lambda packed, size, *rest: sizes.append(size) or found(packed, size, *rest)
    )
    side = test.images("lr", np.array([0])).shape[1]
    for pixels in (classify.PIXELS, 3 * side**2 + 1, 1):
        monkeypatch.setattr(classify, "PIXELS", pixels)
        classify.predict(model, test, CPU.device)
        classify.validate(model, test, CPU, settings(**CLASSIFY).train)
    assert sizes == [256, 256, 3, 3, 1, 1]


def test_scoring_is_done_in_evaluation_mode_and_leaves_the_weights_alone(model, test, settings):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = classify.predict(model, test, CPU.device)
    dropping = nn.Sequential(nn.Dropout(0.5), model).train()
    np.testing.assert_array_equal(classify.predict(dropping, test, CPU.device), expected)
    dropping.train()
    shown = classify.validate(dropping, test, CPU, settings(**CLASSIFY).train)
    assert shown == classify.validate(model, test, CPU, settings(**CLASSIFY).train)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_shown_scores_agree_with_the_reported_ones(model, test, rivals, settings):
    shown = classify.validate(model, test, CPU, settings(**CLASSIFY).train)
    metrics, _ = classify.evaluate(model, test, rivals, settings(**CLASSIFY), CPU)
    assert shown["val_accuracy"] == pytest.approx(metrics["accuracy"], rel=1e-5)
    assert shown["val_loss"] == pytest.approx(metrics["log_loss"], rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_is_that_of_the_batch(model, parts, settings, smoothing):
    rows = np.array([3, 0, 7, 2])
    batch = Batch(parts[0], rows, CPU.device)
    setting = settings(**CLASSIFY, **{"train.label_smoothing": smoothing}).train
    loss, shown = classify.loss(model, *classify.inputs(batch, setting), setting)
    logits = model(normalize(batch.lr)).detach()
    log = logits.log_softmax(-1)
    wanted = torch.tensor([1, 0, 1, 0])  # ids 3 and 7 are in the right half
    own = -log[range(4), wanted]
    expected = (1 - smoothing) * own + smoothing * -log.mean(-1)
    assert float(loss.detach()) == pytest.approx(float(expected.mean()), rel=1e-5)
    assert loss.requires_grad
    assert float(shown["accuracy"]) == float((logits.argmax(1) == wanted).float().mean())


@pytest.mark.parametrize("changes", [{}, {"train.crop": 2, "train.mix": "both"}])
def test_a_process_learns_from_its_part_of_what_all_would_draw(parts, settings, changes):
    setting = settings(**CLASSIFY, **changes).train
    found = []
    for part in (slice(None), slice(2, 5)):
        torch.manual_seed(0)
        found.append(classify.inputs(Batch(parts[0], np.arange(8), CPU.device, part=part), setting))
    for whole, own in zip(*found, strict=True):
        assert len(whole) == 8
        assert torch.equal(whole[2:5], own)


def test_loss_of_mixed_images_is_that_of_their_shares(model, parts, settings, monkeypatch):
    batch = Batch(parts[0], np.arange(4), CPU.device)
    shares = torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9], [0.8, 0.2]])
    monkeypatch.setattr(classify, "mix", lambda images, labels, classes, kind: (images, shares))
    setting = settings(**CLASSIFY, **{"train.mix": "mixup"}).train
    loss, shown = classify.loss(model, *classify.inputs(batch, setting), setting)
    logits = model(normalize(batch.lr)).detach()
    assert float(loss.detach()) == pytest.approx(float(-(shares * logits.log_softmax(-1)).sum(-1).mean()), rel=1e-5)
    assert float(shown["accuracy"]) == float((logits.argmax(1) == torch.tensor([0, 1, 1, 0])).float().mean())


def test_loss_sees_augmented_images_and_scores_do_not(model, parts, settings):
    shifted = settings(**CLASSIFY, **{"train.crop": 4}).train
    plain, batch = settings(**CLASSIFY).train, Batch(parts[0], np.arange(16), CPU.device)
    torch.manual_seed(1)
    losses = [classify.loss(model, *classify.inputs(batch, setting), setting)[0] for setting in (shifted, plain)]
    assert losses[0] != losses[1]
    assert classify.validate(model, parts[1], CPU, shifted) == classify.validate(model, parts[1], CPU, plain)


def test_majority_says_the_shares_of_the_classes(parts, rivals):
    """Of 40 training images 10 are in the right half; of 12 test images 3."""
    assert [np.bincount(part.labels).tolist() for part in parts] == [[30, 10], [6, 2], [9, 3]]
    majority = rivals["majority"]
    assert majority["accuracy"] == 0.75
    assert majority["balanced_accuracy"] == 0.5
    assert majority["log_loss"] == pytest.approx(-(9 * np.log(0.75) + 3 * np.log(0.25)) / 12, rel=1e-5)
    assert majority["calibration_error"] == pytest.approx(0, abs=1e-6)


def test_majority_is_of_training_images(parts, settings):
    test = relabelled(parts[2], ["right"] * 12)
    assert classify.baseline(*parts[:2], test, settings(**CLASSIFY))["majority"]["accuracy"] == 0


def test_baseline_has_its_keys(rivals):
    assert list(rivals) == ["majority", "logistic", "images", "protocol"]
    assert list(rivals["majority"]) == list(rivals["logistic"]) == MEASURES
    assert rivals["images"] == 12
    json.dumps(rivals, allow_nan=False)


def test_logistic_regression_finds_what_a_line_can_part(rivals):
    """Left and right half: the sum over one half of the pixels tells it."""
    assert rivals["logistic"]["accuracy"] == 1


def test_logistic_regression_sees_no_test_label(parts):
    before = classify.logistic(*parts, grey=False)
    test = relabelled(parts[2], ["right", "left"] * 6)
    assert (test.labels != parts[2].labels).any()
    np.testing.assert_array_equal(classify.logistic(*parts[:2], test, grey=False), before)


def test_validation_images_choose_the_penalty(parts, monkeypatch):
    train, _, test = parts
    labels = np.random.default_rng(0).permutation(["right", "left"] * 4)
    val = relabelled(parts[1], list(labels))  # random: the most timid of all is best
    assert val.labels.tolist() != parts[1].labels.tolist()
    penalties, candidates, errors = classify.PENALTIES, [], {"val": [], "test": []}
    for penalty in penalties:
        monkeypatch.setattr(classify, "PENALTIES", (penalty,))
        candidates.append(classify.logistic(train, val, test, grey=False))
        for name, part in (("val", val), ("test", test)):
            found = classify.logistic(train, val, part, grey=False)
            errors[name].append(sample_scores(part.labels, found)["loss"].mean())
    chosen, tempting = np.argmin(errors["val"]), np.argmin(errors["test"])
    assert chosen != tempting
    monkeypatch.setattr(classify, "PENALTIES", penalties)
    np.testing.assert_array_equal(classify.logistic(train, val, test, grey=False), candidates[chosen])


def test_validation_images_teach_nothing(parts, monkeypatch):
    monkeypatch.setattr(classify, "PENALTIES", (0.01,))
    before = classify.logistic(*parts, grey=False)
    val = relabelled(parts[1], ["right"] * 8)
    np.testing.assert_array_equal(classify.logistic(parts[0], val, parts[2], grey=False), before)


def test_logistic_regression_learns_from_so_many_images_at_most(parts, monkeypatch):
    """Rows 0, 13, 26 and 39, of which the last alone is in the right half."""
    train, val, test = parts
    monkeypatch.setattr(classify, "LEARNED_FROM", 4)
    before = classify.logistic(train, val, test, grey=False)
    labels = np.array(train.samples["label"])
    labels[1:13] = "right"
    np.testing.assert_array_equal(classify.logistic(relabelled(train, list(labels)), val, test, grey=False), before)


def test_class_that_logistic_regression_never_sees_has_no_probability(parts, monkeypatch):
    train = relabelled(parts[0], ["left", *["middle"] * 20, *["right"] * 19])
    manifest = json.loads((train.folder.parent / "manifest.json").read_text())
    manifest["train"]["labels"]["label"] = {"left": 1, "middle": 20, "right": 19}
    (train.folder.parent / "manifest.json").write_text(json.dumps(manifest))
    parts = [PackedDataset(part.folder, "label") for part in parts]
    monkeypatch.setattr(classify, "LEARNED_FROM", 2)
    found = classify.logistic(*parts, grey=False)
    assert found.shape == (12, 3)
    assert (found[:, 1] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1)


def test_logistic_regression_of_one_class_is_told(parts, monkeypatch):
    monkeypatch.setattr(classify, "LEARNED_FROM", 1)
    with pytest.raises(InputError, match="'left' is the class of all 1 images that are learned from"):
        classify.logistic(*parts, grey=False)


def test_logistic_regression_sees_fine_images_as_means(parts, monkeypatch):
    """Blocks of 6x6 pixels in place of images of 12x12: the noise within them is gone, the label is not."""
    seen = []
    fit = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda self, x, y: seen.append(x.shape) or fit(self, x, y))
    monkeypatch.setattr(classify, "FINEST", 2)
    found = classify.logistic(*parts, grey=False)
    assert {shape[1] for shape in seen} == {2 * 2 * 3}
    assert (found.argmax(1) == parts[2].labels).all()


class Coloured:
    """Pictures that are a little more red or more green, as their ids say, and of the same grey."""

    def __init__(self, where: dict[str, str]) -> None:
        self.where = where

    def read(self, sample: str) -> Image.Image:
        noise = np.random.default_rng(list(sample.encode())).integers(0, 100, (24, 24, 1), dtype=np.uint8)
        pixels = np.repeat(noise, 3, axis=2)
        pixels[..., 0 if self.where[sample] == "left" else 1] += 60
        return Image.fromarray(pixels)


def test_baseline_of_a_model_that_sees_grey_sees_grey(table, settings, tmp_path):
    folder = tmp_path / "coloured"
    folder.mkdir()
    pack(table, Coloured(dict(table["label"])), settings().data, folder)
    parts = [PackedDataset(folder / part, "label") for part in ("train", "val", "test")]
    colour, grey = (
        classify.baseline(*parts, settings(**CLASSIFY, **{"model.channels": channels}))["logistic"]
        for channels in (3, 1)
    )
    assert colour["balanced_accuracy"] == 1
    assert grey["balanced_accuracy"] < 0.8


def test_examples_show_what_was_said(model, test, rivals, settings):
    chosen = settings(**CLASSIFY)
    _, table = classify.evaluate(model, test, rivals, chosen, CPU)
    shown = classify.examples(model, test, table, chosen, CPU)
    assert list(shown) == ["confusion", "ranking", "patches", "training"]
    assert list(shown["ranking"]) == ["worst", "best", "random"]
    assert shown["ranking"]["worst"]["ids"][0] == table["loss"].idxmax()
    assert shown["ranking"]["best"]["ids"][0] == table["loss"].idxmin()
    for name, order in (("worst", -1), ("best", 1)):
        assert (np.diff(shown["ranking"][name]["loss"]) * order >= 0).all()
    for group in shown["ranking"].values():
        assert len(group["ids"]) == len(set(group["ids"])) == 10
        for i, sample in enumerate(group["ids"]):
            row = np.array([test.samples.index.get_loc(sample)])
            np.testing.assert_array_equal(group["images"][i], test.images("hr", row)[0])
            for key in ("predicted", "actual", "probability", "loss"):
                assert group[key][i] == table.loc[sample, key]
    cut = shown["patches"]
    row = np.array([test.samples.index.get_loc(cut["id"])])
    np.testing.assert_array_equal(cut["image"], test.images("lr", row)[0])
    assert (cut["patch"], cut["class_token"]) == (3, True)
    assert shown["training"] == {"label": "training"}


def test_random_examples_are_chosen_by_no_score(model, test, rivals, settings):
    chosen = settings(**CLASSIFY)
    _, table = classify.evaluate(model, test, rivals, chosen, CPU)
    other = table.assign(loss=table["loss"].to_numpy()[::-1])
    first, second = (classify.examples(model, test, scores, chosen, CPU)["ranking"] for scores in (table, other))
    assert first["random"]["ids"] == second["random"]["ids"]
    assert first["worst"]["ids"] != second["worst"]["ids"]


def test_confusion_of_examples_is_that_of_the_metrics(model, test, rivals, settings):
    chosen = settings(**CLASSIFY)
    metrics, table = classify.evaluate(model, test, rivals, chosen, CPU)
    shown = classify.examples(model, test, table, chosen, CPU)["confusion"]
    assert shown["matrix"].tolist() == metrics["confusion"]
    assert shown["classes"] == ("left", "right")
    never = table.assign(predicted="left")  # a class that is never predicted keeps its column
    assert classify.examples(model, test, never, chosen, CPU)["confusion"]["matrix"].tolist() == [[9, 0], [3, 0]]


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"train.flip": True}, "training (augmented)"),
        ({"train.crop": 2}, "training (augmented)"),
        ({"train.randaugment": 1}, "training (augmented)"),
        ({"train.mix": "cutmix", "train.label_smoothing": 0.1}, "training (augmented, smoothed labels)"),
        ({"train.label_smoothing": 0.1}, "training (smoothed labels)"),
    ],
)
def test_examples_say_what_the_curve_of_the_training_images_is_of(model, test, rivals, settings, change, label):
    _, table = classify.evaluate(model, test, rivals, settings(**CLASSIFY), CPU)
    chosen = settings(**(CLASSIFY | change))
    assert classify.examples(model, test, table, chosen, CPU)["training"]["label"] == label


def test_figures_are_drawn_with_their_captions(model, test, rivals, settings, tmp_path):
    chosen = settings(**CLASSIFY)
    _, table = classify.evaluate(model, test, rivals, chosen, CPU)
    columns = ["train_loss", "val_loss", "train_accuracy", "val_accuracy"]
    curve = pd.DataFrame({"epoch": [1, 2], "step": [5, 10], "lr": [1, 0.5]} | {name: [0.5, 0.75] for name in columns})
    folder = tmp_path / "figures"
    folder.mkdir()
    draw(classify.examples(model, test, table, chosen, CPU), curve, folder)
    captions = json.loads((folder / "captions.json").read_text())
    assert set(captions) == {path.name for path in folder.glob("*.png")}
    assert {"curve.png", "confusion.png", "confusion_rows.png", "ranking.png", "patches.png"} == set(captions)
