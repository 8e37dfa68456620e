"""The settings: what is committed is right, and what is wrong is told in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from vitpipe.config import SOURCES, Settings, load_settings
from vitpipe.errors import InputError

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "conf" / "recipe").glob("*.yaml"))


def composed(*overrides: str) -> dict:
    """What `dvc exp run -S ...` writes to params.yaml."""
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)


def message(tmp_path: Path, content: dict | str) -> str:
    """The one line that a wrong params.yaml gives."""
    path = tmp_path / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(InputError) as caught:
        load_settings(path)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix(f"{path}")


def test_committed_params_are_the_default_composition():
    assert yaml.safe_load((ROOT / "params.yaml").read_text()) == composed()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes_validates_and_says_its_name(recipe):
    content = composed(f"recipe={recipe}")
    assert Settings.model_validate(content).recipe == recipe
    assert content.keys() == composed().keys()


def test_the_recipes_are_those_that_are_promised():
    assert {"supersample", "celeba", "trial01", "trial02", "trial03"} <= set(RECIPES)
    trials = [Settings.model_validate(composed(f"recipe=trial0{n}")) for n in (1, 2, 3)]
    assert [(t.model.position, t.model.skip) for t in trials] == [
        ("none", "nearest"),
        ("none", "bicubic"),
        ("sincos", "bicubic"),
    ]
    assert all(t.train.epochs == 1 and t.train.batch == 32 for t in trials)
    assert Settings.model_validate(composed()).model.patch == 3


def test_the_one_source_holds_every_setting():
    defaults = composed()
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    for name, section in sections.items():
        if hasattr(section, "model_fields"):
            assert set(defaults[name]) == set(section.model_fields), name
    assert set(defaults) == set(sections)


def test_unknown_recipe_is_told_with_the_known_ones():
    with pytest.raises(MissingConfigException, match=r"(?s)Could not find 'recipe/trial04'.*supersample"):
        composed("recipe=trial04")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"model.patch": 5},
            "model.patch is 5, but must divide the input size 12 (data.size 24 / data.scale 2) into 2x2",
        ),
        (
            {"model.patch": 12},
            "model.patch is 12, but must divide the input size 12 (data.size 24 / data.scale 2) into",
        ),
        ({"model.patch": 24}, "into 2x2 or more: 1, 2, 3, 4, 6"),
        ({"model.heads": 3}, "model.heads is 3, but must divide model.dim 16: 1, 2, 4, 8, 16"),
        ({"data.scale": 5}, "data.scale is 5, but must divide data.size 24: 2, 3, 4, 6, 8, 12"),
        ({"data.size": 12}, "data.size is 12, but must be at least 15"),
        ({"recipe": "trial"}, "recipe is 'trial', but must be one of celeba, "),
        ({"data.scale": 1}, "data.scale is 1, but input should be greater than or equal to 2"),
        ({"data.name": "celeb"}, "data.name is 'celeb', but must be one of celeba, "),
        ({"data.name": "celeb"}, "(did you mean celeba?)"),
        ({"data.split": "identity"}, "data.split is 'identity', but must be random for data.name folder"),
        ({"data.split": "ramdom"}, "data.split is 'ramdom', but input should be 'random', 'official' or 'identity'"),
        ({"data.count": 2}, "data.count is 2, but input should be greater than or equal to 3"),
        ({"data.test": 0.6}, "data.test is 0.6, but input should be less than 0.5"),
        ({"model.pach": 3}, "unknown key model.pach (did you mean patch?); known there: patch, dim,"),
        ({"optimiser": "sgd"}, "unknown key optimiser; known there: recipe, seed, data"),
        ({"model.patch": "three"}, "model.patch is 'three', but input should be a valid integer"),
        ({"model.patch": 3.5}, "model.patch is 3.5, but input should be a valid integer"),
        ({"model.patch": True}, "model.patch is True, but input should be a valid integer"),
        ({"train.lr": "fast"}, "train.lr is 'fast', but input should be a valid number"),
        ({"train.lr": float("nan")}, "train.lr is nan, but input should be a finite number"),
        ({"train.lr": 0}, "train.lr is 0, but input should be greater than 0"),
        ({"train.flip": "often"}, "train.flip is 'often', but input should be a valid boolean"),
        ({"train.device": "gpu"}, "train.device is 'gpu', but input should be 'auto', 'cpu' or 'cuda'"),
        ({"train": {"lr": 0.1}}, "train.epochs is missing"),
        ({"train": None}, "train is None, but input should be a valid"),
        ({"task.name": "classfy"}, "task.name is 'classfy', but input should be"),
        (
            {"model.dim": 18, "model.heads": 2, "model.position": "sincos"},
            "model.dim is 18, but must be a multiple of 4",
        ),
        ({"model.patch": "x", "model.heads": "y"}, "(and 1 more)"),
    ],
)
def test_wrong_value_is_one_line_with_key_value_and_what_is_right(tmp_path, params, changes, expected):
    assert expected in message(tmp_path, params(**changes))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("data: [1, 2", "is no valid YAML: while parsing"),
        ("\tdata: 1", "is no valid YAML: while scanning"),
        ("", "must hold sections such as data: and model:, but holds NoneType"),
        ("- data", "must hold sections such as data: and model:, but holds list"),
    ],
)
def test_broken_yaml_is_one_line(tmp_path, content, expected):
    assert expected in message(tmp_path, content)


def test_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(InputError, match=r"params\.yaml is missing: run from the repository's root"):
        load_settings(tmp_path / "params.yaml")


def test_settings_are_frozen(settings):
    with pytest.raises(ValueError, match="frozen"):
        settings().data.size = 48


def test_sources_are_the_modules_that_are_there():
    assert {"celeba", "folder"} <= set(SOURCES)
    assert "__init__" not in SOURCES


def test_settings_are_read_without_torch(tmp_path, params):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params()))
    code = "import sys; from vitpipe.config import load_settings; load_settings(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
