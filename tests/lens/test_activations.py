"""Activation numbers and unit activity against sums over hooks of our own."""

import numpy as np
import pytest
import torch

from cutaway.lens.activations import activations
from cutaway.lens.layers import layer_names
from cutaway.lens.units import unit_activity
from cutaway.models.families import make_model

IDS = torch.tensor([[5, 77, 5, 200, 31, 9]])


def test_the_stream_is_what_each_block_puts_out(any_model):
    seen = {}
    handles = [
        any_model.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: seen.update({name: o}))
        for name in layer_names(any_model)
    ]
    found = activations(any_model, IDS)
    for handle in handles:
        handle.remove()
    assert not any(module._forward_hooks for module in any_model.modules())
    streams = {row.name: row for row in found if row.kind == "stream"}
    assert list(streams) == layer_names(any_model)
    for name, row in streams.items():
        values = seen[name].numpy().astype(np.float64)
        assert row.mean == pytest.approx(values.mean(), abs=1e-9)
        assert row.std == pytest.approx(values.std(), rel=1e-9)
        assert row.largest == pytest.approx(np.abs(values).max(), rel=1e-6)
        assert row.zeros == 0
    kinds = {row.kind for row in found}
    assert kinds == {"stream", "norm", "attention", "linear", "units"}


def relu_model() -> torch.nn.Module:
    torch.manual_seed(1)
    return make_model(
        {
            "model_type": "transformer",
            "vocab_size": 260,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
            "num_attention_heads": 3,
            "hidden_act": "relu",
        }
    ).eval()


def test_relu_units_that_cannot_wake_are_dead():
    model = relu_model()
    up = model.encoder.layers[0].feed_forward.inner.up
    with torch.no_grad():
        up.bias[[3, 17]] = -1e4
    caught = []
    handle = up.register_forward_hook(lambda m, i, o: caught.append(o))
    encoder, decoder = unit_activity(model, IDS)
    zeros = next(row.zeros for row in activations(model, IDS) if row.layer == 1 and row.kind == "units")
    handle.remove()
    before = caught[0][0]
    assert {3, 17} <= set(encoder.dead)
    assert encoder.dead == [unit for unit in range(40) if not bool((before[:, unit] > 0).any())]
    torch.testing.assert_close(encoder.active_F, (before > 0).float().mean(0))
    assert zeros == pytest.approx(float((before <= 0).double().mean()))
    assert (encoder.layer, decoder.layer, encoder.tokens) == (1, 2, 6)


def test_a_threshold_tells_units_that_hardly_move(model):
    plain, strict = unit_activity(model, IDS), unit_activity(model, IDS, threshold=0.5)
    for all_of_them, moving in zip(plain, strict, strict=True):
        assert not all_of_them.dead
        assert float(moving.active_F.mean()) < float(all_of_them.active_F.mean())


def test_an_expert_that_got_no_token_is_all_dead():
    torch.manual_seed(0)
    model = make_model(
        {"model_type": "mixtral", "vocab_size": 260, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 1}
    ).eval()
    found = unit_activity(model, IDS[:, :1])
    assert [row.tokens for row in found].count(1) == 2
    assert all(len(row.dead) == 16 for row in found if row.tokens == 0)
    assert len(found) == 8
    assert activations(model, IDS[:, :1])  # experts that were not called are no trouble
