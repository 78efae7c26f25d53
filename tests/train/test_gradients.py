from dataclasses import fields
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.core.errors import NonFiniteLossError, NothingSupervisedError
from cutaway.data.batch import Batch
from cutaway.train.gradients import accumulate, clip, gradient_norms, gradients
from cutaway.train.held_out import held_out_loss
from cutaway.train.objectives import LossConfig, causal_lm


def grads_of(model, batches):
    model.zero_grad()
    result = accumulate(model, causal_lm, batches)
    return result, [grad.clone() for grad in gradients(model)]


@given(cuts=st.sets(st.integers(1, 5)))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_gives_the_same_gradient(tiny, rows, cuts):
    model, whole = tiny().double(), rows(6, 12, 31, supervised=0.4)
    edges = [0, *sorted(cuts), 6]
    parts = [whole.rows(a, b) for a, b in pairwise(edges)]
    (one, expected), (many, got) = grads_of(model, [whole]), grads_of(model, parts)
    assert many.loss == pytest.approx(one.loss)
    assert (many.targets, many.tokens) == (one.targets, one.tokens) == (int((whole.targets_BT != -100).sum()), 6 * 11)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("tied", [True, False])
def test_equals_the_mean_loss_written_out(tiny, rows, tied):
    model, batch = tiny(tie_word_embeddings=tied).double(), rows(3, 12, 31)
    result, got = grads_of(model, [batch])
    mask = (batch.segments_BT[:, :, None] == batch.segments_BT[:, None]).tril()
    logits = model.logits(model(batch.ids_BT, positions_BT=batch.positions_BT, mask_BTS=mask))
    loss = F.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten())
    expected = torch.autograd.grad(loss, list(model.parameters()))
    assert result.loss == pytest.approx(loss.item())
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_head_that_is_no_plain_linear_gives_the_same(tiny, rows):
    class Scaled(torch.nn.Linear):
        pass

    model, batch = tiny(tie_word_embeddings=False).double(), rows(3, 12, 31)
    (one, expected) = grads_of(model, [batch])
    model.lm_head.__class__ = Scaled
    (other, got) = grads_of(model, [batch])
    assert other.loss == pytest.approx(one.loss)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_document_does_not_see_the_one_before_it(tiny, rows):
    """Packed rows give the loss of the documents one by one."""
    model, packed = tiny().double(), rows(2, 12, 31)
    first, second = (
        Batch(*(getattr(packed, item.name)[:, part] for item in fields(Batch))) for part in (slice(6), slice(6, None))
    )
    apart = [causal_lm(model, part)[0] for part in (first, second)]
    torch.testing.assert_close(causal_lm(model, packed)[0], sum(apart))


def test_terms_of_the_loss_reach_it(tiny, rows):
    model, batch = tiny().double(), rows(2, 12, 31)
    plain, n, metrics = causal_lm(model, batch)
    smoothed, _, _ = causal_lm(model, batch, LossConfig(label_smoothing=0.1, z_loss=0.01))
    assert smoothed > plain
    assert metrics == {"supervised": n / 24}


def test_a_loss_that_is_not_finite_stops_before_gradients_are_used(tiny, rows):
    model = tiny()
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="nan at step 7, micro-batch 1") as caught:
        accumulate(model, causal_lm, [rows(1, 12, 31)], step=7)
    assert "optim.lr" in str(caught.value)


def test_a_gradient_that_is_not_finite_stops_too(tiny):
    model = tiny()
    model.model.norm.weight.grad = torch.full((16,), float("inf"))
    with pytest.raises(NonFiniteLossError, match="gradient norm is inf at step 3"):
        clip(model, 1.0, step=3)


def test_nothing_supervised_is_named(tiny, rows):
    with pytest.raises(NothingSupervisedError, match="step 4 holds no supervised token"):
        accumulate(tiny(), causal_lm, [rows(2, 12, 31, supervised=0)], step=4)
    with pytest.raises(NothingSupervisedError, match="held-out"):
        held_out_loss(tiny(), causal_lm, [rows(2, 12, 31, supervised=0)])


def test_one_empty_micro_batch_among_others_is_no_error(tiny, rows):
    model, batch = tiny().double(), rows(2, 12, 31)
    (_, alone), (_, beside) = (
        grads_of(model, [batch]),
        grads_of(model, [batch, rows(2, 12, 31, supervised=0)]),
    )
    for a, b in zip(alone, beside, strict=True):
        torch.testing.assert_close(a, b)


def test_clipping(tiny, rows):
    model = tiny()
    accumulate(model, causal_lm, [rows(2, 12, 31)])
    norm = clip(model, None)
    assert norm == pytest.approx(torch.nn.utils.get_total_norm(gradients(model)).item())
    assert clip(model, norm / 2) == pytest.approx(norm)
    assert torch.nn.utils.get_total_norm(gradients(model)).item() == pytest.approx(norm / 2, rel=1e-5)


def test_norms_by_layer_make_up_the_whole(tiny, rows):
    model = tiny(tie_word_embeddings=False)
    accumulate(model, causal_lm, [rows(2, 12, 31)])
    norms = gradient_norms(model)
    assert list(norms) == ["embedding", "block 00", "block 01", "rest"]
    assert sum(norm**2 for norm in norms.values()) ** 0.5 == pytest.approx(clip(model, None), rel=1e-5)


def test_held_out_loss_is_the_mean_and_changes_nothing(tiny, rows):
    model = tiny().train()
    batches = [rows(2, 12, 31, supervised=0.3), rows(1, 12, 31, seed=1)]
    expected = accumulate(model, causal_lm, batches).loss
    before = [p.grad.clone() for p in model.parameters()]
    assert held_out_loss(model, causal_lm, batches) == pytest.approx(expected, rel=1e-5)
    assert model.training
    assert all(torch.equal(a, b.grad) for a, b in zip(before, model.parameters(), strict=True))
