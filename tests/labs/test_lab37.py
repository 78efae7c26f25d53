"""Lab 37: its task and its measures where the answer is known."""

from types import SimpleNamespace

import pytest
import torch

from cutaway.labs import lab37_mixture_of_experts as lab
from cutaway.labs.many_languages import NOISE, WORDS
from cutaway.loss.language_modelling import IGNORED


@pytest.mark.slow
def test_loads_are_of_all_experts_the_largest_first(quick):
    load = quick(37)["load_balanced"]
    assert load == sorted(load, reverse=True)
    assert sum(load) == pytest.approx(lab.EXPERTS)


@pytest.mark.parametrize("own_words", [False, True])
def test_words_follow_the_rule_of_their_language(own_words):
    task = lab.make_task(seed=1, own_words=own_words)
    batch = task.batch(0)
    language_B = task.language(batch)
    assert language_B.min() >= 0
    assert language_B.max() < lab.LANGUAGES
    words, following = batch.ids_BT[:, 1:] % WORDS, batch.targets_BT[:, 1:] % WORDS
    right = task.next_ZV[language_B[:, None], words] == following
    assert float(right.float().mean()) == pytest.approx(1 - NOISE, abs=0.05)
    assert (batch.targets_BT[:, 0] == IGNORED).all()
    assert bool((batch.ids_BT[:, 1:] >= WORDS).any()) == own_words


def test_held_out_text_is_other_text():
    task = lab.make_task(seed=0)
    assert not torch.equal(task.batch(-1).ids_BT, task.batch(0).ids_BT)
    assert torch.equal(task.batch(-1).ids_BT, task.batch(-1).ids_BT)


def test_the_dense_model_does_no_less_work():
    task = lab.make_task(seed=0)
    dense, sparse = (lab.trained(task, [], part, 0.0) for part in (lab.DENSE, lab.SPARSE))
    active = [lab.count_parameters(model)["active"] for model in (dense, sparse)]
    assert active[1] <= active[0] < 1.05 * active[1]


def test_mutual_information():
    assert lab.mutual_information(torch.eye(4)) == pytest.approx(2)
    assert lab.mutual_information(torch.outer(torch.arange(3.0), torch.tensor([1.0, 5.0]))) == pytest.approx(0)


def test_experts_by_language_are_seen_as_such(monkeypatch):
    task = lab.make_task(seed=0)
    batch = task.batch(-1)
    experts_N1 = task.language(batch)[:, None].expand(lab.ROWS, lab.LENGTH).reshape(-1, 1)
    monkeypatch.setattr(lab, "routings", lambda model, task: [(batch, SimpleNamespace(experts_NK=experts_N1))])
    language_bits, word_bits = lab.knowledge(None, task)
    assert language_bits > 2.5  # of 3
    assert word_bits < 0.5  # chance, in so little text
