"""Every processor against transformers' (or OpenAI's definition), the chain against the order it states."""

import math

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, RequestError
from cutaway.decode import processors as ours
from cutaway.decode.processors import History, chain, process
from cutaway.decode.sampling import Sampling

V = 53
PROMPT, GENERATED = [3, 7, 7, 20], [9, 3, 9]


def logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(V, generator=torch.Generator().manual_seed(seed))


def reference(processor, row_V: torch.Tensor) -> torch.Tensor:
    return processor(torch.tensor([[*PROMPT, *GENERATED]]), row_V[None].clone())[0]


PAIRS = [
    (TemperatureLogitsWarper(0.7), {"temperature": 0.7}),
    (TopKLogitsWarper(5), {"top_k": 5}),
    (TopKLogitsWarper(V + 9), {"top_k": V + 9}),
    (TopPLogitsWarper(0.9), {"top_p": 0.9}),
    (TopPLogitsWarper(0.01), {"top_p": 0.01}),
    (MinPLogitsWarper(0.1), {"min_p": 0.1}),
    (TypicalLogitsWarper(0.8), {"typical_p": 0.8}),
    (TypicalLogitsWarper(0.05), {"typical_p": 0.05}),
    (RepetitionPenaltyLogitsProcessor(1.3), {"repetition_penalty": 1.3}),
    (NoBadWordsLogitsProcessor([[4], [3, 9, 11], [9, 3, 5]], eos_token_id=[]), {"bad_words": [[4], [3, 9, 11], [9, 3, 5]]}),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("theirs", "settings"), PAIRS, ids=lambda value: str(value)[:40])
def test_equal_to_transformers(theirs, settings, seed):
    row = logits(seed)
    found = process(row, Sampling.model_validate(settings), History(PROMPT, GENERATED))
    torch.testing.assert_close(found, reference(theirs, row))


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_chain_equals_transformers(seed):
    theirs = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.2),
            NoBadWordsLogitsProcessor([[4]], eos_token_id=[]),
            TemperatureLogitsWarper(1.3),
            TopKLogitsWarper(20),
            TopPLogitsWarper(0.95),
            MinPLogitsWarper(0.02),
            TypicalLogitsWarper(0.9),
        ]
    )
    sampling = Sampling(
        repetition_penalty=1.2, bad_words=((4,),), temperature=1.3, top_k=20, top_p=0.95, min_p=0.02, typical_p=0.9
    )
    row = logits(seed)
    torch.testing.assert_close(process(row, sampling, History(PROMPT, GENERATED)), reference(theirs, row))


def test_presence_and_frequency_count_what_was_generated_only():
    found = process(torch.zeros(V), Sampling(presence_penalty=0.5, frequency_penalty=0.25), History(PROMPT, GENERATED))
    expected = torch.zeros(V)
    expected[9], expected[3] = -(0.5 + 2 * 0.25), -(0.5 + 0.25)
    torch.testing.assert_close(found, expected)


def test_logit_bias_adds_and_forbids():
    found = process(torch.zeros(V), Sampling(logit_bias={1: 2.5, 2: -math.inf}), History([], []))
    assert (found[1], found[2], found[3]) == (2.5, -math.inf, 0)


def test_chain_is_empty_by_default_and_in_the_documented_order():
    assert chain(Sampling()) == []
    everything = Sampling(
        repetition_penalty=1.1, presence_penalty=1, logit_bias={0: 1}, bad_words=((1,),), temperature=2, top_k=5,
        top_p=0.5, min_p=0.1, typical_p=0.5,
    )  # fmt: skip
    names = [name for name, _ in chain(everything)]
    before = ["repetition_penalty", "penalties", "logit_bias", "bad_words"]
    assert names == [*before, "temperature", "top_k", "top_p", "min_p", "typical_p"]


def test_greedy_keeps_what_depends_on_the_text_and_drops_the_filters():
    names = [name for name, _ in chain(Sampling(temperature=0, top_p=0.5, repetition_penalty=1.1))]
    assert names == ["repetition_penalty"]


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p", "typical_p"])
def test_the_input_is_left_as_it_was(name):
    row = logits(0)
    kept = row.clone()
    getattr(ours, name)(row, 3 if name == "top_k" else 0.5)
    assert torch.equal(row, kept)


def test_equal_logits_keep_at_least_one_token():
    for settings in ({"top_p": 1e-6}, {"typical_p": 1e-6}, {"min_p": 1.0}, {"top_k": 1}):
        found = process(torch.zeros(V), Sampling.model_validate(settings), History([], []))
        assert torch.isfinite(found).any()


@pytest.mark.parametrize(
    "override",
    ["temperature=-1", "temperature=nan", "top_k=-1", "top_p=0", "top_p=1.5", "min_p=2", "typical_p=0",
     "repetition_penalty=0", "repetition_penalty=1e-40", "presence_penalty=1e9",
     "logit_bias={1: .nan}", "logit_bias={1: .inf}", "seed=-1", "bad_words=[[]]", "bad_words=[]x", "topp=0.5"],
)  # fmt: skip
def test_absurd_settings_are_refused_by_name(override):
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        load_config(Sampling, None, [override])


def test_a_temperature_too_low_to_divide_by_is_greedy():
    assert Sampling(temperature=1e-40) == Sampling(temperature=0)
    assert torch.isfinite(process(logits(0), Sampling(temperature=1e-6), History([], []))).all()


def test_tokens_that_do_not_exist_are_refused():
    Sampling(logit_bias={0: 1, V - 1: 1}, bad_words=((0, V - 1),)).check_ids(V)
    for field, sampling in (("logit_bias", Sampling(logit_bias={V: 1})), ("bad_words", Sampling(bad_words=((1, -1),)))):
        with pytest.raises(RequestError) as caught:
            sampling.check_ids(V)
        assert caught.value.field == field
