"""Beside a fine-tuned model stand baselines that read frozen features, and intervals over people."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from vitpipe.data.dataset import PackedDataset
from vitpipe.errors import InputError
from vitpipe.metrics.classification import classification
from vitpipe.tasks.base import OfFeatures, scoring_task
from vitpipe.tasks.classify import logistic, neighbours
from vitpipe.tasks.evaluation import evaluate, score_baselines, score_parts

CLASSES = ("ant", "bee", "cow")
FROZEN = ["majority", "logistic", "knn", "probe"]


@pytest.fixture
def table(table) -> pd.DataFrame:
    """Half of the images show the first class; every person is in three images."""
    random, count = np.random.default_rng(2), len(table)
    return table.assign(label=random.choice(CLASSES, count, p=[0.5, 0.3, 0.2]), identity=np.arange(count) // 3)


@pytest.fixture
def parts(packed) -> list[PackedDataset]:
    return [PackedDataset(packed / part, "label") for part in ("train", "val", "test")]


@pytest.fixture
def vectors(parts, packed) -> list[np.ndarray]:
    """Features of each part: the class, blurred by noise, in numbers of different size; pixels know nothing of it."""
    random, found = np.random.default_rng(3), []
    (packed.parent / "features").mkdir()
    for part in parts:
        centre = np.array([[1, 0, 0, 1, 0, 1], [0, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0]])[part.labels]
        made = ((centre + random.normal(0, 0.5, centre.shape)) * [1, 2, 5, 1, 0.5, 1]).astype(np.float32)
        np.save(packed.parent / f"features/{part.folder.name}.npy", made)
        found.append(made)
    return found


@pytest.fixture
def make(settings):
    """`make(weights)`: the task of a model that begins with these weights."""

    def made(weights: str | None = "some.safetensors"):
        changes = {"task.target": "label", "train.flip": False, "model.weights": weights}
        return scoring_task(settings("classify", **changes), CLASSES)

    return made


def relabelled(part: PackedDataset, values: np.ndarray) -> PackedDataset:
    """The same images with other labels."""
    assert len(part.labels) == len(values)  # read before the file changes
    part.samples.assign(label=values).to_csv(part.folder / "samples.csv")
    return PackedDataset(part.folder, part.target)


@pytest.mark.parametrize("k", [1, 3, 20])
def test_neighbours_are_those_of_the_largest_cosine_similarity(parts, vectors, monkeypatch, k):
    train, val, _test = parts
    monkeypatch.setattr(neighbours, "NEIGHBOURS", (k,))
    found = neighbours.fit(train, val)(vectors[2])
    votes = KNeighborsClassifier(k, metric="cosine").fit(vectors[0], train.labels).predict_proba(vectors[2])
    shares = np.bincount(train.labels) / 40
    np.testing.assert_allclose(found, (k * votes + shares) / (k + 1), rtol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(neighbours.fit(train, val)(vectors[2] * 7), found)  # lengths do not matter
    assert np.isfinite(neighbours.fit(train, val)(np.zeros((1, 6), np.float32))).all()


def candidates(module, name, fit, choices, parts, monkeypatch) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What the baseline says of val and test for each choice alone."""
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for choice in choices:
        monkeypatch.setattr(module, name, (choice,))
        predict = fit(*parts[:2])
        for said, part in zip(found, parts[1:], strict=True):
            said.append(predict(part.images("features", np.arange(len(part)))))
    monkeypatch.setattr(module, name, choices)
    return found


def test_validation_images_choose_the_number_of_neighbours(parts, vectors, monkeypatch):
    seen = set()
    for seed in range(8):
        labels = np.random.default_rng(seed).permutation(np.array(CLASSES)[parts[1].labels])
        parts[1] = relabelled(parts[1], labels)
        choices = neighbours.NEIGHBOURS
        val, test = candidates(neighbours, "NEIGHBOURS", neighbours.fit, choices, parts, monkeypatch)
        chosen = int(np.argmin([-np.log(said[range(8), parts[1].labels]).mean() for said in val]))
        seen.add(chosen)
        np.testing.assert_array_equal(neighbours.fit(*parts[:2])(vectors[2]), test[chosen])
    assert len(seen) > 1


