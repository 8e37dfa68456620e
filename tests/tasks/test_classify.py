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
from vitpipe.data.packing import pack, targets_of
from vitpipe.data.pixels import normalize
from vitpipe.errors import InputError
from vitpipe.metrics.classification import sample_scores
from vitpipe.tasks.base import scoring_task
from vitpipe.tasks.classify import logistic, training
from vitpipe.tasks.classify.scoring import log_odds
from vitpipe.tasks.evaluation import evaluate, score_baselines

CPU = torch.device("cpu")
CLASSES = ("left", "right")
MEASURES = [
    *("accuracy", "accuracy_low", "accuracy_high"),
    *("balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high"),
    *("macro_f1", "log_loss", "calibration_error", "images"),
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
def make(settings):
    """`make(**{"train.crop": 2})`: the task with changed settings."""

    def made(**changes):
        return scoring_task(settings("classify", **({"task.target": "label", "train.flip": False} | changes)), CLASSES)

    return made


@pytest.fixture
def task(make):
    return make()


@pytest.fixture
def model(task, test):
    """It learned nothing, but says different things of different test images: their logits vary by 1 around 0."""
    torch.manual_seed(0)
    net = task.build().eval()
    with torch.no_grad():
        images = normalize(Batch(test, np.arange(len(test)), CPU).lr)
        net.head.weight /= net(images).std(0)[:, None]
        net.head.bias -= net(images).mean(0)
    return net


@pytest.fixture
def evaluated(task, model, test, baseline):
    return evaluate(task, model, test, baseline)


def relabelled(packed: PackedDataset, values: list) -> PackedDataset:
    """The same images with other labels."""
    assert len(packed.labels) == len(values)  # read before the file changes
    packed.samples.assign(label=values).to_csv(packed.folder / "samples.csv")
    return PackedDataset(packed.folder, packed.target)


def probabilities(train: PackedDataset, val: PackedDataset, test: PackedDataset) -> np.ndarray:
    """What logistic regression says of all images of `test`."""
    return logistic.fit(train, val, grey=False)(test.images("lr", np.arange(len(test))))


def test_metrics_have_the_keys_that_scripts_rely_on_and_each_its_protocol(task, model, test, baseline, evaluated):
    metrics, table = evaluated
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
    assert set(metrics) <= {*task.protocol, "seconds", "parameters"}  # these two say it by their names
    assert baseline["protocol"] == [task.protocol]


def test_metrics_are_those_of_the_table_whose_rows_belong_to_their_images(model, test, baseline, evaluated):
    metrics, table = evaluated
    assert set(table["predicted"]) == {"left", "right"}  # else the numbers below tell little
    right = table["actual"] == table["predicted"]
    assert metrics["accuracy"] == pytest.approx(right.mean(), rel=1e-5)
    assert metrics["log_loss"] == pytest.approx(table["loss"].mean(), rel=1e-5)
    assert metrics["confusion"] == pd.crosstab(table["actual"], table["predicted"]).to_numpy().tolist()
    for name, value in metrics["gain"].items():
        assert value == pytest.approx(metrics[name] - baseline["logistic"][name], abs=1e-5)
    assert metrics["logistic"] == baseline["logistic"]
    assert table["probability"].std() > 0.01  # images do differ
    for row, sample in enumerate(table.index):
        logits = model(normalize(Batch(test, np.array([row]), CPU).lr))[0].detach()
        assert table.loc[sample, "predicted"] == CLASSES[int(logits.argmax())]
        assert table.loc[sample, "probability"] == pytest.approx(float(logits.softmax(-1).max()), rel=1e-4)
        assert table.loc[sample, "actual"] == test.samples.loc[sample, "label"]


def test_scoring_is_done_in_evaluation_mode(task, model, test):
    images = test.images("lr", np.arange(12))
    dropping = nn.Sequential(nn.Dropout(0.5), model).train()
    np.testing.assert_array_equal(task.predict(dropping, images), task.predict(model, images))


def test_validation_agrees_with_evaluation(task, model, test, evaluated):
    batch = Batch(test, np.arange(12), CPU)
    with torch.no_grad():
        scores = task.validation_scores(model(normalize(batch.lr)), normalize(batch.lr), task.targets(batch))
    assert float(scores["accuracy"].mean()) == pytest.approx(evaluated[0]["accuracy"], rel=1e-5)
    assert float(scores["loss"].mean()) == pytest.approx(evaluated[0]["log_loss"], rel=1e-4)
    assert [len(values) for values in scores.values()] == [12, 12]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_is_that_of_the_batch(make, model, parts, smoothing):
    task, batch = make(**{"train.label_smoothing": smoothing}), Batch(parts[0], np.array([3, 0, 7, 2]), CPU)
    loss, means = task.loss(model, *task.augmented(batch))
    logits = model(normalize(batch.lr)).detach()
    log, wanted = logits.log_softmax(-1), torch.tensor([1, 0, 1, 0])  # ids 3 and 7 are in the right half
    expected = (1 - smoothing) * -log[range(4), wanted] + smoothing * -log.mean(-1)
    assert float(loss.detach()) == pytest.approx(float(expected.mean()), rel=1e-5)
    assert loss.requires_grad
    assert float(means["accuracy"]) == float((logits.argmax(1) == wanted).float().mean())


@pytest.mark.parametrize("changes", [{}, {"train.crop": 2, "train.mix": "both"}])
def test_a_process_gets_its_part_of_what_all_would_draw(make, parts, changes):
    task, found = make(**changes), []
    for part in (slice(None), slice(2, 5)):
        torch.manual_seed(0)
        found.append(task.augmented(Batch(parts[0], np.arange(8), CPU, part=part)))
    for whole, local in zip(*found, strict=True):
        assert len(whole) == 8
        assert torch.equal(whole[2:5], local)


def test_loss_of_mixed_images_is_that_of_their_shares(make, model, parts, monkeypatch):
    batch, shares = Batch(parts[0], np.arange(4), CPU), torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9], [0.8, 0.2]])
    monkeypatch.setattr(training, "mix", lambda images, labels, classes, kind: (images, shares))
    task = make(**{"train.mix": "mixup"})
    loss, means = task.loss(model, *task.augmented(batch))
    logits = model(normalize(batch.lr)).detach()
    assert float(loss.detach()) == pytest.approx(float(-(shares * logits.log_softmax(-1)).sum(-1).mean()), rel=1e-5)
    assert float(means["accuracy"]) == float((logits.argmax(1) == torch.tensor([0, 1, 1, 0])).float().mean())


