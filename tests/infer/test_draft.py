"""Speculative decoding: guesses change the number of steps and nothing else."""

import collections
import itertools

import pytest
import torch

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError
from cutaway.decode.processors import History, process
from cutaway.decode.sampling import GREEDY, Sampling
from cutaway.infer.draft import ModelDrafter, NgramDrafter, SpeculativeConfig, make_drafter
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.request import Request
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model

SHARED = list(range(40, 75))
PROMPTS = [[*SHARED, 5], [299], [*SHARED, 5, 6, 7, 8], [3, 4, 5, 6] * 5, [*SHARED, 9], [8] * 16]
DRAWN = Sampling(temperature=0.6, top_p=0.9, frequency_penalty=0.1, seed=3)
ROOMY = EngineConfig(max_batch=6)
CROWDED = EngineConfig(max_batch=4, kv_cache_tokens=96, prefill_chunk=8, max_num_batched_tokens=12)


class Right:
    """Guesses with a copy of the model itself, wrongly now and then."""

    def __init__(self, model, count=3):
        self.model, self.count, self.calls = model, count, itertools.count(1)

    @torch.inference_mode()
    def propose(self, sequences):
        return [self.guess(one.ids) for one in sequences]

    def guess(self, ids):
        written = list(ids)
        for _ in range(self.count):
            likeliest = int(self.model.logits(self.model(torch.tensor([written]))[0, -1]).argmax())
            written.append(7 if next(self.calls) % 5 == 0 else likeliest)
        return written[len(ids) :]


def drafters(model):
    torch.manual_seed(2)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    other = make_model({"model_type": "llama", "vocab_size": 300, "max_position_embeddings": 64, **shape}).eval()
    return {
        "ngram": NgramDrafter(4, 4, 1),
        "right": Right(model),
        "the model itself": ModelDrafter(model, 4, 6, 96),
        "another model": ModelDrafter(other, 3, 6, 96),
    }


@pytest.mark.parametrize("config", [ROOMY, CROWDED], ids=["roomy", "crowded"])
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("drafter", ["ngram", "right", "the model itself", "another model"])
def test_the_reply_is_that_of_the_model_alone(loaded, drafter, sampling, config):
    def asked():
        several = Request(PROMPTS[0], sampling, 20, n=3, logprobs=1)
        return [several, *(Request(prompt, sampling, 30, logprobs=1, ignore_end=True) for prompt in PROMPTS)]

    plain = Engine(loaded).run(asked())
    found = Engine(loaded, config, drafter=drafters(loaded.model)[drafter]).run(asked())
    assert [one.ids for one in found] == [one.ids for one in plain]
    assert [one.text for one in found] == [one.text for one in plain]
    assert [one.finish_reason for one in found] == [one.finish_reason for one in plain]
    for ours, theirs in zip(found, plain, strict=True):
        expected = [one.logprob for one in theirs.logprobs]
        assert [one.logprob for one in ours.logprobs] == pytest.approx(expected, abs=1e-4)


def test_right_guesses_save_steps(loaded):
    engine = Engine(loaded, ROOMY, drafter=ModelDrafter(loaded.model, 4, 6, 96))
    engine.add(Request([5, 6, 7], GREEDY, 21, ignore_end=True))
    steps = []
    while not engine.idle:
        steps.append(len(engine.step()))
    assert steps == [1, 5, 5, 5, 5]


def test_the_distribution_is_the_models(loaded):
    """Of three tokens, whatever is guessed, against the product of the model's own probabilities."""
    sampling, prompt, count = Sampling(top_k=3, temperature=0.7), [5, 6, 7], 3000
    engine = Engine(loaded, EngineConfig(max_batch=100, context=16), drafter=ModelDrafter(loaded.model, 2, 100, 16))
    asked = [Request(prompt, sampling.model_copy(update={"seed": seed}), 3, ignore_end=True) for seed in range(count)]
    found = collections.Counter(tuple(one.ids) for one in engine.run(asked))
    chi_squared, expected = 0.0, {(): 1.0}
    for _ in range(3):
        expected = {
            (*ids, token): p * q
            for ids, p in expected.items()
            for token, q in enumerate(next_token(loaded.model, [*prompt, *ids], sampling))
            if q > 0
        }
    assert set(found) <= set(expected)
    likely = {ids: p for ids, p in expected.items() if p * count >= 5}
    chi_squared = sum((found[ids] - p * count) ** 2 / (p * count) for ids, p in likely.items())
    assert len(likely) > 10
    assert chi_squared < len(likely) + 4 * (2 * len(likely)) ** 0.5


@torch.inference_mode()
def next_token(model, ids, sampling):
    logits_V = model.logits(model(torch.tensor([ids]))[0, -1])
    return process(logits_V, sampling, History(ids, [])).softmax(-1).tolist()


@pytest.mark.parametrize(
    ("ids", "guess"),
    [
        ([1, 2, 3, 4, 5, 1, 2], [3, 4, 5]),
        ([1, 2, 3, 1, 2, 4, 9, 1, 2], [4, 9, 1]),  # the later one
        ([7, 1, 2, 3, 1, 2, 4, 7, 1, 2], [3, 1, 2]),  # the longer one
        ([5, 5, 5], [5]),
        ([1, 2, 3], []),
        ([1], []),
    ],
)
def test_what_followed_before_is_guessed(ids, guess):
    assert NgramDrafter(3, 3, 2).guess(ids) == guess


def test_settings(loaded, tmp_path):
    assert isinstance(Engine(loaded, EngineConfig(speculative=SpeculativeConfig()))._drafter, NgramDrafter)
    for values in ({"method": "draft_model"}, {"model": "x"}, {"prompt_lookup_min": 9}):
        with pytest.raises(ConfigError):
            make_config(SpeculativeConfig, values)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "same")
    config = SpeculativeConfig(method="draft_model", model=str(tmp_path / "same"))
    engine = Engine(loaded, EngineConfig(speculative=config))
    (found,) = engine.generate([[5, 6, 7]], GREEDY, 9, ignore_end=True)
    assert found.ids == Engine(loaded).generate([[5, 6, 7]], GREEDY, 9, ignore_end=True)[0].ids
    other = make_model({"model_type": "gpt2", "vocab_size": 301, "n_embd": 32, "n_layer": 1, "n_head": 4})
    with pytest.raises(ConfigError, match="has 300 tokens and the model 301"):
        make_drafter(config, other, 1, 32)
