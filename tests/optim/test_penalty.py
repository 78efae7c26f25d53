"""Penalties against their closed forms on ½ (w - a)²: a soft threshold for L1, a / (1 + l2) for L2."""

import pytest
import torch
from torch import nn

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError
from cutaway.optim.adamw import OptimConfig, make_adamw
from cutaway.optim.penalty import add_penalty

A = torch.tensor([[2.0, 0.3, 0.0, -0.2, -1.5]])


def settled(l1, l2):
    weight = nn.Parameter(torch.full_like(A, 0.7))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    add_penalty(optimizer, [weight], l1, l2)
    for _ in range(300):
        weight.grad = (weight - A).detach()
        optimizer.step()
    return weight.detach()


def test_l2_shrinks_in_proportion():
    torch.testing.assert_close(settled(0.0, 0.5), A / 1.5)


def test_l1_takes_off_the_same_from_all_and_leaves_exact_zeros():
    found = settled(0.5, 0.0)
    torch.testing.assert_close(found, A.sign() * (A.abs() - 0.5).clamp(min=0))
    assert (found == 0).tolist() == [[False, True, True, True, False]]


def test_both():
    torch.testing.assert_close(settled(0.5, 1.0), A.sign() * (A.abs() - 0.5).clamp(min=0) / 2)


def test_the_configuration_penalises_matrices_alone():
    model = nn.Sequential(nn.Linear(3, 3), nn.Embedding(4, 3), nn.LayerNorm(3))
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer = make_adamw(model, OptimConfig(lr=0.5, weight_decay=0.0, l1=100.0))
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert (model[0].weight == 0).all()
    kept = [now for now in model.parameters() if now is not model[0].weight]
    assert all(map(torch.equal, kept, before[1:]))


def test_what_gets_no_gradient_is_left_alone():
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    make_adamw(model, OptimConfig(weight_decay=0.0, l1=1.0, l2=1.0)).step()
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_a_negative_weight_is_named(name):
    with pytest.raises(ConfigError, match=rf"{name}=-1"):
        make_config(OptimConfig, {name: -1})
