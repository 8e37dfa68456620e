"""The settings: what is committed is right, and what is wrong is told in one line."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from vitpipe.config import TASKS, Settings, check_settings, load_settings
from vitpipe.errors import InputError

ROOT = Path(__file__).parents[1]
RECIPE_OF = {"supersample": "supersample", "classify": "digits"}
RECIPES = sorted(path.stem for path in (ROOT / "conf" / "recipe").glob("*.yaml"))


@cache
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


def checked(*overrides: str) -> Settings:
    return check_settings(composed(*overrides), "composed")


def recipe_of(task: str) -> str:
    """A recipe of the task."""
    return next(name for name in RECIPES if composed(f"recipe={name}")["task"]["name"] == task)


def test_committed_params_are_the_default_composition():
    assert yaml.safe_load((ROOT / "params.yaml").read_text()) == composed()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes_validates_and_says_its_name(recipe):
    assert checked(f"recipe={recipe}").recipe == recipe
    assert composed(f"recipe={recipe}").keys() == composed().keys()


def test_the_recipes_are_those_that_are_promised():
    supersample = {"supersample", "supersample-hybrid", "supersample-conv", "celeba", "celeba-hybrid"}
    supersample |= {"trial01", "trial02", "trial03"}
    classify = {"gender", "gender-celeba", "digits", "mnist", "mnist-original", "cifar10", "cifar10-original"}
    assert set(RECIPES) >= supersample | classify
    assert {r: composed(f"recipe={r}")["task"]["name"] for r in supersample | classify} == (
        dict.fromkeys(supersample, "supersample") | dict.fromkeys(classify, "classify")
    )
    trials = [checked(f"recipe=trial0{n}") for n in (1, 2, 3)]
    assert [(t.model.position, t.model.skip) for t in trials] == [
        ("none", "nearest"),
        ("none", "bicubic"),
        ("sincos", "bicubic"),
    ]
    assert all(t.train.epochs == 1 and t.train.batch == 32 for t in trials)
    assert checked().model.patch == 3
    pure = [checked(f"recipe={name}").model for name in ("supersample", "celeba")]
    assert all((model.conv_channels, model.attention, model.place) == (0, "softmax", True) for model in pure)
    assert checked("recipe=supersample-conv").model.depth == 0


@pytest.mark.parametrize(
    ("recipe", "classes", "parameters"),
    [
        ("supersample", 0, 900_652),
        ("supersample-hybrid", 0, 494_880),
        ("supersample-conv", 0, 229_920),
        ("celeba", 0, 900_652),
        ("celeba-hybrid", 0, 946_096),
        ("gender", 2, 272_882),
        ("gender-celeba", 2, 271_874),
        ("digits", 10, 146_762),
        ("mnist", 10, 92_234),
        ("mnist-original", 10, 5_066),
        ("cifar10", 10, 635_018),
        ("cifar10-original", 10, 2_209_674),
    ],
)
def test_models_have_the_size_that_is_told_to_the_last_parameter(recipe, classes, parameters):
    from vitpipe.tasks import training_task

    model = training_task(checked(f"recipe={recipe}"), tuple("0123456789"[:classes])).build()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("task", TASKS)
def test_composed_settings_are_those_that_the_task_reads_no_more_and_no_less(task):
    defaults, kind = composed(f"task={task}", f"recipe={RECIPE_OF[task]}"), TASKS[task]
    assert set(defaults) == set(kind.model_fields)
    for name, field in kind.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            assert set(defaults[name]) == set(field.annotation.model_fields), name


def test_every_task_has_its_folder_its_settings_and_its_file_in_conf():
    for folder in (ROOT / "vitpipe" / "tasks", ROOT / "conf" / "task"):
        names = {path.stem for path in folder.iterdir() if path.suffix == ".yaml" or (path / "scoring.py").exists()}
        assert names == set(TASKS)


def test_what_dvc_yaml_reads_is_no_part_of_the_settings_that_a_run_keeps():
    kept = check_settings(composed(), "composed").model_dump()
    assert set(kept) == {"recipe", "seed", "data", "task", "model", "train"}
    for task in TASKS:
        pipeline = composed(f"recipe={RECIPE_OF[task]}")["dvc"]
        assert pipeline["target"] in ("task.name", "task.target")
        assert set(pipeline) == {"target", "baseline", "features", "curve", "score", "images", "figure"}


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
        ({"model.patch": 12}, "into 2x2 or more: 1, 2, 3, 4, 6"),
        ({"model.heads": 3}, "model.heads is 3, but must divide model.dim 16: 1, 2, 4, 8, 16"),
        ({"data.scale": 5}, "data.scale is 5, but must divide data.size 24: 1, 2, 3, 4, 6, 8, 12"),
        ({"data.size": 12}, "data.size is 12, but must be at least 15"),
        ({"recipe": "trial"}, "recipe is 'trial', but must be one of celeba, "),
        ({"data.scale": 0}, "data.scale is 0, but input should be greater than or equal to 1"),
        ({"data.scale": 1}, "data.scale is 1, but must be at least 2 for task.name supersample: 2, 3, 4, 6, 8, 12"),
        ({"data.name": "celeb"}, "data.name is 'celeb', but must be one of celeba, "),
        ({"data.name": "celeb"}, "(did you mean celeba?)"),
        ({"data.split": "ramdom"}, "'ramdom', but must be one of random, official, identity (did you mean random?)"),
        ({"data.count": 2}, "data.count is 2, but input should be greater than or equal to 3"),
        ({"data.test": 0.6}, "data.test is 0.6, but input should be less than 0.5"),
        (
            {"data.shots": 5},
            "data.shots is 5, but must be null with task.name supersample: it counts images of a class",
        ),
        ({"model.pach": 3}, "unknown key model.pach (did you mean patch?); known there: patch, dim,"),
        ({"optimiser": "sgd"}, "unknown key optimiser; known there: recipe, seed, data"),
        ({"model.patch": "three"}, "model.patch is 'three', but input should be a valid integer"),
        ({"model.patch": 3.5}, "model.patch is 3.5, but input should be a valid integer"),
        ({"model.patch": True}, "model.patch is True, but input should be a valid integer"),
        ({"train.lr": "fast"}, "train.lr is 'fast', but input should be a valid number"),
        ({"train.lr": float("nan")}, "train.lr is nan, but input should be a finite number"),
        ({"train.lr": 0}, "train.lr is 0, but input should be greater than 0"),
        ({"train.lr": True}, "train.lr is True, but must be a number"),
        ({"model.mlp_ratio": 0.05}, "model.mlp_ratio is 0.05, but must be at least 1 / model.dim"),
        ({"train.flip": "often"}, "train.flip is 'often', but input should be a valid boolean"),
        ({"train.device": "gpu"}, "train.device is 'gpu', but must be one of auto, cpu, cuda"),
        ({"train": {"lr": 0.1}}, "train.epochs is missing"),
        ({"train": None}, "train is None, but input should be a valid"),
        ({"task.name": "classfy"}, "'classfy', but must be one of supersample, classify (did you mean classify?)"),
        ({"model.conv_channels": 0}, "model.conv_blocks is 1, but must be 0 with model.conv_channels 0"),
        ({"model.depth": -1}, "model.depth is -1, but input should be greater than or equal to 0"),
        ({"model.attention": "mean"}, "model.attention is 'mean', but must be one of softmax, place, uniform, none"),
        ({"model.attention": "place"}, "model.attention is 'place', but needs model.place true"),
        ({"train.patience": 0}, "train.patience is 0, but input should be greater than or equal to 1"),
        ({"train.momentum": 1.0}, "train.momentum is 1.0, but input should be less than 1"),
        ({"train.optimizer": "adam"}, "train.optimizer is 'adam', but must be one of adamw, muon, sgd"),
        ({"train.schedule": "poly"}, "train.schedule is 'poly', but must be one of cosine, step, constant"),
        ({"train.randaugment": 2}, "unknown key train.randaugment; known there: epochs, patience"),
        ({"train.crop": 12}, "train.crop is 12, but must be less than the input size 12"),
        ({"model.pool": "avg"}, "unknown key model.pool"),
        ({"task.target": "odd"}, "unknown key task.target; known there: name"),
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
    ("changes", "expected"),
    [
        ({"task.target": None}, "task.target is None, but input should be a valid string"),
        ({"model.pool": "max"}, "model.pool is 'max', but must be one of token, avg"),
        ({"model.in_chans": 2}, "model.in_chans is 2, but must be one of 1, 3"),
        ({"train.mix": "blend"}, "train.mix is 'blend', but must be one of none, mixup, cutmix, both"),
        ({"model.attention": "none"}, "model.attention is 'none', but needs model.pool avg"),
        ({"model.attention": "none", "model.depth": 0}, "model.depth is 0, but needs model.pool avg"),
        ({"model.attention": "place", "model.pool": "avg"}, "model.attention is 'place', but needs model.place true"),
        ({"model.skip": "nearest"}, "unknown key model.skip; known there: patch, dim"),
        ({"model.consistent": True}, "unknown key model.consistent"),
        ({"train.loss": "mse"}, "unknown key train.loss"),
        ({"train.crop": 12}, "train.crop is 12, but must be less than the input size 12"),
        (
            {"data.scale": 1, "model.patch": 5},
            "model.patch is 5, but must divide the input size 24 (data.size 24 / data.scale 1) into 2x2 or more: 1, 2, "
            "3, 4, 6, 8, 12",
        ),
        ({"task.show": "dog"}, "task.show is 'dog', but must be a list of classes, such as [cat, dog], or null"),
        ({"task.show": []}, "task.show is [], but must be a list of classes"),
    ],
)
def test_wrong_value_of_classification_is_one_line(tmp_path, params, changes, expected):
    assert expected in message(tmp_path, params("classify", **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"data.scale": 1},
        {"data.scale": 1, "data.size": 8, "model.patch": 4},  # smaller than what SSIM needs
        {"model.conv_channels": 0, "model.conv_blocks": 0, "model.in_chans": 1, "model.pool": "avg"},
        {"train.crop": 11, "train.randaugment": 2, "train.mix": "both", "train.label_smoothing": 0.1},
    ],
)
def test_classification_may_have_what_super_sampling_may_not(settings, changes):
    assert (settings("classify", **changes).target, settings().target) == ("odd", None)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("supersample", {"model.attention": "none"}),
        ("supersample", {"model.depth": 0, "model.conv_channels": 0, "model.conv_blocks": 0}),
        ("classify", {"model.attention": "none", "model.pool": "avg"}),
        ("classify", {"model.depth": 0, "model.pool": "avg"}),
        ("classify", {"model.attention": "uniform"}),
        ("classify", {"model.attention": "place", "model.place": True}),
    ],
)
def test_attention_may_be_left_out_where_the_output_sees_patches_without_it(settings, task, changes):
    model = settings(task, **changes).model
    assert all(getattr(model, name.removeprefix("model.")) == value for name, value in changes.items())


def test_a_task_changed_by_hand_is_told_to_choose_a_recipe(tmp_path, params):
    expected = "task.name is 'classify', but the other settings are those of supersample: choose a recipe of classify"
    assert expected in message(tmp_path, params(**{"task.name": "classify"}))


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


def test_every_data_set_has_its_module():
    from typing import get_args

    from vitpipe.config import Data
    from vitpipe.sources import source

    for name in get_args(Data.model_fields["name"].annotation):
        assert all(callable(getattr(source(name), part)) for part in ("fetch", "samples", "open_images"))


def test_settings_are_read_without_torch(tmp_path, params):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params()))
    code = "import sys; from vitpipe.config import load_settings; load_settings(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_classes_to_show_may_be_numbers(settings):
    assert settings("classify", **{"task.show": [3, 7]}).task.show == ("3", "7")
