import pytest
import torch
from torch import nn

from vitpipe.tasks import supersample
from vitpipe.training.optimizers import Muon, optimizers, orthogonalised


@pytest.mark.parametrize("shape", [(8, 8), (8, 72), (16, 96)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    made = orthogonalised(matrix[None])[0]
    values = torch.linalg.svdvals(made)
    assert made.shape == shape
    assert values.max() < 1.25
    assert values.median() > 0.65
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ made @ v.T
    torch.testing.assert_close(turned, turned.diag().diag(), atol=1e-4, rtol=0)


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
def test_the_update_of_a_weight_is_the_nearest_orthogonal_matrix(shape):
    """About: the singular vectors of its gradient, all singular values near 1, in a step with other weights."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(24, 8)), nn.Parameter(torch.zeros(8, 24))]
    for weight in weights:
        weight.grad = torch.randn(weight.shape)
    Muon(weights, lr=1.0).step()
    for weight in weights:
        u, _, v = torch.linalg.svd(weight.grad.flatten(1), full_matrices=False)
        turned = -u.T @ weight.detach().flatten(1) @ v.T / (0.2 * max(weight.flatten(1).shape) ** 0.5)
        torch.testing.assert_close(turned, turned.diag().diag(), atol=1e-4, rtol=0)
        assert turned.diag().min() > 0.6
        assert turned.diag().max() < 1.25


def test_momentum_and_decay():
    torch.manual_seed(0)
    weight, first, second = nn.Parameter(torch.ones(4, 4)), torch.randn(4, 4), torch.randn(4, 4)
    muon = Muon([weight], lr=0.1, momentum=0.5, weight_decay=0.2)
    expected = torch.ones(4, 4)
    momentum = torch.zeros(4, 4)
    for gradient in (first, second):
        weight.grad = gradient.clone()
        muon.step()
        momentum = 0.5 * momentum + 0.5 * gradient
        expected = (
            expected * (1 - 0.1 * 0.2) - 0.1 * 0.2 * 2 * orthogonalised((0.5 * gradient + 0.5 * momentum)[None])[0]
        )
    torch.testing.assert_close(weight.detach(), expected)


def test_a_rate_in_a_tensor_is_a_rate():
    torch.manual_seed(0)
    gradient = torch.randn(4, 6)
    weights = [nn.Parameter(torch.ones(4, 6)) for _ in range(2)]
    for weight, rate in zip(weights, (0.1, torch.tensor(0.1)), strict=True):
        weight.grad = gradient
        muon = Muon([weight], lr=0.3, weight_decay=0.2)
        muon.param_groups[0]["lr"] = rate
        muon.step()
    torch.testing.assert_close(weights[0], weights[1])


def test_a_weight_without_gradient_stays():
    weight = nn.Parameter(torch.ones(4, 4))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert (weight == 1).all()


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_every_weight_has_one_optimizer(settings, name):
    made = settings(**{"train.optimizer": name})
    model = supersample.build(made)
    found = [id(w) for each in optimizers(model, made.train) for group in each.param_groups for w in group["params"]]
    assert sorted(found) == sorted(id(weight) for weight in model.parameters())


def test_muon_has_the_hidden_layers_matrices(settings):
    made = settings(**{"train.optimizer": "muon"})
    model = supersample.build(made)
    muon, adamw = optimizers(model, made.train)
    inside = {id(weight) for weight in muon.param_groups[0]["params"]}
    names = {name for name, weight in model.named_parameters() if id(weight) in inside}
    assert isinstance(muon, Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    assert "encoder.blocks.0.attention.qkv.weight" in names
    assert "encoder.blocks.1.mlp.2.weight" in names
    assert {"stem.1.layers.0.weight", "encoder.embed.weight", "readout.weight", "tail.0.layers.2.weight"} <= names
    assert not names & {"stem.0.weight", "last.weight", "encoder.position"}
    assert all("norm" not in name and "bias" not in name for name in names)


def test_bfloat16_products_give_nearly_the_same_update():
    torch.manual_seed(0)
    matrices = torch.randn(2, 48, 432)
    exact, rounded = orthogonalised(matrices), orthogonalised(matrices, torch.bfloat16)
    assert rounded.dtype is torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05 * exact.abs().max()


def test_weights_of_one_shape_are_changed_each_by_its_own_gradient():
    torch.manual_seed(0)
    start, gradients = torch.randn(3, 6, 10), torch.randn(3, 6, 10)
    together = [nn.Parameter(matrix.clone()) for matrix in start]
    alone = [nn.Parameter(matrix.clone()) for matrix in start]
    for weights in (together, alone):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
    Muon(together, lr=0.1).step()
    for weight in alone:
        Muon([weight], lr=0.1).step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)
