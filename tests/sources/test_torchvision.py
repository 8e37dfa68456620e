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
from torchvision.transforms import v2
print(v2.Resize(4)(torch.zeros(3, 8, 8)).shape[-1], len(import_torchvision().datasets.CelebA.file_list))
"""
    assert run(code) == "4 6\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "0 fine"),  # declaring what a sound torchvision declares itself would end the process
        ("torch.ops.torchvision.nms; torch.ops.torchvision.qnms", "1 fine"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "1 RuntimeError"),
        ("raise RuntimeError('no CUDA')", "0 RuntimeError"),
    ],
)
def test_operators_are_declared_only_if_the_import_misses_them(tmp_path, content, expected):
    (tmp_path / "torchvision.py").write_text(
        f"""
import torch
try:
    {content or "pass"}
except AttributeError:
    raise RuntimeError("operator torchvision::nms does not exist") from None
""",
        encoding="utf-8",
    )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from vitpipe.sources import torchvision
try:
    torchvision.import_torchvision()
    found = "fine"
except RuntimeError:
    found = "RuntimeError"
print(len(torchvision.declared), found)
"""
    assert run(code) == expected + "\n"
