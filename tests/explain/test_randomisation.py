"""Which weights become random when, and that no model given changes."""

import copy

import pytest
import torch

from vitpipe.explain.randomisation import cascade
from vitpipe.tasks import classify, supersample


@pytest.fixture
def models(settings):
    def pair(job, name):
        torch.manual_seed(0)
        made = [job.build(settings(**{"task.name": name}), ("round", "square")) for _ in range(2)]
        for parameter in made[0].parameters():
            parameter.data += 0.01 + 0.1 * torch.rand(parameter.shape)
        return made

    return pair


def same(one, other) -> set[str]:
    pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
    return {name for (name, tensor), other in pairs if torch.equal(tensor, other)}


def test_from_the_head_down_to_the_embedding(models):
    trained, fresh = models(classify, "classify")
    before = copy.deepcopy(trained)
    names = set(trained.state_dict())
    embedding = {n for n in names if n.startswith(("stem", "encoder.embed", "encoder.token", "encoder.position"))}
    done = set()
    steps = []
    for step, mixed in cascade(trained, fresh, seed=0):
        steps.append(step)
        if step == "head":
            done |= {"head.weight", "head.bias", "encoder.norm.weight", "encoder.norm.bias"}
        elif step == "embedding":
            done |= embedding
        else:
            done |= {name for name in names if name.startswith(f"encoder.blocks.{int(step[-1]) - 1}.")}
        assert same(mixed, fresh) == done
        assert same(mixed, trained) == names - done
    assert steps == ["head", "block 2", "block 1", "embedding"]
    assert done == names
    assert same(trained, before) == names


def test_weights_that_start_at_zero_are_shuffled(models):
    trained, fresh = models(supersample, "supersample")
    assert not fresh.last.weight.any()
    for _, mixed in cascade(trained, fresh, seed=0):
        assert not torch.equal(mixed.last.weight, trained.last.weight)
        assert torch.equal(mixed.last.weight.flatten().sort()[0], trained.last.weight.flatten().sort()[0])
        assert torch.equal(mixed.readout.weight, fresh.readout.weight)
        again = mixed.last.weight.clone()
    (_, other), *_ = list(cascade(trained, fresh, seed=0))
    assert torch.equal(other.last.weight, again)
    (_, other), *_ = list(cascade(trained, fresh, seed=1))
    assert not torch.equal(other.last.weight, again)
