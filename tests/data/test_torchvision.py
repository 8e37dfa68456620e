import subprocess
import sys

import pytest
import torch

from vitpipe.data import torchvision as remedy


def run(code: str) -> str:
    process = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout


def test_imports_without_warnings_and_works():
    code = """
from vitpipe.data.torchvision import import_torchvision
assert import_torchvision() is import_torchvision()
import torch
from torchvision.datasets import CelebA
from torchvision.transforms import v2
print(v2.Resize(4)(torch.zeros(3, 8, 8)).shape[-1], len(CelebA.file_list))
"""
    assert run(code) == "4 6\n"


def test_fitting_library_is_left_alone():
    """With a library that loads, nothing is declared; whether the import then succeeds is torchvision's affair."""
    code = """
import contextlib, torch
torch.ops.load_library = lambda path: None
from vitpipe.data import torchvision
with contextlib.suppress(RuntimeError, AttributeError):
    torchvision.import_torchvision()
print(torchvision._declared)
"""
    assert run(code) == "[]\n"


def test_already_imported_torchvision_is_returned(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", sys)
    monkeypatch.setattr(remedy, "declare_operators", lambda: pytest.fail("declared"))
    assert remedy.import_torchvision() is sys


@pytest.mark.parametrize("error", [OSError("libcudart.so: cannot open shared object file")])
def test_library_that_does_not_load(monkeypatch, error):
    def fail(path):
        assert path.stem.split(".")[0] == "_C"
        raise error

    monkeypatch.setattr(torch.ops, "load_library", fail)
    assert not remedy.compiled_library_loads()


def test_missing_torchvision_is_an_import_error():
    code = """
import sys
sys.modules["torchvision"] = None
from vitpipe.data.torchvision import import_torchvision
try:
    import_torchvision()
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert run(code) == "torchvision\n"
