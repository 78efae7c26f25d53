import math

import numpy as np
import pytest

from cutaway.labs.contract import verdict
from cutaway.labs.lab47_ngram import LAB, count_ngrams, verb_bits
from cutaway.labs.small_corpus import examples, word_tokenizer
from cutaway.labs.small_language import sentences


@pytest.fixture(scope="module")
def numbers(quick):
    return quick(47)


def test_nothing_predicts_better_than_the_language(numbers):
    assert min(numbers["ngram_bits_per_byte"] + numbers["neural_bits_per_byte"]) > numbers["source_bits_per_byte"]
    assert numbers["ngram_verb_bits"][0] > numbers["source_verb_bits"][0]
    assert sorted(numbers["unseen"], reverse=True) == numbers["unseen"]


def test_verb_bits_by_distance():
    some = sentences(2_000, seed=3)
    even = verb_bits([np.array(one.nats) for one in some], some)
    # "near" or a verb, half and half, but after the last place; then 2 verbs for half of the subjects and 8 for the others
    assert even[4] == pytest.approx(0.5 * 1 + 0.5 * 3, abs=0.3)
    assert even[0] == pytest.approx(1 + 0.5 * 1 + 0.5 * 3, abs=0.1)


def test_scores_are_of_the_words_alone():
    tokenizer = word_tokenizer()
    some = sentences(200, seed=4)
    ngram = count_ngrams([one.text for one in some], tokenizer)
    for one, example in zip(some[:20], examples([one.text for one in some[:20]], tokenizer), strict=True):
        assert len(ngram.score(example.ids)[1:-1]) == len(one.words)
        assert -ngram.score(example.ids)[1:-1].sum() > math.log(2)


def test_an_ngram_that_sees_far_would_refute(numbers):
    assert verdict(LAB.checks, {**numbers, "ngram_verb_bits": numbers["source_verb_bits"]})[0] == "refuted"
