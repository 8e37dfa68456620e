"""Where the state of a run lies, and which weights fit which settings."""

import pytest
import torch

from vitpipe.errors import InputError
from vitpipe.nn.compute import Compute
from vitpipe.tasks import supersample
from vitpipe.training.checkpoint import load_weights, resume_folder, save_weights

CPU = Compute(torch.device("cpu"), torch.float32)


def test_resume_folder_belongs_to_settings_and_data(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    one = resume_folder(settings(), ["a", "b"], CPU)
    assert one.parent == tmp_path / ".resume"
    assert resume_folder(settings(), ["a", "b"], CPU) == one
    assert resume_folder(settings(recipe="trial01"), ["a", "b"], CPU) == one
    assert resume_folder(settings(**{"task.show": ["odd"]}), ["a", "b"], CPU) == one  # of figures alone
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
        load_weights(path, supersample.build(settings()))
    save_weights(path, supersample.build(settings()).state_dict(), {"epoch": 1})
    with pytest.raises(InputError, match=r"trained with other model settings than params\.yaml has: run dvc repro"):
        load_weights(path, supersample.build(settings(**{"model.dim": 32})))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged"):
        load_weights(path, supersample.build(settings()))
