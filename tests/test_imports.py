"""Who may import whom, and whether dvc.yaml knows it: DVC does not follow imports."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
MAY_IMPORT = {
    "stages": {"tasks", "training", "explain", "figures", "report", "nn", "metrics", "data"},
    "tasks": {"nn", "metrics", "data"},
    "training": {"nn", "metrics", "data"},
    "explain": {"nn", "metrics", "data"},
    "figures": {"metrics"},
    "report": {"metrics"},
    "nn": set(),
    "metrics": set(),
    "data": set(),
}
TASKS = ("supersample", "classify")
GROUND = {"config", "errors", "files", "progress", "stage"}
REGISTRIES = {
    "vitpipe.sources",
    "vitpipe.tasks",
    "vitpipe.explain",
    "vitpipe.figures",
}  # they import modules by name


def path_of(module: str) -> Path | None:
    """The file of a module of ours, relative to the root."""
    for path in (Path(*module.split(".")).with_suffix(".py"), Path(*module.split("."), "__init__.py")):
        if (ROOT / path).exists():
            return path
    return None


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return {name for name in found if name.split(".")[0] in ("vitpipe", "stages") and path_of(name)}


def closure(path: Path) -> set[Path]:
    """All files of ours with content that running `path` may import, whatever the task."""
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
            if module in REGISTRIES:
                room = (ROOT / path_of(module)).parent
                names = [f"{task}.py" for task in TASKS]
                by_name = (
                    names
                    if module in ("vitpipe.figures", "vitpipe.explain")
                    else [file.name for file in room.glob("*.py")]
                )
                waiting += [(room / name).relative_to(ROOT) for name in by_name]
    seen.add(path.parent / "__init__.py")  # run by python -m
    return {path for path in seen if (ROOT / path).read_text().strip()}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] == "stages" else parts[1] if len(parts) > 1 else ""


def test_directions() -> None:
    wrong = []
    for path in [*ROOT.glob("vitpipe/**/*.py"), *ROOT.glob("stages/*.py")]:
        path = path.relative_to(ROOT)
        room = path.parts[1].removesuffix(".py") if path.parts[0] == "vitpipe" else "stages"
        for module in imports(path):
            other = room_of(module)
            allowed = {room, ""} | GROUND | MAY_IMPORT.get(room, set())
            if other == "stages" or other not in allowed:
                wrong.append(f"{path} imports {module}")
    assert not wrong


def test_figures_and_metrics_know_no_model() -> None:
    for room in ("figures", "metrics"):
        for path in (ROOT / "vitpipe" / room).glob("*.py"):
            reached = closure(path.relative_to(ROOT))
            assert not [p for p in reached if p.parts[1] in ("nn", "tasks", "training", "explain")], path


@pytest.mark.parametrize("stage", PIPELINE["stages"])
def test_deps_are_what_the_stage_imports(stage: str) -> None:
    definition = PIPELINE["stages"][stage]
    assert definition["cmd"] == f"python -m stages.{stage}"
    code = [Path(dep) for dep in definition["deps"] if dep.split("/")[0] in ("vitpipe", "stages")]
    listed = set()
    for dep in [dep for dep in code if dep.suffix not in (".html", ".css", ".js")]:  # parts of the page
        files = (ROOT / dep).rglob("*.py") if (ROOT / dep).is_dir() else [ROOT / dep]
        listed |= {file.relative_to(ROOT) for file in files if file.read_text().strip()}
    needed = closure(Path("stages") / f"{stage}.py")
    assert needed - listed == set(), "imported, but not in deps"
    assert listed - needed == set(), "in deps, but not imported"


def test_every_file_belongs_to_a_stage_or_a_study() -> None:
    reached = set().union(*(closure(Path("stages") / f"{stage}.py") for stage in PIPELINE["stages"]))
    reached |= set().union(*(closure(path.relative_to(ROOT)) for path in ROOT.glob("studies/*.py")))
    all_files = {p.relative_to(ROOT) for p in ROOT.glob("vitpipe/**/*.py") if p.read_text().strip()}
    assert all_files - reached == set(), "no stage and no study uses these"
