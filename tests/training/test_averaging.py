"""The weights that a run ends with are the mean of the epochs that their metadata names."""

import pytest
import torch

from vitpipe.training.averaging import best_epochs
from vitpipe.training.checkpoint import Resume, read_metadata, read_weights

pytestmark = pytest.mark.usefixtures("one_thread")
SOUP = [1, 5, 2, 4, 3, 0]  # the best five in order: epochs 2, 4, 5, 3, 1


@pytest.mark.parametrize(
    ("average", "epochs", "after", "parts", "score"),
    [
        ("best3", SOUP, [2.5], [2, 4, 5], 2.5),  # whatever the mean is worth
        ("best3", [1, 5], [6], [2, 1], 6),
        ("greedy", SOUP, [5.5, 5.4, 5.5, 5.0], [2, 4, 3], 5.5),  # as good is good enough
        ("greedy", SOUP, [4, 4, 4, 4], [2], 5),
        ("greedy", [7], [], [1], 7),
    ],
)
def test_the_mean_of_the_named_epochs_is_saved(training, finished, planned, average, epochs, after, parts, score):
    seen = planned([*epochs, *after])
    run = training(**{"train.epochs": len(epochs), "train.average": average})
    folder = finished(run, "run")
    path = folder / "model.safetensors"
    found, metadata = read_weights(path), read_metadata(path)
    assert len(seen) == len(epochs) + len(after)
    for name, tensor in found.items():
        mean = torch.stack([seen[epoch - 1][name] for epoch in parts]).mean(0)
        torch.testing.assert_close(tensor, mean, rtol=1e-6, atol=1e-8, msg=name)
    scores = [epochs[epoch - 1] for epoch in parts]
    assert metadata["average"] == {"epochs": parts, "val_psnr": scores}
    assert (metadata["epoch"], metadata["val_psnr"]) == (parts[0], score)
    files = sorted((folder / "parts").iterdir())
    assert [file.name for file in files] == [f"epoch-{epoch:02d}.safetensors" for epoch in sorted(parts)]
    for file, epoch in zip(files, sorted(parts), strict=True):
        own, told = read_weights(file), read_metadata(file)
        assert all(torch.equal(own[name], tensor) for name, tensor in seen[epoch - 1].items())
        assert (told["epoch"], told["val_psnr"], told["average"]) == (epoch, epochs[epoch - 1], None)
        assert [told[key] for key in ("settings", "classes", "encoder")] == [
            metadata[key] for key in ("settings", "classes", "encoder")
        ]


def test_parts_of_an_earlier_run_do_not_stay(training, finished):
    for average, exists in (("best3", True), ("none", False)):
        folder = finished(training(**{"train.epochs": 1, "train.average": average}), "run")
        assert (folder / "parts").exists() is exists
    assert read_metadata(folder / "model.safetensors")["average"] is None


def test_the_score_of_the_mean_is_that_of_the_saved_weights(training, finished):
    run = training("classify", **{"train.epochs": 4, "train.average": "best3", "train.lr": 0.02})
    folder = finished(run, "run")
    other = training("classify")
    other.ema_model.load_state_dict(read_weights(folder / "model.safetensors"))
    assert other.validate()["accuracy"] == read_metadata(folder / "model.safetensors")["val_accuracy"]


def test_memory_is_bounded_and_the_first_of_equals_stays_first():
    epochs = [
        {"epoch": i, "score": score, "loss": loss} for i, (score, loss) in enumerate([(1, 0), (2, 1), (2, 0)] * 3)
    ]
    assert [[epoch["epoch"] for epoch in best_epochs(epochs, name)] for name in ("none", "best3", "greedy")] == [
        [2],
        [2, 5, 8],
        [2, 5, 8, 1, 4],
    ]


def test_only_the_kept_epochs_hold_weights(training, tmp_path, planned):
    planned([1, 5, 2, 4, 3, 0, 9])
    run = training(**{"train.epochs": 6, "train.average": "best3"})
    run.run(Resume(tmp_path / "scratch"))
    state = Resume(tmp_path / "scratch").load()
    assert [(epoch["epoch"], len(epoch["weights"]) > 0) for epoch in state["kept"]] == [(2, True), (4, True), (5, True)]
