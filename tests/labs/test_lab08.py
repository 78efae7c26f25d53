"""Lab 8: its pairs and its measures."""

import pytest

from cutaway.data.pairs import Pair
from cutaway.labs import lab08_seq2seq as lab


@pytest.mark.parametrize(
    ("number", "english", "chinese"),
    [
        (0, "zero", "零"),
        (10, "ten", "十"),
        (19, "nineteen", "十九"),
        (20, "twenty", "二十"),
        (99, "ninety nine", "九十九"),
    ],
)
def test_numbers(number, english, chinese):
    assert (lab.in_english(number), lab.in_chinese(number)) == (english, chinese)


def test_every_number_has_its_own_words():
    assert len({lab.in_english(n) for n in range(100)}) == len({lab.in_chinese(n) for n in range(100)}) == 100


def test_no_held_out_source_is_trained_on():
    task = lab.make_task(longest=3, count=400, seed=0)
    assert list(task.held_out) == [1, 2, 3]
    trained = {tuple(pair.source) for pair in task.training}
    assert not any(tuple(pair.source) in trained for pairs in task.held_out.values() for pair in pairs)
    assert task.tokenizer.unk_id not in {id for pair in task.training for id in [*pair.source, *pair.target]}


def test_a_trained_model_translates_what_it_saw():
    task = lab.make_task(longest=1, count=200, seed=0)
    model = lab.trained(task, "dot", steps=250, seed=0)
    assert lab.exact(model, task.training[:40], task.tokenizer) > 0.8
    assert lab.exact(model, [Pair(task.training[0].source, [9, 9, 9])], task.tokenizer) == 0


def test_only_attention_gets_more_of_a_longer_source():
    task = lab.make_task(longest=1, count=50, seed=0)
    short, long = Pair([5, 6], [5]), Pair([5, 6, 7, 8], [5])
    fixed, attention = (lab.trained(task, score, steps=1, seed=0) for score in ("none", "dot"))
    assert lab.memory(fixed, [short]) == lab.memory(fixed, [long]) == lab.WIDTHS["none"]
    assert lab.memory(attention, [long]) == 2 * lab.memory(attention, [short])