def test_training_images_are_augmented(make, parts):
    batch = Batch(parts[0], np.arange(16), CPU)
    torch.manual_seed(1)
    shifted, plain = (make(**{"train.crop": crop}).augmented(batch)[0] for crop in (4, 0))
    assert torch.equal(plain, normalize(batch.lr))
    assert not torch.equal(shifted, plain)


def test_majority_says_the_shares_of_the_classes_among_training_images(task, parts, baseline):
    """Of 40 training images 10 are in the right half; of 12 test images 3."""
    assert [np.bincount(part.labels).tolist() for part in parts] == [[30, 10], [6, 2], [9, 3]]
    majority = baseline["majority"]
    assert (majority["accuracy"], majority["balanced_accuracy"]) == (0.75, 0.5)
    assert majority["log_loss"] == pytest.approx(-(9 * np.log(0.75) + 3 * np.log(0.25)) / 12, rel=1e-5)
    assert majority["calibration_error"] == pytest.approx(0, abs=1e-6)
    test = relabelled(parts[2], ["right"] * 12)
    assert score_baselines(task, *parts[:2], test)["majority"]["accuracy"] == 0


def test_logistic_regression_finds_what_a_line_can_part_and_sees_no_test_label(parts, baseline):
    """Left and right half: the sum over one half of the pixels tells it."""
    assert baseline["logistic"]["accuracy"] == 1
    before = probabilities(*parts)
    test = relabelled(parts[2], ["right", "left"] * 6)
    assert (test.labels != parts[2].labels).any()
    np.testing.assert_array_equal(probabilities(*parts[:2], test), before)


def test_validation_images_choose_the_penalty(parts, monkeypatch):
    train, _, test = parts
    labels = np.random.default_rng(0).permutation(["right", "left"] * 4)
    val = relabelled(parts[1], list(labels))  # random: the most timid of all is best
    assert val.labels.tolist() != parts[1].labels.tolist()
    penalties, candidates, errors = logistic.PENALTIES, [], {"val": [], "test": []}
    for penalty in penalties:
        monkeypatch.setattr(logistic, "PENALTIES", (penalty,))
        candidates.append(probabilities(train, val, test))
        for name, part in (("val", val), ("test", test)):
            errors[name].append(sample_scores(part.labels, probabilities(train, val, part))["loss"].mean())
    chosen, tempting = np.argmin(errors["val"]), np.argmin(errors["test"])
    assert chosen != tempting
    monkeypatch.setattr(logistic, "PENALTIES", penalties)
    np.testing.assert_array_equal(probabilities(train, val, test), candidates[chosen])


