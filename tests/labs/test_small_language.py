import math

import numpy as np
import pytest
import torch

from cutaway.labs.small_corpus import DECODER, batches, examples, word_nats, word_tokenizer
from cutaway.labs.small_language import MOST_PLACES, parse, sentences
from cutaway.models.families import make_model

SOME = sentences(300, seed=7)


def test_what_is_drawn_is_of_the_language():
    assert [parse(one.text) for one in SOME] == SOME
    assert sentences(300, seed=7) == SOME
    assert {one.words.count("near") for one in SOME} == set(range(MOST_PLACES + 1))


def test_places_of_subject_and_verb():
    one = parse("yesterday the old crews near the tower loaded this boat then .")
    assert one is not None
    assert (one.words[one.subject], one.words[one.verb], one.trade, one.own) == ("crews", "loaded", "sea", False)


@pytest.mark.parametrize(
    "text",
    [
        "today the cook boil these eggs now .",  # number
        "yesterday the cook boils these eggs then .",  # tense
        "yesterday the cook boiled these eggs now .",  # tense at the end
        "today the cook boils this eggs now .",  # number of the object
        "today the cook paints these eggs now .",  # trade of the subject
        "today the guest boils these chairs now .",  # trade of the object
        "today the cook boils these eggs now",
        "today the cook boils these eggs now . today",
        "",
    ],
)
def test_what_is_not_of_the_language(text):
    assert parse(text) is None


def test_probability_is_the_product_of_the_choices():
    one = parse("today the cook boils these eggs now .")
    expected = (1 / 2) * (0.8 * 0.5 / 8 / 2) * (1 / 2 / 2) * (1 / 2) * (0.8 / 3)
    assert math.exp(-sum(one.nats)) == pytest.approx(expected)


def test_the_other_tense_is_wrong():
    assert not any(parse(one.text_with_other_tense) for one in SOME)


def test_every_word_is_one_token():
    tokenizer = word_tokenizer()
    for one, example in zip(SOME, examples([one.text for one in SOME], tokenizer), strict=True):
        assert len(example.ids) == len(one.words) + 2
        assert example.ids[0] == tokenizer.bos_id
        assert example.ids[-1] == tokenizer.eos_id
        assert tokenizer.decode(example.ids) == one.text


def test_a_batch_holds_the_sentences():
    tokenizer = word_tokenizer()
    read = sum(batch.n_tokens for batch in batches([one.text for one in SOME], tokenizer, seed=0).once())
    assert read == sum(len(one.words) + 1 for one in SOME)


def test_word_nats_are_those_of_the_logits():
    tokenizer = word_tokenizer()
    torch.manual_seed(0)
    model = make_model({**DECODER, "vocab_size": tokenizer.vocab_size}).eval()
    some = examples([one.text for one in SOME[:5]], tokenizer)
    for nats, example in zip(word_nats(model, some), some, strict=True):
        ids = torch.from_numpy(example.ids.astype(np.int64))[None]
        with torch.inference_mode():
            expected = -model.logits(model(ids))[0].log_softmax(-1)[range(len(nats)), ids[0, 1:-1]]
        np.testing.assert_allclose(nats, expected, rtol=1e-4, atol=1e-5)
