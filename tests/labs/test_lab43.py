"""Lab 43: its measures on models where the answer is known."""

import pytest
import torch

from cutaway.labs import lab43_vanishing_gradients as lab

IDS = torch.arange(lab.CONTEXT)[None] % lab.VOCAB


def test_blocks_that_add_nothing_pass_the_gradient_on_unchanged():
    model = lab.transformer(seed=0, std=1e-12, depth=3, norm="none")
    assert lab.by_layer(model, IDS) == pytest.approx([0, 0, 0], abs=1e-9)


def test_states_are_alike_where_all_tokens_are():
    model = lab.transformer(seed=0, std=0.02, depth=2, positions="none")
    assert lab.alike(model, torch.zeros(1, 5, dtype=torch.int64)) == pytest.approx(1)


def test_distance_is_counted_back_from_the_last_token():
    curve = lab.by_distance(lab.recurrent(seed=0, cell="gru"), IDS)
    assert curve[0] == 0
    assert curve == sorted(curve, reverse=True)


def test_the_text_follows_its_rule_but_for_the_noise():
    batch = next(lab.texts_with_a_rule(seed=0, rows=64))
    assert torch.equal(batch.ids_BT[:, 1:], batch.targets_BT[:, :-1])
    pairs = torch.stack([batch.ids_BT.flatten(), batch.targets_BT.flatten()])
    counts = torch.zeros(lab.VOCAB, lab.VOCAB).index_put_(tuple(pairs), torch.ones(()), accumulate=True)
    assert float(counts.amax(1).sum() / counts.sum()) == pytest.approx(1 - lab.NOISE, abs=0.03)
