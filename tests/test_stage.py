"""What a user sees when a stage fails: one line and an exit status."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

PROBE = """
import sys, time
from vitpipe.errors import InputError
from vitpipe.stage import run

def main(settings):
    print(settings.recipe, "torch" in sys.modules, flush=True)
    {body}

if __name__ == "__main__":
    run(main)
"""


@pytest.fixture
def probe(tmp_path, params):
    """Starts a stage named probe whose main has the given body."""

    def start(body: str) -> subprocess.Popen:
        (tmp_path / "stages").mkdir()
        (tmp_path / "stages" / "__init__.py").touch()
        (tmp_path / "stages" / "probe.py").write_text(PROBE.format(body=body))
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params()))
        return subprocess.Popen(
            [sys.executable, "-m", "stages.probe"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_success(probe):
    process = probe("pass")
    assert process.communicate() == ("supersample False\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise InputError('data.root is no folder')", "probe: data.root is no folder"),
        ("open('data/nowhere')", "probe: No such file or directory: data/nowhere"),
        ("raise OSError(28, 'No space left on device')", "probe: No space left on device"),
        ("raise OSError('cannot write')", "probe: cannot write"),
        (
            "raise RuntimeError('CUDA out of memory. Tried to allocate 9 GiB')",
            "probe: not enough memory: lower train.batch or data.size (CUDA out of memory. Tried to allocate 9 GiB)",
        ),
        ("raise MemoryError", "probe: not enough memory: lower train.batch or data.size (no more is free)"),
        ("import torch; torch.empty(2**60)", "probe: not enough memory: lower train.batch or data.size ("),
    ],
)
def test_foreseeable_failure_is_one_line(probe, body, line):
    process = probe(body)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.startswith(line)
    assert errors.count("\n") == 1


def test_wrong_setting_is_one_line_before_main_begins(probe, params, tmp_path):
    process = probe("pass")
    process.communicate()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params(**{"model.patch": 5})))
    done = subprocess.run(process.args, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("probe: params.yaml: model.patch is 5, but must divide the input size 12")
    assert done.stderr.count("\n") == 1


def test_interrupt_is_one_line(probe):
    process = probe("time.sleep(60)")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "\nprobe: interrupted\n")


@pytest.mark.parametrize("error", ["ZeroDivisionError('/ 0')", "RuntimeError('unsupported memory format')"])
def test_defect_keeps_its_traceback(probe, error):
    process = probe(f"raise {error}")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "Traceback" in errors
    assert error.partition("(")[0] in errors


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py")))
def test_every_stage_checks_the_settings_first(stage, name):
    done = stage(name, **{"model.heads": 3})
    assert done.returncode == 1
    assert done.stderr == (f"{name}: params.yaml: model.heads is 3, but must divide model.dim 16: 1, 2, 4, 8, 16\n")
