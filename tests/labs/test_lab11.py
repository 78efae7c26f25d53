"""Lab 11: its documents, and its measures where the answer is known."""

import pytest
import torch

from cutaway.data.sentence_pairs import ELSEWHERE, FOLLOWS, SentencePairBatch
from cutaway.labs import lab11_next_sentence as lab
from cutaway.labs.contract import verdict
from cutaway.labs.small_documents import HOURS, SENTENCES, TOPICS, documents
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.families import make_model

HIDDEN = 3


@pytest.fixture
def model():
    torch.manual_seed(0)
    return make_model({**lab.SHAPE, "vocab_size": 12}).eval()


def batch(relations: list[int]) -> SentencePairBatch:
    """Rows of 4 5 6 7, of which the second is hidden."""
    rows = (len(relations), 1)
    return SentencePairBatch(
        ids_BT=torch.tensor([4, HIDDEN, 6, 7]).repeat(rows),
        real_BT=torch.ones(len(relations), 4, dtype=torch.bool),
        types_BT=torch.tensor([0, 0, 1, 1]).repeat(rows),
        targets_BT=torch.tensor([IGNORED, 5, IGNORED, IGNORED]).repeat(rows),
        relation_B=torch.tensor(relations),
    )


def test_documents_keep_to_one_topic_and_go_on_by_the_hour():
    texts = documents(50, "a seed")
    assert texts == documents(50, "a seed") != documents(50, "another")
    for text in texts:
        told = [sentence.split() for sentence in text.rstrip(".").split(". ")]
        first = HOURS.index(told[0][1])
        assert [words[1] for words in told] == list(HOURS[first : first + SENTENCES])
        said = {word for words in told for word in (words[2], words[4], words[6])}
        assert any(said <= set(topic.split()) for topic in TOPICS)


def test_the_whole_text_has_nothing_hidden_and_the_relation_as_its_label():
    shown = lab.whole(batch([FOLLOWS, ELSEWHERE]))
    assert shown.ids_BT.tolist() == [[4, 5, 6, 7]] * 2
    assert shown.types_BT.tolist() == [[0, 0, 1, 1]] * 2
    assert shown.real_BT.all()
    assert shown.labels.tolist() == [[FOLLOWS], [ELSEWHERE]]


def test_words_count_where_the_second_sentence_follows(model):
    both, one = lab.word_nats(model, [batch([FOLLOWS, ELSEWHERE])]), lab.word_nats(model, [batch([FOLLOWS])])
    assert both == pytest.approx(one, abs=1e-6) != 0


def test_the_head_of_pretraining_is_judged_on_the_whole_text(model):
    relations = [FOLLOWS, ELSEWHERE]
    assert lab.own_head(model, [batch(relations)]) == 0.5  # the rows differ in nothing else


def test_a_gain_that_is_no_larger_would_refute_and_one_in_order_lift_the_limit():
    numbers = {
        "accuracy": [[0.6, 0.5, 0.5], [0.9, 0.5, 0.55], [0.6, 0.6, 0.9]],
        "own_head": [0.9, 0.5],
        "word_nats": [1, 1, 1],
    }
    assert verdict(lab.LAB.checks, numbers)[0] == lab.LAB.expected
    assert verdict(lab.LAB.checks, {**numbers, "accuracy": numbers["accuracy"][:1] * 3})[0] == "refuted"
    assert not verdict(lab.LAB.checks, {**numbers, "accuracy": [[0.6, 0.5, 0.5], [0.9, 0.5, 0.9]]})[1]["order"]
