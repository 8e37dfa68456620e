import subprocess
import sys

import pytest


def run(code: str) -> str:
    process = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout


def test_imports_without_warnings_and_works():
    code = """
from vitpipe.sources.torchvision import import_torchvision
assert import_torchvision() is import_torchvision()
import torch
from torchvision.datasets import CelebA
from torchvision.transforms import v2
print(v2.Resize(4)(torch.zeros(3, 8, 8)).shape[-1], len(CelebA.file_list))
"""
    assert run(code) == "4 6\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "[] fine"),  # as one that fits its torch: declaring what it declares itself ends the process
        ("torch.ops.torchvision.nms", "['torchvision'] fine"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "['torchvision'] RuntimeError"),
        ("raise RuntimeError('no CUDA')", "[] RuntimeError"),
    ],
)
def test_only_what_cannot_be_imported_is_helped(tmp_path, content, expected):
    (tmp_path / "torchvision.py").write_text(
        f"""
import torch
try:
    {content or "pass"}
except AttributeError:
    raise RuntimeError("operator torchvision::nms does not exist") from None
"""
    )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from vitpipe.data import torchvision
try:
    torchvision.import_torchvision()
    found = "fine"
except RuntimeError:
    found = "RuntimeError"
print([library.ns for library in torchvision._declared], found)
"""
    assert run(code) == expected + "\n"


def test_missing_torchvision_is_an_import_error():
    code = """
import sys
sys.modules["torchvision"] = None
from vitpipe.sources.torchvision import import_torchvision
try:
    import_torchvision()
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert run(code) == "torchvision\n"
