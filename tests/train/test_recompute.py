"""Activation checkpointing changes what is kept, and nothing else."""

from functools import partial

import pytest
import torch

from cutaway.core.errors import ConfigError
from cutaway.models.families import make_model
from cutaway.train.gradients import accumulate
from cutaway.train.memory import activation_bytes, training_memory
from cutaway.train.objectives import LossConfig, causal_lm
from cutaway.train.recompute import recomputed_blocks

SHAPES = {
    "llama": {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6,
              "num_attention_heads": 2, "num_key_value_heads": 1},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 6, "n_head": 2, "resid_pdrop": 0.1},
    "experts": {"model_type": "composed", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6,
                "num_attention_heads": 2, "num_key_value_heads": 2, "num_experts": 4, "dropout": 0.1},
}  # fmt: skip


@pytest.fixture(params=SHAPES)
def model(request):
    torch.manual_seed(0)
    return make_model({**SHAPES[request.param], "vocab_size": 97}).train()


def step(model, batch, wanted, precision):
    model.zero_grad()
    torch.manual_seed(1)  # dropout
    objective = partial(causal_lm, config=LossConfig())
    with recomputed_blocks(model, wanted):
        found = accumulate(model, objective, [batch], precision=precision)
    return found.loss, [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_loss_and_gradients_are_the_same_bit_for_bit(model, rows, precision):
    batch = rows(3, 32, 97)
    loss, grads = step(model, batch, False, precision)
    again, repeated = step(model, batch, True, precision)
    assert again == loss
    for one, other in zip(grads, repeated, strict=True):
        assert torch.equal(one, other)


def test_less_is_kept_and_the_estimate_knows(model, rows):
    batch = rows(3, 32, 97)
    whole = activation_bytes(model, causal_lm, batch, torch.float32)
    with recomputed_blocks(model, True):
        kept = activation_bytes(model, causal_lm, batch, torch.float32)
    assert kept < whole / 3
    full, less = (training_memory(model, causal_lm, batch, 96, torch.float32, wanted) for wanted in (False, True))
    assert full.activations - less.activations > (whole - kept) / 2
    assert (full.weights, full.optimiser) == (less.weights, less.optimiser)


def test_blocks_are_as_before_afterwards(tiny):
    model = tiny()
    first, second = model.blocks
    first.forward = compiled = partial(first.forward)  # as compiling leaves it
    with recomputed_blocks(model, True):
        assert first.forward != compiled
    assert first.forward == compiled
    assert "forward" not in vars(second)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ConfigError, match=r"loop\.checkpointing=True"), recomputed_blocks(torch.nn.Linear(2, 2), True):
        pass
