"""Routing and the sum over experts, against the plain double loop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from cutaway.nn.experts import apply_experts, balance_loss, expert_layers, load, route


def plainly(x_ND, routing, experts):
    rows = []
    for x_D, chosen, weights in zip(x_ND, routing.experts_NK, routing.weights_NK, strict=True):
        rows.append(sum(w * experts[e](x_D) for e, w in zip(chosen.tolist(), weights, strict=True)))
    return torch.stack(rows)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.data())
def test_equals_the_loop_over_tokens_with_its_gradients(N, E, data):
    K = data.draw(st.integers(1, E))
    torch.manual_seed(N * 31 + E)
    experts = nn.ModuleList(nn.Linear(5, 5) for _ in range(E))
    x_ND = torch.randn(N, 5, requires_grad=True)
    routing = route(torch.randn(N, E), K, normalise=data.draw(st.booleans()))
    found, expected = apply_experts(x_ND, routing, experts), plainly(x_ND, routing, experts)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x_ND)[0] for y in (found, expected)))


def test_weights():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    plain, normalised = route(logits, 2, False), route(logits, 2, True)
    assert plain.experts_NK.tolist() == [[0, 1]]
    torch.testing.assert_close(plain.weights_NK, logits.softmax(-1)[:, :2])
    torch.testing.assert_close(normalised.weights_NK.sum(-1), torch.ones(1))
    # A bias moves the choice, and not the weight of what is chosen.
    biased = route(logits, 2, False, bias_E=torch.tensor([-9.0, 0.0, 0.0, 9.0]))
    assert biased.experts_NK.tolist() == [[3, 1]]
    torch.testing.assert_close(biased.weights_NK, logits.softmax(-1)[:, [3, 1]])


def test_padding_does_not_count_in_the_balance_loss():
    torch.manual_seed(0)
    logits = torch.randn(9, 4)
    real = torch.arange(9) < 6
    assert balance_loss(route(logits, 2, True), real) == balance_loss(route(logits[:6], 2, True))
    assert balance_loss(route(logits, 2, True), real & False) == 0
    assert balance_loss(route(logits, 2, True), real) != balance_loss(route(logits, 2, True))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_balance_loss_is_least_when_the_load_is_even(k):
    logits = torch.randn(40, 6)
    routing = route(logits, k, True)
    expected = load_balancing_loss_func((logits,), 6, k)
    torch.testing.assert_close(balance_loss(routing), expected)
    even = route(torch.eye(6).repeat(4, 1) * 50, 1, True)
    torch.testing.assert_close(balance_loss(even), torch.tensor(1.0))
    torch.testing.assert_close(load(even), torch.full((6,), 1 / 6))
    collapsed = route(torch.tensor([[50.0, 0, 0, 0, 0, 0]]).repeat(24, 1), 1, True)
    torch.testing.assert_close(balance_loss(collapsed), torch.tensor(6.0))


def test_training_evens_the_load_and_says_so():
    from cutaway.data.batch import Batch
    from cutaway.models.families import make_model
    from cutaway.train.objectives import LossConfig, causal_lm
    from cutaway.train.throughput import flops_per_token

    torch.manual_seed(0)
    shape = dict(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    shape |= dict(num_key_value_heads=2, model_type="mixtral", num_experts_per_tok=1)
    model = make_model({**shape, "num_local_experts": 4})
    # As much work as one expert takes and the router; not four experts.
    one = flops_per_token(make_model({**shape, "num_local_experts": 1}), 8)
    assert flops_per_token(model, 8) == one + 2 * 6 * 16 * 3
    for layer in expert_layers(model).values():  # routers that begin by using two experts of four
        layer.gate.weight.data[0] *= 20
        layer.gate.weight.data[1:] = -layer.gate.weight.data[0]
    ids = torch.randint(40, (4, 16))
    batch = Batch(ids, ids.roll(-1, 1), torch.arange(16).expand(4, 16), torch.ones_like(ids))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    seen = []
    for _ in range(60):
        loss, n, metrics = causal_lm(model, batch, LossConfig(balance=0.1))
        (loss / n).backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(metrics["balance"]))
    assert seen[-1] < 1.15 < seen[0]
    assert "balance" not in causal_lm(model, batch)[2]