def test_few_training_images_have_few_neighbours(parts, vectors, monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_FEATURES", 4)  # rows 0, 13, 26 and 39
    rows = [0, 13, 26, 39]
    found = neighbours.fit(*parts[:2])(vectors[2])
    votes = KNeighborsClassifier(1, metric="cosine").fit(vectors[0][rows], parts[0].labels[rows])
    assert (found.argmax(1) == votes.predict(vectors[2])).all()


def test_probe_is_logistic_regression_on_standardised_features(parts, vectors, monkeypatch):
    train, val, _test = parts
    said, _ = candidates(logistic, "PROBE_PENALTIES", logistic.probe, logistic.PROBE_PENALTIES, parts, monkeypatch)
    losses = [-np.log(found[range(8), val.labels]).mean() for found in said]
    best = logistic.PROBE_PENALTIES[int(np.argmin(losses))]
    scaler = StandardScaler().fit(vectors[0])
    model = LogisticRegression(C=best, max_iter=100).fit(scaler.transform(vectors[0]), train.labels)
    expected = model.predict_proba(scaler.transform(vectors[2]))
    np.testing.assert_allclose(logistic.probe(train, val)(vectors[2]), expected, atol=1e-5)
    assert len({round(float(loss), 4) for loss in losses}) == len(losses)  # the penalty matters
    assert np.argmin(losses) > 0


@pytest.mark.parametrize("fit", [neighbours.fit, logistic.probe])
def test_validation_images_teach_nothing(parts, vectors, monkeypatch, fit):
    for module, name, value in ((neighbours, "NEIGHBOURS", 5), (logistic, "PROBE_PENALTIES", 0.1)):
        monkeypatch.setattr(module, name, (value,))
    before = fit(*parts[:2])(vectors[2])
    val = relabelled(parts[1], np.array(CLASSES)[[2, 0, 1, 2, 2, 1, 0, 2]])
    np.testing.assert_array_equal(fit(parts[0], val)(vectors[2]), before)


def test_scores_give_a_predictor_of_features_those_of_its_rows(make, parts, vectors):
    seen = []
    predict = OfFeatures(lambda features: seen.append(features) or np.full((len(features), 3), 1 / 3))
    make().scores(predict, parts[2], np.array([7, 2, 2]))
    np.testing.assert_array_equal(np.concatenate(seen), vectors[2][[7, 2, 2]])


def test_metrics_of_fine_tuning_stand_beside_what_frozen_features_reach(make, parts, vectors):
    task = make()
    baseline = score_baselines(task, *parts)
    assert list(baseline) == [*FROZEN, "images", "protocol"]
    assert baseline["probe"]["accuracy"] > baseline["logistic"]["accuracy"] + 0.2  # pixels know nothing
    assert baseline["knn"]["accuracy"] > baseline["logistic"]["accuracy"] + 0.2
    metrics, _table = evaluate(task, task.build(), parts[2], baseline)
    assert {name: metrics[name] for name in FROZEN} == {name: baseline[name] for name in FROZEN}
    for name, gain in metrics["gain"].items():
        assert gain == pytest.approx(metrics[name] - baseline["probe"][name], abs=1e-5)
    assert metrics["gain"]["accuracy"] != pytest.approx(metrics["accuracy"] - baseline["logistic"]["accuracy"])
    assert set(metrics) <= {*task.protocol, "seconds", "parameters"}
    assert task.protocol["gain"] == "model minus probe"
    assert task.reference == task.rivals[-1] == "probe"  # the page takes the last one for the reference
    json.dumps(metrics, allow_nan=False)


def test_without_weights_no_baseline_reads_features(make, parts, vectors):
    task = make(None)
    assert list(score_baselines(task, *parts)) == ["majority", "logistic", "images", "protocol"]
    assert (task.reference, task.protocol["gain"]) == ("logistic", "model minus logistic")
    assert not {"knn", "probe"} & set(task.protocol)


def test_features_that_are_missing_are_told(make, parts):
    with pytest.raises(InputError, match=r"features/train\.npy is missing: the stage features makes it"):
        score_baselines(make(), *parts)


def test_intervals_are_over_the_people_in_the_images(make, parts):
    """12 test images of 4 people: of both intervals the ends, for a model and its baselines."""
    task, (train, val, test) = make(None), parts
    assert np.unique(test.persons).tolist() == [0, 1, 2, 3]
    baseline = score_baselines(task, train, val, test)
    model = task.build().eval()
    metrics, table = evaluate(task, model, test, baseline)
    said = task.predict(model, test.images("lr", np.arange(12)))
    expected = classification(test.labels, said, CLASSES, test.persons)
    assert {name: metrics[name] for name in expected} == expected
    assert metrics["persons"] == baseline["majority"]["persons"] == 4
    alone = classification(test.labels, said, CLASSES)
    assert [alone[f"accuracy_{end}"] for end in ("low", "high")] != [metrics["accuracy_low"], metrics["accuracy_high"]]
    assert "person" not in table
    some = task.scores(lambda images: np.full((len(images), 3), 1 / 3), test, np.array([11, 0, 4]))
    assert some["person"].tolist() == [3, 0, 1]


def test_averaged_epochs_are_scored_as_the_model_is(make, parts):
    task, test = make(None), parts[2]
    models = {epoch: task.build().eval() for epoch in (3, 7)}
    for model in models.values():
        model.head.weight.data *= 30  # so that they say different things
    found = score_parts(task, models.items(), 2, test)
    assert [part["epoch"] for part in found] == [3, 7]
    baseline = score_baselines(task, *parts)
    for part, model in zip(found, models.values(), strict=True):
        metrics, _ = evaluate(task, model, test, baseline)
        assert set(part) == {"epoch", *baseline["majority"]}
        assert part == {"epoch": part["epoch"]} | {name: metrics[name] for name in baseline["majority"]}
    assert found[0]["log_loss"] != found[1]["log_loss"]
