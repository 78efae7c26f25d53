import numpy as np
import torch
from torch import nn

from cutaway.data.augment import back_translate
from cutaway.labs.lab18_overfitting import LAB, zeros
from cutaway.labs.paraphrasing import foreign, translators
from cutaway.labs.remedies import synonyms, with_synonyms, with_words_dropped
from cutaway.labs.small_language import parse, sentences


def test_synonyms_keep_the_language_and_dropped_words_do_not():
    texts = [one.text for one in sentences(40, 3)]
    replaced = with_synonyms(texts, np.random.default_rng(0))
    assert replaced[:40] == texts
    assert len(set(replaced)) > 200
    right = [parse(text) is not None for text in replaced]
    assert all(right)
    dropped = with_words_dropped(texts, np.random.default_rng(0))
    assert sum(parse(text) is None for text in dropped[40:]) > 100


def test_synonyms_have_the_same_form():
    table = synonyms()
    assert table["sailors"] == ["divers"]
    assert table["salted"] == ["boiled"]
    assert set(table["old"]) == {"small", "red", "heavy"}


def test_zeros_are_those_of_matrices():
    model = nn.Linear(4, 2)
    nn.init.zeros_(model.bias)
    with torch.no_grad():
        model.weight[0] = 0
    assert zeros(model) == 0.5


def test_the_other_language_has_one_word_for_a_class():
    table = synonyms()
    assert foreign(" old boats", table) == foreign(" red rafts", table) != foreign(" red raft", table)
    assert foreign(" the .", table) == " eht ."


def test_translators_learn_what_they_are_shown():
    texts = [" old boat", " the cook"]
    there, back = translators(texts, {}, steps=40, seed=0)
    assert there(texts) == [" dlo taob", " eht kooc"]
    assert back_translate(texts, there, back) == texts


def test_without_a_measurement_nothing_is_said_of_translations():
    limit = next(check for check in LAB.checks if check.name == "translated")
    names = ["none", "synonyms", "back-translation"]
    assert limit.holds({"remedies": names, "new_nats": [3.0, 1.5, 2.6]})
    assert not limit.holds({"remedies": names, "new_nats": [3.0, 1.5, 2.9]})
    assert not limit.holds({"remedies": names[:2], "new_nats": [3.0, 1.5]})
