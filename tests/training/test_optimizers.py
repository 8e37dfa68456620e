import pytest
import torch
from torch import nn

from vitpipe.tasks import training_task
from vitpipe.training.optimizers import Muon, optimizers, orthogonalize, set_lr


@pytest.mark.parametrize("shape", [(8, 8), (8, 72), (16, 96)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    made = orthogonalize(matrix[None])[0]
    values = torch.linalg.svdvals(made)
    assert made.shape == shape
    assert values.max() < 1.25
    assert values.median() > 0.65
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    rotated = u.T @ made @ v.T
    torch.testing.assert_close(rotated, rotated.diag().diag(), atol=1e-4, rtol=0)


def test_bfloat16_products_give_nearly_the_same_update():
    torch.manual_seed(0)
    matrices = torch.randn(2, 48, 432)
    exact, rounded = orthogonalize(matrices), orthogonalize(matrices, torch.bfloat16)
    assert rounded.dtype is torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("shape", [(32, 128), (32, 32, 3, 3)])
def test_a_step_is_about_as_long_as_adamws(shape):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape))
    before = weight.detach().clone()
    weight.grad = torch.randn(shape) * 1e-3
    Muon([weight], lr=0.01).step()
    length = (weight.detach() - before).square().mean().sqrt()
    assert 0.2 * 0.01 * 0.6 < length < 0.2 * 0.01 * 1.2


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (8, 8), (8, 3, 3, 3), (27, 2, 2, 2), (8, 2, 2, 2)])
def test_the_update_of_a_weight_is_nearly_the_nearest_orthogonal_matrix(shape):
    """The singular vectors of its own gradient, all singular values near 1, in a step with weights of such shapes."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.zeros(each)) for each in (shape, (24, 8), (8, 24), shape)]
    for weight in weights:
        weight.grad = torch.randn(weight.shape)
    unused = nn.Parameter(torch.ones(4, 4))
    Muon([*weights, unused], lr=1.0, weight_decay=0.5).step()
    for weight in weights:
        u, _, v = torch.linalg.svd(weight.grad.flatten(1), full_matrices=False)
        rotated = -u.T @ weight.detach().flatten(1) @ v.T / (0.2 * max(weight.flatten(1).shape) ** 0.5)
        torch.testing.assert_close(rotated, rotated.diag().diag(), atol=1e-4, rtol=0)
        assert rotated.diag().min() > 0.6
        assert rotated.diag().max() < 1.25
    assert (unused == 1).all(), "it has no gradient"


def test_queries_keys_and_values_are_matrices_of_their_own():
    """One weight of three matrices changes as three weights do, and not as one, however different their gradients."""
    torch.manual_seed(0)
    gradients = [torch.randn(8, 8) * size for size in (1e-3, 1e-3, 1)]
    three, (joined, whole) = [nn.Parameter(torch.zeros(8, 8)) for _ in range(3)], torch.zeros(2, 24, 8)
    joined, whole = nn.Parameter(joined), nn.Parameter(whole)
    for weight, gradient in zip((*three, joined, whole), (*gradients, *[torch.cat(gradients)] * 2), strict=True):
        weight.grad = gradient.clone()
    Muon([{"params": three}, {"params": [joined], "matrices": 3}, {"params": [whole]}], lr=1.0).step()
    torch.testing.assert_close(joined.detach(), torch.cat(three).detach())
    sizes = [part.norm() for part in joined.detach().chunk(3)]
    assert max(sizes) < 1.2 * min(sizes)
    assert whole.detach()[:16].norm() < 0.1 * whole.detach()[16:].norm()


@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1)])
def test_momentum_and_decay(rate):
    torch.manual_seed(0)
    weight, gradients = nn.Parameter(torch.ones(4, 6)), torch.randn(2, 4, 6)
    muon = Muon([weight], lr=0.3, momentum=0.5, weight_decay=0.2)
    muon.param_groups[0]["lr"] = rate
    expected, momentum = torch.ones(4, 6), torch.zeros(4, 6)
    for gradient in gradients:
        weight.grad = gradient.clone()
        muon.step()
        momentum = 0.5 * momentum + 0.5 * gradient
        update = orthogonalize((0.5 * gradient + 0.5 * momentum)[None])[0]
        expected = expected * (1 - 0.1 * 0.2) - 0.1 * 0.2 * 6**0.5 * update
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_every_weight_has_one_optimizer(settings, name):
    made = settings(**{"train.optimizer": name})
    model = training_task(made).build()
    found = [id(w) for each in optimizers(model, made.train) for group in each.param_groups for w in group["params"]]
    assert sorted(found) == sorted(id(weight) for weight in model.parameters())


def test_muon_has_the_hidden_layers_matrices(settings):
    made = settings(**{"train.optimizer": "muon", "model.place": True})
    model = training_task(made).build()
    muon, adamw = optimizers(model, made.train)
    matrices = {id(weight): group["matrices"] for group in muon.param_groups for weight in group["params"]}
    names = {name: matrices[id(weight)] for name, weight in model.named_parameters() if id(weight) in matrices}
    assert isinstance(muon, Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    assert {name for name, count in names.items() if count == 3} == {
        f"encoder.blocks.{i}.attn.qkv.weight" for i in (0, 1)
    }
    assert set(names.values()) == {1, 3}
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert set(names) == {f"{name}.weight" for name in layers} - {"stem.0.weight", "head.weight"}
    assert {"encoder.blocks.1.mlp.2.weight", "patch_unembed.weight"} <= set(names)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_decay_leaves_places_alone(settings, name):
    made = settings(**{"train.optimizer": name, "train.weight_decay": 0.5, "model.place": True})
    model = training_task(made).build()
    before = {key: weight.detach().clone() for key, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    for optimizer in optimizers(model, made.train):
        optimizer.step()
    unchanged = {key for key, weight in model.named_parameters() if torch.equal(weight, before[key])}
    zero = {key for key, weight in before.items() if not weight.any()}
    places = {key for key in before if ".place." in key}
    assert len(places) == 4
    assert unchanged - zero == places


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_layers_learn_the_slower_the_earlier_they_are(settings, name):
    """decay^(L + 1 - i): tokens, positions, patches and stem i = 0, block b i = b + 1, last norm and head L + 1."""
    changes = {"train.optimizer": name, "train.layer_decay": 0.5, "model.place": True, "train.momentum": 0.0}
    made = settings("classify", **changes)
    model = training_task(made, ("a", "b")).build()
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    before = {key: weight.detach().clone() for key, weight in model.named_parameters()}
    chosen = optimizers(model, made.train)
    set_lr(chosen, 0.1)
    for optimizer in chosen:
        optimizer.step()
    names = {0: ["stem", "encoder.patch_embed", "encoder.cls_token", "encoder.pos_embed"], 1: ["encoder.blocks.0"]}
    names |= {2: ["encoder.blocks.1"], 3: ["encoder.norm", "head"]}
    seen = set()
    for layer, parts in names.items():
        for key, weight in model.named_parameters():
            if key.startswith(tuple(parts)):  # the first step of AdamW is one learning rate long, as that of SGD here
                expected = before[key] - 0.1 * 0.5 ** (3 - layer)
                torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-6, msg=key)
                seen.add(key)
    assert seen == set(before)


def test_layers_keep_the_decay_of_weights_and_of_places(settings):
    made = settings(**{"train.weight_decay": 0.3, "train.layer_decay": 0.7, "model.place": True})
    model = training_task(made).build()
    groups = [group for each in optimizers(model, made.train) for group in each.param_groups]
    decays = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(decays)
    for key, weight in model.named_parameters():
        assert decays[id(weight)] == (0.0 if ".place." in key else 0.3), key
