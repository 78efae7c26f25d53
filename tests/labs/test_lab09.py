import pytest
import torch

from cutaway.labs.contract import verdict
from cutaway.labs.lab09_autoregressive_and_masked import LAB, fill, linear_probe, read, write
from cutaway.labs.small_corpus import DECODER, word_tokenizer
from cutaway.labs.small_language import sentences
from cutaway.models.families import make_model


@pytest.fixture(scope="module")
def numbers(quick):
    return quick(9)


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return make_model({**DECODER, "vocab_size": tokenizer.vocab_size}).eval()


def test_both_objectives_train_as_many_parameters(numbers):
    assert numbers["parameters"][0] == numbers["parameters"][1]


def test_a_probe_finds_what_is_linear_and_no_more():
    h_ND = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    assert linear_probe(h_ND, (h_ND[:, 0] > 0).long()) > 0.9
    assert 0.35 < linear_probe(h_ND, (h_ND[:, 0] * h_ND[:, 1] > 0).long()) < 0.65


def test_only_the_masked_reading_sees_what_follows(model, tokenizer):
    texts = [" today the crew boils this egg now .", " today the crew loads this boat now ."]
    for objective, same in (("causal", True), ("masked", False)):
        h_NTD, real_NT = read(model, objective, tokenizer, texts)
        assert real_NT.all()
        assert torch.allclose(h_NTD[0, 3], h_NTD[1, 3], atol=1e-6) == same


def test_writers_are_seeded_and_fill_every_place(model, tokenizer):
    some = sentences(3, seed=1)
    assert write(model, tokenizer, 3, seed=0) == write(model, tokenizer, 3, seed=0)
    assert len(set(write(model, tokenizer, 3, seed=0))) == 3
    once, swept = fill(model, tokenizer, some, seed=0)
    assert (once, swept) == fill(model, tokenizer, some, seed=0)
    assert once != swept
    assert len(once) == len(swept) == 3


def test_a_writer_that_is_no_better_would_refute(numbers):
    assert verdict(LAB.checks, {**numbers, "correct": [0.5, 0.4, 0.4]})[0] == "refuted"