def test_validation_images_teach_nothing(parts, monkeypatch):
    monkeypatch.setattr(logistic, "PENALTIES", (0.01,))
    before = probabilities(*parts)
    val = relabelled(parts[1], ["right"] * 8)
    np.testing.assert_array_equal(probabilities(parts[0], val, parts[2]), before)


def test_logistic_regression_sees_a_limited_number_of_images(parts, monkeypatch):
    """Rows 0, 13, 26 and 39, of which the last alone is in the right half."""
    train, val, test = parts
    monkeypatch.setattr(logistic, "MOST_IMAGES", 4)
    before = probabilities(train, val, test)
    labels = np.array(train.samples["label"])
    labels[1:13] = "right"
    np.testing.assert_array_equal(probabilities(relabelled(train, list(labels)), val, test), before)
    monkeypatch.setattr(logistic, "MOST_IMAGES", 1)
    with pytest.raises(InputError, match="'left' is the class of all 1 training images"):
        probabilities(*parts)


def test_class_that_logistic_regression_never_sees_has_no_probability(parts, monkeypatch):
    train = relabelled(parts[0], ["left", *["middle"] * 20, *["right"] * 19])
    manifest = json.loads((train.folder.parent / "manifest.json").read_text())
    manifest["train"]["labels"]["label"] = {"left": 1, "middle": 20, "right": 19}
    (train.folder.parent / "manifest.json").write_text(json.dumps(manifest))
    parts = [PackedDataset(part.folder, "label") for part in parts]
    monkeypatch.setattr(logistic, "MOST_IMAGES", 2)
    found = probabilities(*parts)
    assert found.shape == (12, 3)
    assert (found[:, 1] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1)


def test_logistic_regression_sees_large_images_as_means(parts, monkeypatch):
    """Blocks of 6x6 pixels in place of images of 12x12: the noise within them is gone, the label is not."""
    seen = []
    fit = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda self, x, y: seen.append(x.shape) or fit(self, x, y))
    monkeypatch.setattr(logistic, "LARGEST_SIDE", 2)
    found = probabilities(*parts)
    assert {shape[1] for shape in seen} == {2 * 2 * 3}
    assert (found.argmax(1) == parts[2].labels).all()


class Coloured(Squares):
    """Pictures that are a little more red or more green, as their ids say, and of the same grey."""

    def read(self, sample: str) -> Image.Image:
        noise = np.random.default_rng(list(sample.encode())).integers(0, 100, (24, 24, 1), dtype=np.uint8)
        pixels = np.repeat(noise, 3, axis=2)
        pixels[..., 0 if self.where[sample] == "left" else 1] += 60
        return Image.fromarray(pixels)


def test_baseline_of_a_model_that_sees_grey_sees_grey(make, table, settings, tmp_path):
    folder = tmp_path / "coloured"
    folder.mkdir()
    pack(table, Coloured(dict(table["label"])), settings().data, folder)
    parts = [PackedDataset(folder / part, "label") for part in ("train", "val", "test")]
    colour, grey = (score_baselines(make(**{"model.in_chans": n}), *parts)["logistic"] for n in (3, 1))
    assert colour["balanced_accuracy"] == 1
    assert grey["balanced_accuracy"] < 0.8


