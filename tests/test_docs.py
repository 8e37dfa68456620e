"""Commands, Python snippets and links in the documents work as they are written."""

import re
import shlex
import string
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from dvc.cli import DvcParserError, main, parse_args
from dvc.utils.hydra import get_hydra_sweeps
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from PIL import Image
from torch.distributed.run import get_args_parser as torchrun_parser

from vitpipe.config import check_settings
from vitpipe.errors import InputError
from vitpipe.tasks import training_task
from vitpipe.training.checkpoint import save_weights

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:dvc|make|python|pytest|git|source|pip|torchrun|-S|\w+=\S+ make)\s[^`]+)`")

# The file that executes commands with these words, with fewer images and epochs if they take long. Of several entries
# the longest counts. What no file executes has a reason, which begins with "it".
EXECUTED = {
    "tests/test_pipeline.py": "dvc exp run, dvc exp run --queue, dvc exp show, dvc metrics diff, dvc plots diff, "
    "dvc queue start, dvc queue status, dvc repro, git checkout, git config user.name, git config user.email",
    ".ci/run": "make setup, make lint, make test, make help",
    "tests/test_docs.py": "dvc cache dir, dvc config, dvc remote add",
    "it takes long, and other tests run its parts": "make bench, make controls, make few-shot, make study, python -m",
    "it consists of commands that are executed": "make repro, .ci/run, pytest",
    "it needs a cluster or a remote": "dvc commit, dvc pull, sbatch, torchrun",
    "it only brings back files": "dvc exp apply",
    "it changes sources, the shell or programs": "make format, source, pip install, pre-commit install",
}
KINDS = {kind: where for where, kinds in EXECUTED.items() for kind in kinds.split(", ")}


def commands() -> Iterator[tuple[str, list[str]]]:
    """Page and words of every command in bash blocks, those behind && included, and of every inline one."""
    for page, text in TEXTS.items():
        lines: list[str] = []
        for language, body in FENCE.findall(text):
            variables: dict[str, str] = {}
            for line in body.replace("\\\n", " ").splitlines() if language == "bash" else ():
                if found := re.fullmatch(r'(\w+)="(.*)"', line):
                    variables[found[1]] = found[2]
                else:
                    lines.append(string.Template(line).safe_substitute(variables))
        inline = INLINE.findall(FENCE.sub("", text))
        lines += [line for line in inline if not re.search(r"KEY=VALUE|recipe=NAME|\.\.\.", line)]
        for line in lines:
            words = shlex.split(line, comments=True)
            words = ["dvc", "exp", "run", *words] if words[:1] == ["-S"] else words
            for part in shlex.join(words).split(" '&&' "):
                if part:
                    yield page, shlex.split(part)


COMMANDS = sorted({(page, shlex.join(words)) for page, words in commands()})


def check(words: list[str]) -> None:
    """Raises if a command would be refused: an unknown program, subcommand, flag, target, file or setting."""
    match words:
        case [first, *rest] if re.fullmatch(r"\w+=\S+", first) and rest:
            check(rest)
        case ["dvc", *rest]:
            check_dvc(rest)
        case ["make", target, *variables]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"no target {target}"
            assert all(f"$({name.split('=')[0]})" in makefile for name in variables), variables
        case ["python", "-m", module, *rest]:
            check_module(module, rest)
        case ["torchrun", *rest]:
            check_module(torchrun_parser().parse_args(rest).training_script, [])
        case ["sbatch", *rest]:
            for part in rest[rest.index("--wrap") + 1].split(" && "):
                check(shlex.split(part))
        case ["source" | ".", ".venv/bin/activate"] | ["git", "config", "user.name" | "user.email", _]:
            pass
        case ["pip", "install", "pre-commit" | "timm"] | ["pre-commit", "install"]:
            pass
        case ["pytest", path] | ["git", "checkout", path] | [path]:
            assert (ROOT / path).is_file(), path
        case _:
            raise AssertionError(f"unknown command {shlex.join(words)}")


def check_dvc(words: list[str]) -> None:
    options = parse_args(words)
    if words[0] in ("repro", "commit"):
        assert set(options.targets) <= set(STAGES), options.targets
    if words[:2] == ["metrics", "diff"]:
        metrics = {path for stage in STAGES.values() for out in stage.get("metrics", []) for path in out}
        assert set(options.targets or ()) <= metrics, options.targets
    if words[:2] == ["exp", "run"]:
        for overrides in get_hydra_sweeps({"params.yaml": options.set_param}) if options.set_param else [{}]:
            with initialize_config_dir(str(ROOT / "conf"), version_base=None):
                content = OmegaConf.to_container(compose("config", overrides=overrides.get("params.yaml", [])))
            check_settings(content, "params.yaml")


def check_module(module: str, arguments: list[str]) -> None:
    """The module is there, and its package knows the flags and the first word of the arguments."""
    assert find_spec(module), f"no module {module}"
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / module.split(".")[0]).glob("**/*.py"))
    for word in arguments[:1] + [word for word in arguments[1:] if word.startswith("--")]:
        assert re.search(rf"\b{word.strip('-')}\b", source), word


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_command_is_right_and_executed_where_the_table_says(page: str, command: str) -> None:
    words = shlex.split(command)
    check(words)
    kind = max((kind for kind in KINDS if {*kind.split()} <= {*words}), key=len, default=None)
    assert kind, "EXECUTED does not say where this is executed"
    if not (where := KINDS[kind]).startswith("it "):
        text = re.sub(r'[",\\\s]+', " ", (ROOT / where).read_text(encoding="utf-8"))
        assert kind in text, f"{where} does not run {kind}"


