"""The networks of the comparison are the ones they are named after."""

import math
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks.networks import EDSR, NETWORKS, SmallEDSR
from benchmarks.original import Original
from vitpipe.config import Settings, load_settings
from vitpipe.errors import InputError
from vitpipe.models.supersampler import upsample
from vitpipe.tasks import supersample

ROOT = Path(__file__).parents[2]
SIZES = {"data.size": 192, "data.scale": 4}
PARAMETERS = {"edsr": 1_517_571, "swinir": 929_628, "rcan": 15_592_355, "original": 41_128_276}


def needs_spandrel() -> None:
    if find_spec("spandrel") is None:  # importorskip would import torchvision before it can be imported
        pytest.skip("spandrel is not installed")


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_enlarges_four_times_and_learns(name: str, settings: Callable[..., Settings]) -> None:
    if name in ("swinir", "rcan"):
        needs_spandrel()
    torch.manual_seed(0)
    model = next(iter(NETWORKS[name].variants.values())).build(settings(**SIZES))
    lr = torch.rand(1, 3, 48, 48) * 2 - 1
    with torch.no_grad():
        output = model(lr.clone())
    assert output.shape == (1, 3, 192, 192)
    assert output.isfinite().all()
    assert output.abs().max() < 10, "fresh weights give images of a sensible range"
    if name in PARAMETERS:
        assert parameters(model) == PARAMETERS[name]


def test_ours_is_the_model_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        composed = OmegaConf.to_container(compose("config", overrides=["recipe=celeba"]), resolve=True)
    recipe, ours = Settings.model_validate(composed), NETWORKS["ours"]
    monkeypatch.setattr(supersample, "build", lambda settings: settings.model)
    assert ours.variants["patch 6"].build(load_settings(ROOT / "params.yaml")) == recipe.model
    assert ours.lr == recipe.train.lr
    assert ours.whole == {name: getattr(recipe.train, name) for name in ("batch", "crop", "weight_decay", "loss")}


@pytest.mark.parametrize("name", ["swinir", "rcan"])
def test_gradients_reach_every_weight(name: str, settings: Callable[..., Settings]) -> None:
    needs_spandrel()
    torch.manual_seed(0)
    model = NETWORKS[name].variants["4 a step"].build(settings(**SIZES | {"data.size": 64, "model.patch": 4}))
    model(torch.rand(1, 3, 16, 16) * 2 - 1).square().mean().backward()
    still = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not [key for key in still if "conv_du" not in key]  # some of RCAN's narrow gates begin closed by their ReLU


def test_original_has_its_41_million_where_it_says() -> None:
    model = Original(size=48, patch=6, strided=False)
    square = [p for p in model.parameters() if p.shape == (2304, 2304)]
    assert sum(p.numel() for p in square) == 7 * 2304**2
    assert parameters(model.attention.qkv[1]) == pytest.approx(3.5e6, rel=0.02)
    convolutions = [p for layers in (model.enlarge, model.last) for p in layers.parameters()]
    assert sum(p.numel() for p in convolutions) == pytest.approx(0.06e6, rel=0.1)


def test_original_patches_are_strided_with_the_fault_and_squares_without() -> None:
    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    place = torch.stack([y, x, y * 48 + x])[None].float()  # every pixel tells where it is
    wrong = Original(size=48, patch=6, strided=True).tokens(place)
    right = Original(size=48, patch=6, strided=False).tokens(place)
    assert wrong.shape == right.shape == (1, 64, 108)
    for tokens, distance, reach in ((wrong, 8, 40), (right, 1, 5)):
        rows, columns, _ = rearrange(tokens[0], "n (c p1 p2) -> c n p1 p2", p1=6, p2=6)
        assert (rows.diff(dim=1) == distance).all()
        assert (columns.diff(dim=2) == distance).all()
        assert (rows.amax((1, 2)) - rows.amin((1, 2)) == reach).all()
        assert len(tokens[0].unflatten(1, (3, 36))[:, 2].unique()) == 48 * 48, "every pixel belongs to one token"


def test_original_computes_what_its_facts_say() -> None:
    torch.manual_seed(0)
    model = Original(size=12, patch=3, strided=False).eval().double()
    lr = torch.rand(2, 3, 12, 12, dtype=torch.float64) * 2 - 1
    found = model(lr)
    angles = [[token / 10000 ** (i / 144) for i in range(0, 144, 2)] for token in range(16)]
    position = torch.tensor([[wave(angle) for angle in row for wave in (math.sin, math.cos)] for row in angles])
    x = model.placed(model.embed(model.tokens(lr)) + position)
    qkv = model.attention.qkv(x).unflatten(2, (3, 16, 32))  # b n 3 h e
    heads = [qkv[:, :, :, head].unbind(2) for head in range(16)]
    mixed = [torch.softmax(q @ k.mT, -1) @ v for q, k, v in heads]  # not by 1/sqrt(e)
    x = x + model.attention.join(torch.cat(mixed, -1))
    x = (x + model.mlp(x)).unflatten(2, (12, 12))
    for layers in model.enlarge:
        x = layers(torch.cat([lr, x], 1))
        lr = F.interpolate(lr, scale_factor=2, mode="bicubic")
    torch.testing.assert_close(found, model.last(torch.cat([lr, x], 1)).tanh(), atol=1e-6, rtol=0)


def test_original_drops_in_training_only() -> None:
    torch.manual_seed(0)
    model = Original(size=12, patch=3, strided=True)
    lr = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        assert not torch.equal(model.train()(lr), model(lr))
        assert torch.equal(model.eval()(lr), model(lr))


def test_small_edsr_begins_as_bicubic() -> None:
    lr = torch.rand(2, 3, 12, 12) * 2 - 1
    torch.testing.assert_close(SmallEDSR(width=8, blocks=2, scale=4)(lr), upsample(lr, 4, "bicubic"))


@pytest.mark.parametrize("build", [EDSR, partial(SmallEDSR, scale=4)], ids=["EDSR", "SmallEDSR"])
def test_the_long_skip_of_edsr_goes_past_its_body(build: Callable[..., EDSR | SmallEDSR]) -> None:
    torch.manual_seed(0)
    model = build(width=4, blocks=1)
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    torch.nn.init.zeros_(model.body[-1].weight)
    model(torch.rand(1, 3, 6, 6)).square().sum().backward()
    assert model.head.weight.grad.all()


def test_edsr_has_the_width_and_blocks_it_is_given() -> None:
    assert parameters(EDSR(width=8, blocks=2)) < parameters(EDSR(width=8, blocks=3)) < parameters(EDSR())


@pytest.mark.parametrize("name", ["swinir", "rcan"])
def test_says_what_to_install(name: str, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.networks.find_spec", lambda package: None)
    with pytest.raises(InputError, match=r"needs spandrel: pip install -e '.\[bench\]'"):
        NETWORKS[name].variants["4 a step"].build(settings(**SIZES))
