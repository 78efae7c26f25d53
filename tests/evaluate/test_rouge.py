"""ROUGE of pairs that were counted by hand, and words that are those of rouge-score where it has any."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics import BLEU

from cutaway.core.errors import ResourceError
from cutaway.evaluate.rouge import Words, rouge
from cutaway.evaluate.translation import bleu_words, score


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        # 3 of 3 words in 6; "the cat" and "cat sat" are 2 of 2 pairs in 5; the order is the same.
        ("The cat sat.", "the cat sat on the mat", (2 * 3 / 9, 2 * 2 / 7, 2 * 3 / 9)),
        # The same four words; "sat on" alone is a pair of both; it is the longest common subsequence too.
        ("mats sat on cats", "cats sat on mats", (1, 1 / 3, 2 / 4)),
        # A word counts as often as both have it: "the" once.
        ("the the the the", "the cat", (2 * 1 / 6, 0, 2 * 1 / 6)),
        # Characters: 猫 坐 在 against 猫 坐 在 垫 子 上, as the first case, with punctuation that is no word.
        ("猫坐在。", "猫，坐在垫子上", (2 * 3 / 9, 2 * 2 / 7, 2 * 3 / 9)),
        # A name among characters is one word: GPT 2 的 词 against GPT 2 的 字; 3 of 4, pairs 2 of 3.
        ("GPT-2的词", "gpt-2 的字", (3 / 4, 2 / 3, 3 / 4)),
        ("Straße é", "straße e", (1 / 2, 0, 1 / 2)),
        ("", "something", (0, 0, 0)),
        ("。", "，", (0, 0, 0)),
    ],
)
def test_counted_by_hand(text, reference, expected):
    assert list(rouge([text], [reference]).values()) == pytest.approx([100 * share for share in expected])


def test_the_score_of_a_set_is_the_mean_of_its_pairs():
    assert rouge(["a b", "c"], ["a b", "d"]) == {"rouge1": 50, "rouge2": 50, "rougeL": 50}
    assert rouge(["a b", "", "x"], ["a b", "", ""]) == {"rouge1": 50, "rouge2": 50, "rougeL": 50}, "nothing to compare"


@given(st.text(st.characters(max_codepoint=127)))
def test_words_of_ascii_are_those_of_the_original(text):
    assert Words().tokenize(text) == DefaultTokenizer().tokenize(text)


@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5)))
def test_every_chinese_character_is_a_word(text):
    assert Words().tokenize(text) == list(text)


def test_it_stands_beside_bleu_and_chrf():
    found = score(["the cat sat on the mat"], ["the cat sat on the mat"])
    assert {name: found[name] for name in ("bleu", "chrf", "rouge1", "rouge2", "rougeL")} == pytest.approx(
        dict.fromkeys(("bleu", "chrf", "rouge1", "rouge2", "rougeL"), 100)
    )
    assert score(["今天下雨"], ["今天下雪"])["rouge1"] == 75


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("the cat sat on the mat", "13a"),
        ("今天下雨，我们用 GPU 训练模型。", "zh"),
        ("トランスフォーマーはニューラルネットワークである", "char"),
        ("Use vLLM 训练", "13a"),
        ("1 2 3", "13a"),
    ],
)
def test_bleu_counts_words_as_the_references_are_written(reference, words):
    assert bleu_words([reference]) == words
    assert f"tok:{words}" in score([reference], [reference])["signature"]


def test_bleu_of_chinese_is_that_of_its_characters():
    found = score(["今天下雨，我不出门了"], ["今天下雨，我不出去了"])
    expected = BLEU(tokenize="zh").corpus_score(["今天下雨，我不出门了"], [["今天下雨，我不出去了"]]).score
    assert found["bleu"] == round(expected, 2) > 50


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(ResourceError, match="pip: rouge-score"):
        rouge(["a"], ["a"])
