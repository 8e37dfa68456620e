"""Each benchmark measures what it says, on tiny models and data."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import __main__ as command
from benchmarks import data, encoder, quality, results
from benchmarks.networks import NETWORKS, SmallEDSR, build
from benchmarks.original import Original
from benchmarks.pictures import recipe_settings
from vitpipe.config import Settings
from vitpipe.data.dataset import PackedDataset
from vitpipe.data.packing import targets_of
from vitpipe.errors import InputError
from vitpipe.models.consistency import Consistency
from vitpipe.models.supersampler import upsample
from vitpipe.progress import progress
from vitpipe.training.compute import Compute

CPU = Compute(torch.device("cpu"), torch.float32)
SHAPE = encoder.Shape(16, 32, 2, 4, batch=2)
SMALL = ("vitpipe", "small EDSR")


@pytest.fixture
def peers() -> None:
    """Skips the test where the extra `bench` is not installed."""
    for package in ("timm", "vit-pytorch", "spandrel"):
        if results.machine()[package] is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[bench]'")


@pytest.fixture
def parts(packed: Path) -> dict[str, PackedDataset]:
    return {part: PackedDataset(packed / part) for part in ("train", "val", "test")}


def parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_encoders_are_of_one_size_and_compute_the_same(peers: None) -> None:
    encoders = {name: make(SHAPE).eval() for name, make in encoder.ENCODERS.items()}
    sizes = {name: parameters(model) for name, model in encoders.items()}
    assert sizes["vitpipe"] == sizes["timm"] == sizes["torchvision"]
    assert sizes["vit-pytorch"] == sizes["vitpipe"] - SHAPE.depth * 3 * SHAPE.dim  # no bias of queries, keys and values
    own = list(encoders["vitpipe"].state_dict().values())
    tokens = torch.randn(2, SHAPE.tokens, SHAPE.dim)
    for name in ("timm", "torchvision"):  # with the same weights, whatever they are called
        state = encoders[name].state_dict()
        encoders[name].load_state_dict(dict(zip(state, own, strict=True)))
        torch.testing.assert_close(encoders[name](tokens), encoders["vitpipe"](tokens), rtol=1e-4, atol=1e-5)


def test_training_changes_weights_and_forward_does_not() -> None:
    for kind, changed in (("training", True), ("forward", False)):
        model = encoder.vitpipe(SHAPE)
        before = [weight.clone() for weight in model.parameters()]
        step = encoder.make_step(model, SHAPE, kind, "bfloat16")
        assert step().requires_grad == changed
        assert changed == any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert not next(model.parameters()).is_inference()


def test_ratios_say_how_many_times_as_fast_vitpipe_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def timer(statement: str, globals: dict, num_threads: int) -> SimpleNamespace:
        return SimpleNamespace(blocked_autorange=lambda min_run_time: SimpleNamespace(median=globals["step"]()))

    seconds = {"vitpipe": [9, 2, 4, 2], "slow": [9, 8, 16, 16], "fast": [9, 1, 4, 1]}  # of each round
    monkeypatch.setattr(encoder, "ENCODERS", {name: lambda shape, name=name: iter(seconds[name]) for name in seconds})
    monkeypatch.setattr(encoder, "make_step", lambda times, *rest: times.__next__)
    monkeypatch.setattr(encoder, "Timer", timer)
    row = encoder.compare(SHAPE, "forward", "float32", 3, 0.01, progress(12, "test", "turn", shown=False))
    assert (row["over slow"], row["over fast"]) == (4, 0.5)  # medians over rounds; the first warms up
    assert (row["vitpipe"], row["slow"]) == (SHAPE.batch / 2, SHAPE.batch / 16)


def test_networks_have_their_published_sizes(peers: None) -> None:
    settings = recipe_settings(None, 100)
    sizes = {"EDSR-baseline": 1_517_571, "SwinIR-light": 929_628, "RCAN": 15_592_355, "original": 41_128_276}
    lr = torch.rand(1, 48, 48, 3).permute(0, 3, 1, 2) * 2 - 1  # as packed images lie in memory
    for name in NETWORKS:
        model = build(name, settings).eval()
        with torch.inference_mode():
            assert model(lr).shape == (1, 3, 192, 192)
        assert parameters(model) == sizes.get(name, parameters(model))


def test_small_edsr_starts_as_bicubic() -> None:
    lr = torch.rand(2, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(SmallEDSR(channels=4, blocks=1, scale=3)(lr), upsample(lr, 3, "bicubic"))


def test_a_patch_of_the_original_is_strided_over_the_image() -> None:
    seen = []
    model = Original(size=8, patch=2).eval()  # 16 tokens
    model.embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    lr = torch.arange(64.0).reshape(1, 1, 8, 8).expand(1, 3, 8, 8)
    assert model(lr).shape == (1, 3, 32, 32)
    assert seen[0][0, 1, :4].tolist() == [1, 5, 33, 37]  # every fourth pixel, from the second on


@pytest.fixture
def training(settings: Callable[..., Settings], parts: dict[str, PackedDataset]) -> Callable:
    own = settings(**{"train.crop": 1, "train.lr": 5e-3})
    return lambda name, seconds: quality.TimedTraining(name, own, parts, CPU, seconds, 0)


@pytest.mark.parametrize("name", SMALL)
def test_training_improves_on_bicubic_within_its_time(name: str, training: Callable, monkeypatch) -> None:
    clock = iter(np.arange(0, 1000, 1.5))  # seconds that a step takes
    clocks = dict.fromkeys(("perf_counter", "process_time"), lambda: next(clock))
    monkeypatch.setattr(quality, "time", SimpleNamespace(**clocks))
    one = training(name, 60.2)
    for _ in range(6):  # turns of ten seconds
        assert not one.finished
        one.turn()
    assert one.finished
    assert (one.steps, one.used) == (40, 60)  # the next step would end later
    row = one.result()
    assert (row["images"], row["parameters"]) == (40 * one.setting.batch, parameters(one.model))
    assert row["psnr_gain"] > 0.005


def test_learning_rate_follows_time_and_equal_seeds_give_equal_weights(training: Callable) -> None:
    pair = [training("small EDSR", 100.0) for _ in range(2)]
    for one in pair:
        start = one.weights[-1].detach().clone()
        for one.used in (10.0, 50.0, 90.0):
            one.step()
            if one.steps == 1:  # the average follows quickly at first
                torch.testing.assert_close(one.ema_weights[-1], start.lerp(one.weights[-1], 0.9))
            share = one.optimizers[0].param_groups[0]["lr"] / one.setting.lr
            assert share == pytest.approx((1 + np.cos(np.pi * (one.used / 100 - 0.05) / 0.95)) / 2, rel=1e-2)
    for a, b in zip(pair[0].ema_model.parameters(), pair[1].ema_model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (one.setting.lr, one.setting.loss) == (2e-3, "charbonnier")  # the network's own, and vitpipe's


def test_divergence_is_told(training: Callable) -> None:
    one = training("small EDSR", 1.0)
    nn.init.constant_(one.weights[0], np.nan)
    with pytest.raises(InputError, match=r"small EDSR diverged with seed 0 and learning rate 0\.002"):
        one.step()


def test_consistent_output_reduces_to_the_input(settings: Callable[..., Settings]) -> None:
    lr = torch.rand(1, 3, 12, 12)
    output = quality.Consistent(nn.Upsample(scale_factor=2), settings())(lr)
    reduce = Consistency(12, 2).reduce
    torch.testing.assert_close(reduce @ output @ reduce.mT, lr, rtol=1e-4, atol=1e-4)


def test_ways_of_the_data_path_give_the_same_images(settings, parts, shapes, table, tmp_path: Path) -> None:
    picture = shapes.read(table.index[0])
    pair, ours = data.Pair(settings().data)(picture), targets_of(picture, settings().data)
    for tensor, name in zip(pair, ("lr", "hr"), strict=True):
        np.testing.assert_array_equal((tensor * 255).round().byte().permute(1, 2, 0), ours[name])
    (tmp_path / "jpeg/all").mkdir(parents=True)
    for i in range(5):
        Image.new("RGB", (30, 40)).save(tmp_path / f"jpeg/all/{i}.jpg")
    assert data.load_folder(tmp_path / "jpeg", 3, settings().data, 0) == 3
    assert data.read_batches(parts["train"], 16) == 32  # whole batches of 40


def test_commands_print_a_table_and_store_nothing(peers: None, monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    before = results.RESULTS.read_bytes()
    monkeypatch.setattr(command, "QUICK", {"minutes": 0.005, "count": 40})
    monkeypatch.setattr(data.run, "__kwdefaults__", data.run.__kwdefaults__ | {"workers": (0,)})
    for words in (["encoder"], ["data"], ["quality", "--networks", *SMALL]):
        command.main([*words, "--quick"])
        assert capsys.readouterr().out.count("\n| ") >= 4, words  # heading, rule and rows
    assert results.RESULTS.read_bytes() == before
    with pytest.raises(
        SystemExit, match=r"^benchmarks: unknown network EDRS; there are vitpipe, vitpipe by place alone, .*small EDSR"
    ):
        command.main(["quality", "--networks", "EDRS"])


def test_results_are_merged_and_the_document_shows_them(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    one = results.measurement({"rounds": 1}, [{"way": "a", "images": 1.0}])
    for new in (one, one | {"setup": {"rounds": 2}}, one | {"rows": [{"way": "b", "images": 2.0}]}):
        results.add("data", new, path)
    stored = results.load(path)["data"]
    assert [(each["setup"]["rounds"], each["rows"][0]["way"]) for each in stored] == [(2, "a"), (1, "b")]
    assert '\n    { "way": "b", "images": 2.0 }\n' in path.read_text(encoding="utf-8")
    text = command.DOCUMENT.read_text(encoding="utf-8")
    assert command.document(text, results.load()) == text  # nothing is told that wasn't measured
    assert "| b | 2 |" in command.document(text, {"data": stored})
