"""Lab 19: its source of texts and its measures."""

import pytest
import torch

from cutaway.labs import lab19_generative_discriminative as lab
from cutaway.labs.class_texts import PHRASE
from cutaway.loss.language_modelling import IGNORED


@pytest.mark.parametrize("phrases", [0, 2])
def test_texts_are_of_words_and_whole_phrases(phrases):
    text_BT, label_B = lab.make_source(phrases, seed=0).texts(40, seed=1)
    assert text_BT.shape == (40, lab.T)
    assert label_B.bincount().tolist() == [10] * lab.C
    assert ((text_BT >= lab.WORDS).sum(-1) == PHRASE * phrases).all()
    for text in text_BT.tolist():
        begins = [i for i, token in enumerate(text) if token >= lab.WORDS and (token - lab.WORDS) % PHRASE == 0]
        assert len(begins) == phrases
        assert all(text[i : i + PHRASE] == list(range(text[i], text[i] + PHRASE)) for i in begins)


def test_the_same_seed_gives_the_same_texts():
    source = lab.make_source(1, seed=0)
    assert torch.equal(source.texts(8, seed=3)[0], source.texts(8, seed=3)[0])
    assert not torch.equal(source.texts(8, seed=3)[0], source.texts(8, seed=4)[0])


def test_sequences_begin_with_the_class_and_predict_the_whole_text():
    text_BT = torch.arange(2 * lab.T).view(2, lab.T) % lab.WORDS
    batch = lab.as_sequences(text_BT, torch.tensor([3, 0]))
    assert batch.ids_BT[:, 0].tolist() == [lab.V + 3, lab.V]
    assert torch.equal(batch.targets_BT, text_BT)
    assert (batch.targets_BT != IGNORED).all()


def test_likelihood_under_the_generator_is_that_of_its_logits():
    text_BT, label_B = lab.make_source(0, seed=0).texts(6, seed=0)
    model = lab.trained_generator((text_BT, label_B), steps=1, seed=0)
    found_BC = lab.class_log_likelihood(model, text_BT)
    ids = torch.cat([torch.full((6, 1), lab.V + 2), text_BT], 1)
    log_BTV = model.logits(model(ids[:, :-1])).log_softmax(-1)
    expected_B = log_BTV.gather(-1, text_BT[..., None])[..., 0].sum(-1)
    torch.testing.assert_close(found_BC[:, 2], expected_B)


def test_one_text_per_class_is_learned_by_heart():
    labelled = lab.make_source(0, seed=0).texts(lab.C, seed=0)
    head = lab.trained_head(labelled, steps=30, seed=0)
    assert lab.error(head.label_logits(labelled[0]), labelled[1]) == 0
    model = lab.trained_generator(labelled, steps=60, seed=0)
    assert lab.error(lab.class_log_likelihood(model, labelled[0]), labelled[1]) == 0
    assert lab.naive_bayes(labelled, labelled) == lab.logistic_regression(labelled, labelled) == 0


def test_written_texts_are_words():
    labelled = lab.make_source(0, seed=0).texts(8, seed=0)
    text_BT, label_B = lab.write(lab.trained_generator(labelled, steps=1, seed=0), seed=0)
    assert text_BT.shape == (lab.C * lab.WRITTEN, lab.T)
    assert text_BT.max() < lab.WORDS
    assert label_B.bincount().tolist() == [lab.WRITTEN] * lab.C
