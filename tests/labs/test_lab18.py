import numpy as np
import torch
from torch import nn

from cutaway.labs.lab18_overfitting import synonyms, with_synonyms, with_words_dropped, zeros
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