@pytest.mark.parametrize(
    "command",
    [
        "dvc exp rum",
        "dvc exp run --nane p3",
        "dvc exp run -S model.pach=3",
        "dvc exp run -S model.patch=5",
        "dvc exp run --queue -S model.patch=3,5",
        "dvc exp run -S recipe=trial09",
        "dvc exp run -S recipe=digits -S train.loss=mse",
        "dvc metrics diff p3 p6 --targets reports/metric.json",
        "dvc repro -f fetched",
        "make reproduce",
        "make bench FACES=x",
        "pytest tests/test_nothing.py",
        "python -m studies.nothing queue",
        "python -m studies.patch_and_heads quee",
        "python -m studies.patch_and_heads queue --rooot x",
        "sbatch --wrap 'dvc reproo && dvc push'",
        "source .venv/activate",
        "torchrun --nnode-count=2 -m stages.train",
        "torchrun --nnodes=2 -m stages.training",
        "git checkout param.yaml",
        "ls",
    ],
)
def test_wrong_command_is_found(command: str) -> None:
    with pytest.raises((AssertionError, DvcParserError, HydraException, InputError, SystemExit)):
        check(shlex.split(command))


def test_settings_for_a_cluster_are_accepted_by_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # DVC leaves the process where --cd leads; this is undone
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    local = [shlex.split(command)[1:] for _, command in COMMANDS if command.startswith(("dvc c", "dvc remote"))]
    for words in [["init"], *(words for words in local if words[0] != "commit")]:
        assert main(["--cd", str(tmp_path), *words]) == 0, words


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", TEXTS[page])):
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert "://" in path or target.exists(), link
        if anchor and "://" not in path:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", target.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings], link


@pytest.mark.parametrize("page", [page for page, text in TEXTS.items() if "```python" in text])
def test_snippets_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings) -> None:
    """Each by itself, in a folder with tiny models and a photo of their size."""
    (tmp_path / "models").mkdir()
    models = {"models/model": ("supersample", {}), "digits": ("classify", {})}
    models["vit"] = ("classify", {"model.conv_channels": 0, "model.conv_blocks": 0})
    for path, (task, changes) in models.items():
        own, classes = settings(task, **changes), ("0", "1") if task == "classify" else ()
        metadata = {"settings": own.model_dump(), "classes": classes}
        weights = training_task(own, classes).build().state_dict()
        save_weights(tmp_path / f"{path}.safetensors", weights, metadata)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    for snippet in [body for language, body in FENCE.findall(TEXTS[page]) if language == "python"]:
        exec(compile(snippet, page, "exec"), {})


def test_readme_is_short() -> None:
    assert TEXTS["README.md"].count("\n") <= 150
