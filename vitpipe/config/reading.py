"""Reads `params.yaml`; nothing else does."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vitpipe.config.sections import Settings
from vitpipe.config.tasks import TASKS
from vitpipe.config.validation import describe, keys_of, nearest
from vitpipe.errors import InputError


def load_settings(path: Path = Path("params.yaml")) -> Settings:
    """Reads and checks the settings.

    Raises:
        InputError: the file is missing or no YAML, or a value in it is wrong; the message names
            the key, the value and what would be right.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run from the repository's root, or make one with dvc exp run") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold sections such as data: and model:, but holds {type(content).__name__}")
    settings = check_settings(content, str(path))
    known = sorted(recipe.stem for recipe in Path("conf/recipe").glob("*.yaml"))
    if known and settings.recipe not in known:
        choices = f"{', '.join(known)}{nearest(settings.recipe, known)}"
        raise InputError(f"{path}: recipe is {settings.recipe!r}, but must be one of {choices}")
    return settings


def check_settings(content: dict[str, Any], where: str) -> Settings:
    """The settings in `content`, nested as in params.yaml, as the class of their task.

    Args:
        where: where they come from, for messages.

    Raises:
        InputError: see `load_settings`.
    """
    task = content.get("task")
    name = task.get("name") if isinstance(task, dict) else None
    if name not in TASKS:
        known = ", ".join(TASKS)
        raise InputError(f"{where}: task.name is {name!r}, but must be one of {known}{nearest(str(name), [*TASKS])}")
    try:
        return TASKS[name].model_validate(content)
    except ValidationError as error:
        text = describe(error, TASKS[name])
    given = set(content.get("model") or ())
    for other, kind in TASKS.items():
        if given <= set(keys_of(kind, ["model"])) and not given <= set(keys_of(TASKS[name], ["model"])):
            text = f"task.name is {name!r}, but the other settings are those of {other}: choose a recipe of {name}"
    raise InputError(f"{where}: {text}")
