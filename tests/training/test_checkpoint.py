"""Where the state of a run lies, and which weights fit which settings."""

import pytest
import torch
from safetensors.torch import save

from vitpipe.errors import InputError
from vitpipe.training.compute import Compute
from vitpipe.tasks import supersample
from vitpipe.training.checkpoint import Resume, load_weights, resume_folder, save_weights

CPU = Compute(torch.device("cpu"), torch.float32)
OTHER = {"model.dim": 32, "model.heads": 4, "model.skip": "nearest", "model.mirrored": True, "model.consistent": True}
"""Settings of another model; of all but the first the weights have the same shapes."""


def test_resume_folder_belongs_to_settings_and_data(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    one = resume_folder(settings(), ["a", "b"], CPU)
    assert one.parent == tmp_path / ".resume"
    assert resume_folder(settings(), ["a", "b"], CPU) == one
    assert resume_folder(settings(recipe="trial01"), ["a", "b"], CPU) == one
    assert resume_folder(settings(**{"task.show": ["odd"]}), ["a", "b"], CPU) == one  # of figures alone
    assert resume_folder(settings(**{"data.root": "elsewhere"}), ["a", "b"], CPU) == one
    others = [
        settings(seed=1),
        settings(**{"train.lr": 0.1}),
        settings(**{"model.patch": 6}),
        settings(**{"data.count": 9}),
        settings(**{"task.target": "even"}),
        settings(**{"train.patience": 3}),
    ]
    other_type = Compute(CPU.device, torch.bfloat16)
    assert resume_folder(settings(), ["a", "b"], other_type) != one
    folders = {resume_folder(other, ["a", "b"], CPU) for other in others}
    assert len({one, resume_folder(settings(), ["a", "c"], CPU), *folders}) == 8
    monkeypatch.delenv("DVC_ROOT")
    assert resume_folder(settings(), [], CPU).parent.name == ".resume"


def test_weights_of_other_settings_are_refused(tmp_path, settings):
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match=r"is missing: run the train stage first"):
        load_weights(path, supersample.build(settings()), settings())
    save_weights(path, supersample.build(settings()).state_dict(), {"settings": settings().model_dump()})
    load_weights(path, supersample.build(settings()), settings())
    for key, value in OTHER.items():
        other = settings(**{key: value})
        with pytest.raises(InputError, match=r"trained with other model settings than params\.yaml has: run dvc repro"):
            load_weights(path, supersample.build(other), other)
    load_weights(path, supersample.build(settings()), settings(**{"train.lr": 0.1, "task.show": ["odd"]}))
    for weights, facts in (({"model.dim": 32}, {"settings": settings().model_dump()}), ({}, {"epoch": 1})):
        save_weights(path, supersample.build(settings(**weights)).state_dict(), facts)
        with pytest.raises(InputError, match="trained with other model settings"):
            load_weights(path, supersample.build(settings()), settings())
    path.write_bytes(save(supersample.build(settings()).state_dict()))  # somebody else's file
    with pytest.raises(InputError, match="trained with other model settings"):
        load_weights(path, supersample.build(settings()), settings())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged"):
        load_weights(path, supersample.build(settings()), settings())


@pytest.mark.parametrize("content", [b"", b"PK", b"no state at all", None])
def test_a_damaged_state_is_told_by_name(tmp_path, content):
    resume = Resume(tmp_path / "scratch")
    assert resume.load() is None
    resume.save({"epoch": 3, "weights": torch.arange(9)})
    assert resume.load()["epoch"] == 3
    resume.path.write_bytes(resume.path.read_bytes()[:-30] if content is None else content)
    with pytest.raises(InputError, match=r"scratch/state\.pt is damaged: remove .*scratch to train from the beginning"):
        resume.load()
