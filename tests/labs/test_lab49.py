import pytest
import torch

from cutaway.labs.lab49_language_models import SIDE, A, accounting, examine, falls, make, make_ledger
from cutaway.loss.language_modelling import IGNORED


def test_rows_tell_facts_and_supervise_answers():
    ledger = make_ledger(0)
    batch = ledger.batch(50, torch.Generator().manual_seed(0))
    key_B = batch.ids_BT[:, 0] * SIDE + batch.ids_BT[:, 1] - SIDE
    assert torch.equal(batch.targets_BT[:, 1:] - 2 * SIDE, ledger.answers_KA[key_B])
    assert (batch.targets_BT[:, 0] == IGNORED).all()
    assert batch.n_targets == 50 * A


def test_frequent_facts_come_often():
    ledger = make_ledger(1)
    frequent = ledger.frequency_K.sort(descending=True).values
    assert float(frequent[0] / frequent[1]) == pytest.approx(2**1.2, rel=1e-5)
    assert abs(float(frequent.sum()) - 1) < 1e-5


def test_an_untrained_model_guesses():
    torch.manual_seed(0)
    nats, token, answer, exam = examine(make(8), make_ledger(0), 0)
    assert nats > 4
    assert (token < 0.1, answer, exam) == (True, 0.0, 0.0)


def test_counts_are_those_of_a_step():
    found = accounting(make_ledger(0), 0)
    assert abs(found["flops_counted_per_real"] - 1) < 0.1
    assert found["bytes_counted_per_real"] == 1


def test_falls():
    assert falls([3.0, 2.0, 1.0])
    assert not falls([3.0, 3.0])
