"""Which files are weights of ours, and where the state of a run lies."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save

import vitpipe
from vitpipe.errors import InputError
from vitpipe.training import checkpoint
from vitpipe.training.checkpoint import Resume, read_metadata, read_weights, resume_folder, save_weights
from vitpipe.training.compute import Compute

ROOT = Path(__file__).parents[2]
CPU = Compute(torch.device("cpu"), torch.float32)
WEIGHTS = {"a": torch.arange(9.0).reshape(3, 3).T, "b": torch.ones(2)}
FOREIGN = {"a": torch.ones(2)}


def test_weights_and_metadata_go_through_the_file(tmp_path):
    for name in ("one", "two"):
        save_weights(tmp_path / name, WEIGHTS, {"epoch": 3, "classes": ["é", "b"]})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_metadata(tmp_path / "one") == {"epoch": 3, "classes": ["é", "b"]}
    found = read_weights(tmp_path / "one")
    assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


@pytest.mark.parametrize("read", [read_metadata, read_weights])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is missing: the train stage makes"),
        (b"", "is damaged or no safetensors file"),
        (b"PK and something else", "is damaged or no safetensors file"),
        (save(FOREIGN, {"vitpipe": "{}"})[:-8], "is damaged or no safetensors file"),
        (save(FOREIGN), "does not say how its model was built"),
        (save(FOREIGN, {"format": "pt"}), "does not say how its model was built"),
    ],
)
def test_other_files_are_one_line(tmp_path, read, content, reason):
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"model.safetensors {reason}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", ["supersample", "classify"])
def test_the_folder_depends_on_the_settings_that_dvc_retrains_for(params, settings, task):
    """Where the digests are the same, `data` counts only as far as the model is built by it."""
    pipeline, own = (
        yaml.safe_load((ROOT / f).read_text(encoding="utf-8")) for f in ("dvc.yaml", f"conf/task/{task}.yaml")
    )
    listed = {name.replace("${dvc.target}", own["dvc"]["target"]) for name in pipeline["stages"]["train"]["params"]}
    one = resume_folder(settings(task), ["a", "b"], CPU)
    others = {
        "recipe": "trial01",
        "seed": 1,
        "data.root": "elsewhere",
        "data.count": 9,
        "data.scale": 4,
        "data.size": 36,
        "model.patch": 6,
        "train.lr": 0.1,
        "train.patience": 3,
    }
    others |= {"task.target": "even", "task.show": ["odd"], "model.pool": "avg"} if task == "classify" else {}
    for key, value in others.items():
        folder = resume_folder(settings(task, **{key: value}), ["a", "b"], CPU)
        assert (folder != one) is bool({key, key.split(".")[0]} & listed), key


def test_the_folder_depends_on_data_machine_and_root(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    one = resume_folder(settings(), ["a", "b"], CPU)
    assert one.parent == tmp_path / ".resume"
    assert resume_folder(settings(), ["a", "b"], Compute(torch.device("cpu"), torch.float32)) == one
    assert resume_folder(settings(), ["a", "c"], CPU) != one
    assert resume_folder(settings(), ["a", "b"], Compute(CPU.device, torch.bfloat16)) != one
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1234)
    assert resume_folder(settings(), ["a", "b"], CPU) != one
    monkeypatch.delenv("DVC_ROOT")
    assert resume_folder(settings(), [], CPU).parent == Path(".resume")


def test_the_folder_depends_on_the_code_of_training_alone(settings, monkeypatch, tmp_path):
    """Wording, scoring and drawing never cost the state of a run."""
    package = Path(vitpipe.__file__).parent
    for path in package.rglob("*.py"):
        copy = tmp_path / path.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(checkpoint.vitpipe, "__file__", str(tmp_path / "__init__.py"))
    one = resume_folder(settings(), [], CPU)
    free = ["tasks/supersample/scoring.py", "tasks/classify/training.py", "tasks/base.py", "explain/capture.py"]
    counts = [
        "tasks/supersample/training.py",
        "config/sections.py",
        "models/vit.py",
        "data/batches.py",
        "training/loop.py",
    ]
    for name in free + counts:
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content + b"\n")
        assert (resume_folder(settings(), [], CPU) != one) is (name in counts), name
        (tmp_path / name).write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"PK", b"no state at all", None])
def test_a_damaged_state_is_told_by_name(tmp_path, content):
    resume = Resume(tmp_path / "scratch")
    assert resume.load() is None
    resume.save({"epoch": 3, "weights": torch.arange(9)})
    assert resume.load()["epoch"] == 3
    resume.path.write_bytes(resume.path.read_bytes()[:-30] if content is None else content)
    with pytest.raises(InputError, match=r"scratch/state\.pt is damaged: remove .*scratch to train from the beginning"):
        resume.load()
