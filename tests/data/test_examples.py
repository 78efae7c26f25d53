"""Tokens and what is learned of them."""

import numpy as np
import pytest

from cutaway.core.errors import DataError
from cutaway.data.examples import Example, Skipped, cut, tokenize
from cutaway.data.read import Record


def examples(tokenizer, *values):
    skipped = Skipped()
    return list(tokenize([Record(v, f"f:{i}") for i, v in enumerate(values, 1)], tokenizer, skipped)), skipped


def learned(tokenizer, example):
    return tokenizer.decode(example.ids[example.learned], skip_special=False)


def test_a_document_has_bos_and_a_learned_end(tokenizer):
    [one], _ = examples(tokenizer, "ab <s>")
    assert one.ids.tolist() == [tokenizer.bos_id, *tokenizer.encode("ab <s>"), tokenizer.eos_id]
    assert one.learned.all()
    assert (one.ids == tokenizer.bos_id).sum() == 1  # the one written in the text is text


def test_without_adds_bos_there_is_none(make_tokenizer):
    tokenizer = make_tokenizer(adds_bos=False)
    [one], _ = examples(tokenizer, "ab")
    assert one.ids[0] == tokenizer.encode("a")[0]


def test_replies_are_learned_with_their_end(tokenizer):
    chat = {
        "messages": [
            {"role": r, "content": c} for r, c in (("user", "q"), ("assistant", "r"), ("user", "s"), ("assistant", "t"))
        ]
    }
    [one], _ = examples(tokenizer, chat)
    assert learned(tokenizer, one) == "r<|im_end|>t<|im_end|>"
    assert one.ids[0] == tokenizer.bos_id


def test_documents_and_conversations_keep_their_order(tokenizer):
    found, _ = examples(tokenizer, "one", {"prompt": "q", "completion": "two"}, "three")
    assert [learned(tokenizer, one) for one in found] == ["<s>one</s>", "two<|im_end|>", "<s>three</s>"]


def test_what_trains_nothing_is_counted_and_located(tokenizer):
    question = {"messages": [{"role": "user", "content": "q"}]}
    found, skipped = examples(tokenizer, " \n", "a", question, {"text": ""})
    assert len(found) == 1
    assert skipped.counts == {"empty": 2, "without a reply": 1}
    assert str(skipped) == "2 empty (first: f:1); 1 without a reply (first: f:3)"


@pytest.mark.parametrize("length", [2, 5, 9, 10, 17, 18])
def test_windows_predict_every_token_once(length):
    whole = Example(np.arange(length), np.ones(length, bool))
    parts = list(cut(whole, 8, "window", Skipped()))
    assert [id for part in parts for id in part.ids[1:]] == list(range(1, length))
    assert all(2 <= len(part.ids) <= 9 for part in parts)


def test_other_ways_with_long_records():
    whole = Example(np.arange(20), np.ones(20, bool), "f:3")
    skipped = Skipped()
    assert [len(part.ids) for part in cut(whole, 8, "truncate", skipped)] == [9]
    assert list(cut(whole, 8, "skip", skipped)) == []
    assert skipped.counts == {"truncated": 1, "over-long": 1}
    with pytest.raises(DataError, match=r"f:3: has 20 tokens and data.seq_len is 8"):
        list(cut(whole, 8, "error", skipped))


def test_a_message_that_is_none_is_located(tokenizer):
    with pytest.raises(DataError, match="f:1"):
        examples(tokenizer, {"messages": [{"role": "robot", "content": "q"}]})
