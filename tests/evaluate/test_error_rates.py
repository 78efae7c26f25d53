"""Error rates of transcripts that were counted by hand, and distances against the table of the definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.evaluate.error_rates import edit_distance, error_rates
from cutaway.evaluate.translation import score

TEXT = st.text("abc", max_size=12)


def table(a, b):
    """Wagner & Fischer 1974: every distance of two beginnings, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


@given(TEXT, TEXT)
def test_distances_are_those_of_the_table(a, b):
    assert edit_distance(a, b) == table(a, b)
    assert edit_distance(list(a), list(b)) == table(a, b), "of words as of characters"


@given(TEXT, TEXT, TEXT)
def test_a_distance_is_a_metric(a, b, c):
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


def test_long_texts():
    """More places than a machine word has bits."""
    a = "abcdefghij" * 200
    assert edit_distance(a, a[3:]) == 3
    assert edit_distance(a[:700] + "x" + a[701:], a) == 1
    assert edit_distance("", a) == edit_distance(a, "") == len(a)


@pytest.mark.parametrize(
    ("text", "reference", "wer", "cer"),
    [
        ("the cat sat", "the cat sat", 0, 0),
        ("the cat sat", "the bat sat", 1 / 3, 1 / 9),  # a word, a letter
        ("cat sat", "the cat sat", 1 / 3, 3 / 9),  # not heard
        ("the the cat sat", "the cat sat", 1 / 3, 3 / 9),  # never said
        ("a b c", "d", 3, 3),  # above one
        ("thecat", "the cat", 1, 0),  # a space is no character: the words alone are wrong
        ("", "two words", 1, 1),
        ("It’s two, Ann!", "it's two ann", 0, 0),  # case, punctuation, the sign of an apostrophe
        ("cafe\u0301", "café", 0, 0),
        ("今天下雨了。", "今天下雪", 2 / 4, 2 / 4),
        ("GPT 二", "gpt 三", 1 / 2, 1 / 4),
        ("12", "13", 1, 1 / 2),
        ("", "…", 0, 0),
    ],
)
def test_counted_by_hand(text, reference, wer, cer):
    assert list(error_rates([text], [reference]).values()) == pytest.approx([100 * wer, 100 * cer])


def test_a_set_counts_all_its_words_together():
    assert error_rates(["a", "b c x"], ["z", "b c d"])["wer"] == 50


def test_they_stand_beside_bleu_where_something_was_said():
    assert score(["two"], ["two"], spoken=True).items() >= {"wer": 0.0, "cer": 0.0}.items()
    assert "wer" not in score(["two"], ["two"])
