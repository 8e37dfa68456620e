"""Which room may import which, and whether dvc.yaml lists it: DVC does not follow imports."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from vitpipe.config import TASKS

ROOT = Path(__file__).parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
GROUND = {"config", "errors", "files", "progress", "stage", "validation"}
MODELS = {"models", "metrics", "data", "sources"}
MAY_IMPORT = {  # beside its own modules and the ground
    "stages": {"tasks", "training", "weights", "explain", "figures", "report", "predictor"} | MODELS,
    "": {"predictor", "explain", "weights"},  # vitpipe/__init__.py
    "predictor": {"tasks", "training", "explain"} | MODELS,
    "tasks": {"training.task"} | MODELS,
    "training": {"models", "data", "sources"},
    "explain": {"tasks.base"} | MODELS,
    "figures": {"metrics"},
    "report": {"metrics"},
    "weights": {"models", "sources"},
    "models": {"sources.torchvision"},
    "metrics": set(),
    "data": {"sources"},
    "sources": set(),
}


def path_of(module: str) -> Path | None:
    """The file of a module of ours, relative to the root."""
    for path in (Path(*module.split(".")).with_suffix(".py"), Path(*module.split("."), "__init__.py")):
        if (ROOT / path).exists():
            return path
    return None


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return {name for name in found if name.split(".")[0] in ("vitpipe", "stages") and path_of(name)}


BY_NAME = {  # what a file that matches the pattern may import by its name
    r"sources import .*\bsource\b": "vitpipe/sources/*.py",
    r"figures import draw": "vitpipe/figures/*.py",
    r"(training_task|open_part)\(": "vitpipe/tasks/TASK/training.py",
    r"scoring_task\(": "vitpipe/tasks/TASK/*.py",
}


DEFINED_IN = {Path("vitpipe/tasks/__init__.py"), Path("vitpipe/tasks/base.py")}  # the functions that import by name


def by_name(path: Path, task: str) -> set[Path]:
    """Files that a module imports by their name: data sets, figures, parts of the task."""
    text = (ROOT / path).read_text(encoding="utf-8")
    globs = [files for pattern, files in BY_NAME.items() if re.search(pattern, text)]
    return {found.relative_to(ROOT) for files in globs for found in ROOT.glob(files.replace("TASK", task))}


def closure(path: Path, task: str = "*") -> set[Path]:
    """All files of ours with content that running `path` may import, with this task in the settings or with any."""
    seen, waiting = set(), [path]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for module in imports(current):
            # importing a module runs the packages above it
            parents = [".".join(module.split(".")[:i]) for i in range(1, module.count(".") + 2)]
            waiting += [found for name in parents if (found := path_of(name))]
        if current not in DEFINED_IN:
            waiting += by_name(current, task)
    seen.add(path.parent / "__init__.py")  # run by python -m
    return {
        path
        for path in seen
        if (ROOT / path).read_text(encoding="utf-8").strip() and path != Path("vitpipe/__init__.py")
    }


def listed(stage: str, task: str) -> set[Path]:
    """Python files with content that a stage depends on, with this task in the settings."""
    found = set()
    for dep in PIPELINE[stage]["deps"]:
        path = ROOT / dep.replace("${task.name}", task)
        files = path.rglob("*.py") if path.is_dir() else [path]
        found |= {file.relative_to(ROOT) for file in files if file.suffix == ".py"}
    return {path for path in found if (ROOT / path).read_text(encoding="utf-8").strip()}


def room(path: Path) -> str:
    return "stages" if path.parts[0] == "stages" else path.parts[1].removesuffix(".py").replace("__init__", "")


def allowed(path: Path, module: str) -> bool:
    """Whether the file may import the module."""
    own, other = room(path), module.split(".")
    if other[0] == "stages":
        return False
    if len(other) == 1 or other[1] in GROUND | {own}:
        return True
    return any(".".join(other[1:]).startswith(name) for name in MAY_IMPORT.get(own, set())) or (
        (own, module)
        in (("explain", "vitpipe.tasks"), ("tasks", "vitpipe.training"))  # packages that hold an interface
    )


def test_imports_point_one_way() -> None:
    files = [path.relative_to(ROOT) for path in [*ROOT.glob("vitpipe/**/*.py"), *ROOT.glob("stages/*.py")]]
    wrong = [f"{path} imports {module}" for path in files for module in imports(path) if not allowed(path, module)]
    assert not wrong


def test_only_tasks_and_settings_know_the_names_of_tasks() -> None:
    """No other file has the name of a task as a string, or imports from its folder."""
    name = "|".join(TASKS)
    names = re.compile(rf"""["'`]({name})["'`]|vitpipe\.tasks\.({name})\b""")
    files = [*ROOT.glob("vitpipe/**/*.py"), *ROOT.glob("vitpipe/report/*.*"), *ROOT.glob("stages/*.py")]
    wrong = []
    for path in files:
        relative = path.relative_to(ROOT).as_posix()
        if not relative.startswith("vitpipe/tasks/") and not relative.startswith("vitpipe/config/"):
            lines = path.read_text(encoding="utf-8").splitlines()
            wrong += [f"{relative}: {line.strip()}" for line in lines if names.search(line)]
    assert not wrong


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("stage", PIPELINE)
def test_a_stage_depends_on_all_that_it_imports(stage: str, task: str) -> None:
    assert PIPELINE[stage]["cmd"] == f"python -m stages.{stage}"
    assert closure(Path("stages") / f"{stage}.py", task) - listed(stage, task) == set()


@pytest.mark.parametrize("task", TASKS)
def test_scoring_drawing_and_wording_train_nothing_anew(task: str) -> None:
    """No file of these rooms is a dependency of the train stage, nor of one that comes before it."""
    files = {
        path.relative_to(ROOT)
        for name in ("figures", "report", "explain", "metrics")
        for path in ROOT.glob(f"vitpipe/{name}/**/*")
    }
    files |= {path.relative_to(ROOT) for path in ROOT.glob("vitpipe/tasks/*/*.py") if path.name != "training.py"}
    files |= {Path("vitpipe/tasks/evaluation.py"), Path("vitpipe/predictor.py")}
    for stage in ("fetch", "split", "downsample", "weights", "train"):
        assert not listed(stage, task) & files


def test_every_file_belongs_to_a_stage_or_the_public_interface() -> None:
    starts = [Path("stages") / f"{stage}.py" for stage in PIPELINE] + [Path("vitpipe/__init__.py")]
    reached = set().union(*(closure(path) for path in starts)) | {Path("vitpipe/__init__.py")}
    files = {
        path.relative_to(ROOT) for path in ROOT.glob("vitpipe/**/*.py") if path.read_text(encoding="utf-8").strip()
    }
    assert files - reached == set()
