"""The Makefile finds programs with any GNU make, and passes on what git says."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = ("repro", "test", "bench", "study", "controls", "lint", "format", "lock")


def make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, env=os.environ | environment)


@pytest.mark.parametrize("target", TARGETS)
def test_installed_programs_are_called_by_path(target):
    """GNU make 3.81, that of macOS, looks for the first word of a recipe line in its own PATH, not the exported one."""
    lines = make(ROOT, "--dry-run", "--always-make", target).stdout.replace("\\\n", " ").splitlines()
    words = [word for line in lines for word in re.split(r"[\s;|&{}()]+", re.sub(r"'[^']*'|\"[^\"]*\"", "", line))]
    called = [word for word in words if Path(word).name in ("dvc", "pytest", "ruff", "mypy", "python", "pip")]
    assert any(word.startswith(".venv/bin/") for word in called)
    assert {word for word in called if not word.startswith(".venv/bin/")} <= {"pip"}  # as in python -m pip
    assert not [line for line in lines if line.startswith("pip")]


@pytest.mark.parametrize(
    ("prepare", "environment", "told", "untold"),
    [
        ([], {}, "no git checkout, which DVC needs", "dubious"),
        (["git", "init", "--quiet"], {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}, "dubious ownership", "git init"),
        (
            ["git", "init", "--quiet"],
            {"GIT_CONFIG_GLOBAL": os.devnull, "PYTHON": "false"},
            "git config user.name",
            "no git",
        ),
    ],
)
def test_what_git_refuses_is_told_in_its_words(tmp_path, prepare, environment, told, untold):
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    if prepare:
        subprocess.run(prepare, cwd=tmp_path, check=True)
    environment = {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent), "GIT_CONFIG_SYSTEM": os.devnull} | environment
    done = make(tmp_path, "setup", f"PYTHON={environment.get('PYTHON', 'python3')}", **environment)
    assert done.returncode != 0
    assert told in done.stdout
    assert untold not in done.stdout