def test_examples_show_what_was_said(task, model, test, evaluated):
    metrics, table = evaluated
    curve = pd.DataFrame({"epoch": [1], "val_accuracy": [0.5]})
    found = task.examples(model, test, table, curve)
    assert list(found) == ["curve", "confusion", "ranking", "patches"]
    ranking = found["ranking"]
    assert ranking["worst_ids"][0] == table["loss"].idxmax()
    assert ranking["best_ids"][0] == table["loss"].idxmin()
    for band, order in (("worst", -1), ("best", 1), ("random", None)):
        ids = ranking[f"{band}_ids"]
        assert len(ids) == len(set(ids)) == 10
        assert order is None or (np.diff(ranking[f"{band}_loss"]) * order >= 0).all()
        for i, sample in enumerate(ids):
            row = np.array([test.samples.index.get_loc(sample)])
            np.testing.assert_array_equal(ranking[f"{band}_images"][i], test.images("hr", row)[0])
            for key in ("predicted", "actual", "probability", "loss"):
                assert ranking[f"{band}_{key}"][i] == table.loc[sample, key]
    patches = found["patches"]
    row = np.array([test.samples.index.get_loc(str(patches["id"]))])
    np.testing.assert_array_equal(patches["image"], test.images("lr", row)[0])
    assert (int(patches["patch"]), int(patches["prefix_tokens"])) == (3, 1)
    assert found["confusion"]["matrix"].tolist() == metrics["confusion"]
    assert found["confusion"]["classes"].tolist() == ["left", "right"]
    never = table.assign(predicted="left")  # a class that is never predicted keeps its column
    assert task.examples(model, test, never, curve)["confusion"]["matrix"].tolist() == [[9, 0], [3, 0]]
    other = task.examples(model, test, table.assign(loss=table["loss"].to_numpy()[::-1]), curve)["ranking"]
    assert other["random_ids"].tolist() == ranking["random_ids"].tolist(), "no score chooses these"
    assert other["worst_ids"].tolist() != ranking["worst_ids"].tolist()


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({}, "training"),
        ({"train.flip": True}, "training (augmented)"),
        ({"train.crop": 2}, "training (augmented)"),
        ({"train.randaugment": 1}, "training (augmented)"),
        ({"train.mix": "cutmix", "train.label_smoothing": 0.1}, "training (augmented, smoothed labels)"),
        ({"train.label_smoothing": 0.1}, "training (smoothed labels)"),
    ],
)
def test_the_curve_says_what_the_training_images_went_through(make, change, label):
    assert make(**change).training_label() == label


def test_questions_are_about_the_predicted_class(task, model, test, evaluated):
    _, table = evaluated
    images = normalize(Batch(test, np.arange(12), CPU).lr)
    questions = task.questions(model, images, test.samples)
    assert questions.shown["predicted"].tolist() == table["predicted"].tolist()
    assert questions.shown["actual"].tolist() == table["actual"].tolist()
    assert "actual" not in task.questions(model, images).shown
    logits = model(images)
    odds = table["probability"] / (1 - table["probability"])
    assert questions.output_score(logits).tolist() == pytest.approx(np.log(odds).tolist(), rel=1e-3, abs=1e-4)
    of = torch.tensor([3, 3, 0])
    kept = questions.kept(logits.detach()[[3, 0, 0]], of, logits, logits)
    own = table["probability"].to_numpy()
    assert float(kept[0]) == pytest.approx(own[3], rel=1e-4)
    assert float(kept[2]) == pytest.approx(own[0], rel=1e-4)
    assert (questions.tokens, questions.every_layer, questions.fill) == (None, False, "mean")
    assert {"gradient_input", "integrated"} <= set(questions.methods)


def test_log_odds_have_the_gradient_of_the_cross_entropy_over_what_is_not_the_class():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3, requires_grad=True), torch.tensor([2, 0, 1, 1])
    (odds,) = torch.autograd.grad(log_odds(logits, labels).sum(), logits)
    (entropy,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels, reduction="sum"), logits)
    rest = 1 - logits.detach().softmax(1)[range(4), labels]
    torch.testing.assert_close(odds, -entropy / rest[:, None])


def test_outcome_and_presentation_say_what_the_model_says(task, model, test):
    rows = np.array([3, 8])
    outcome = task.outcome(model, test, rows)
    assert list(outcome.pictures) == ["input"]
    assert outcome.classes == CLASSES
    assert outcome.actual == ["right", "left"]
    np.testing.assert_array_equal(outcome.probabilities, task.predict(model, test.images("lr", rows)))
    assert task.present(np.array([0.25, 0.75])) == [{"label": "right", "score": 0.75}, {"label": "left", "score": 0.25}]
    photo = Image.effect_noise((50, 40), 90).convert("RGB")
    np.testing.assert_array_equal(task.prepare(photo), targets_of(photo, task.settings.data)["lr"])


def test_classes_to_compare_are_those_of_the_settings(make):
    assert make().compared_classes is None
    assert make(**{"task.show": ["right"]}).compared_classes == ("right",)
