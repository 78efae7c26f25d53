"""What blocks may not change: the same request has the same reply alone, in a crowd, with a known prefix, and started again."""

import pytest
import torch

from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError, RequestError, ResourceError
from cutaway.decode.sampling import GREEDY, Sampling
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.request import Request
from cutaway.models.families import make_model
from cutaway.models.load import Loaded

SHARED = list(range(40, 75))
PROMPTS = [[*SHARED, 5], [299], [*SHARED, 5, 6, 7, 8], list(range(100, 117)), [*SHARED, 9], [8] * 16]
DRAWN = Sampling(temperature=0.8, top_p=0.95, repetition_penalty=1.1, seed=3)
CROWDED = EngineConfig(max_batch=4, kv_cache_tokens=96, prefill_chunk=8, max_num_batched_tokens=12)

COMPOSED = {
    "model_type": "composed",
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
FAMILIES = {
    "llama": None,
    "alibi": {**COMPOSED, "positions": "alibi"},
    "relative": {**COMPOSED, "positions": "relative"},
    "latent": {**COMPOSED, "attention": "latent"},
    "latent without rotary positions": {**COMPOSED, "attention": "latent", "positions": "learned"},
    "gpt2": {"model_type": "gpt2", "vocab_size": 300, "n_positions": 96, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "window": {
        "model_type": "mistral",
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 96,
        "sliding_window": 20,
    },
}


@pytest.fixture(params=FAMILIES, ids=str)
def family(request, loaded, tmp_path) -> Loaded:
    config = FAMILIES[request.param]
    if config is None:
        return loaded
    torch.manual_seed(1)
    model = make_model(config).eval()
    for weight in model.parameters():  # so that a token depends on those before it
        torch.nn.init.normal_(weight, std=0.3)
    return Loaded(model, loaded.tokenizer, request.param, tmp_path)


def requests(sampling, **settings):
    return [Request(prompt, sampling, 30, ignore_end=True, **settings) for prompt in PROMPTS]


def ids(completions):
    return [one.ids for one in completions]


class Watched(Engine):
    """An engine that counts how often a reply went back to those that wait."""

    preempted = 0

    def step(self):
        before = set(self._scheduler.running)
        outputs = super().step()
        self.preempted += len(before & set(self._scheduler.waiting))
        return outputs


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_alone_in_a_crowd_known_and_started_again(family, sampling):
    context = 96
    alone = [Engine(family, EngineConfig(context=context)).run([one])[0] for one in requests(sampling)]
    assert all(one.cached_tokens == 0 for one in alone)
    crowd = Watched(family, EngineConfig(**{**CROWDED.model_dump(), "context": context}))
    assert ids(crowd.run(requests(sampling))) == ids(alone)
    assert crowd.preempted > 0
    roomy = Engine(family, EngineConfig(context=context))
    assert ids(roomy.run(requests(sampling))) == ids(alone)
    again = roomy.run(requests(sampling))
    assert ids(again) == ids(alone)
    assert [one.cached_tokens for one in again] == [32, 0, 32, 16, 32, 0]
    assert (roomy.cached_tokens, crowd.cached_tokens) == (0, 0)


def test_the_reply_is_known_when_it_is_read_as_a_prompt(loaded):
    engine = Engine(loaded)
    (first,) = engine.generate([PROMPTS[0]], GREEDY, 20, ignore_end=True)
    asked = [*PROMPTS[0], *first.ids, 7]
    (second,) = engine.generate([asked], GREEDY, 5, ignore_end=True)
    assert second.cached_tokens == (len(asked) - 2) // 16 * 16, "the last token of a reply was never computed"
    assert second.ids == Engine(loaded).generate([asked], GREEDY, 5, ignore_end=True)[0].ids


def test_requests_with_different_salts_share_nothing(loaded):
    engine = Engine(loaded)
    found = [engine.run([Request(SHARED, GREEDY, 3, cache_salt=salt)])[0].cached_tokens for salt in ("", "a", "a", "")]
    assert found == [0, 0, 32, 32]


def test_beginnings_can_be_read_anew(loaded):
    engine = Engine(loaded, EngineConfig(enable_prefix_caching=False))
    assert [engine.generate([SHARED], GREEDY, 3)[0].cached_tokens for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("config", [EngineConfig(max_batch=8), EngineConfig(max_batch=2), CROWDED], ids=str)
def test_n_replies_are_those_of_the_seeds_counted_on(loaded, config):
    prompt = PROMPTS[0]
    single = [Request(prompt, DRAWN.model_copy(update={"seed": 3 + i}), 25, ignore_end=True) for i in range(4)]
    expected = [Engine(loaded).run([one])[0] for one in single]
    engine = Engine(loaded, config)
    found = engine.run([Request(prompt, DRAWN, 25, ignore_end=True, n=4), *requests(DRAWN)])
    assert ids(found[:4]) == ids(expected)
    assert len({tuple(one.ids) for one in found[:4]}) == 4
    assert [one.text for one in found[:4]] == [one.text for one in expected]


def test_replies_of_one_request_share_its_blocks(loaded):
    engine = Engine(loaded)
    engine.add(Request(list(range(40, 80)), DRAWN, 4, ignore_end=True, n=5))
    outputs = engine.step()
    assert [output.index for output in outputs] == list(range(5))
    assert (engine.running, engine.cached_tokens) == (5, 48)
    engine.step()
    assert engine.cached_tokens == 32 + 5 * 16


def test_all_replies_of_a_request_are_cancelled_together(loaded):
    engine = Engine(loaded, EngineConfig(max_batch=3))
    request = Request(PROMPTS[0], DRAWN, 20, n=5)
    engine.add(request)
    engine.step()
    assert (engine.running, engine.waiting) == (3, 2)
    assert engine.cancel(request.id)
    assert engine.idle
    assert engine.cached_tokens == 0


@pytest.mark.parametrize("config", [EngineConfig(), CROWDED], ids=["roomy", "crowded"])
def test_log_probabilities_of_the_prompt(loaded, config):
    engine = Engine(loaded, config)
    engine.run(requests(GREEDY))
    for prompt, found in zip(PROMPTS, engine.run(requests(GREEDY, prompt_logprobs=2)), strict=True):
        with torch.inference_mode():
            log_TV = loaded.model.logits(loaded.model(torch.tensor([prompt])))[0].float().log_softmax(-1)
        assert found.prompt_logprobs[0] is None
        assert len(found.prompt_logprobs) == len(prompt)
        for ours, id, log_V in zip(found.prompt_logprobs[1:], prompt[1:], log_TV[:-1], strict=True):
            assert ours.id == id
            assert ours.logprob == pytest.approx(log_V[id].item(), abs=1e-4)
            assert [id for id, _ in ours.top] == log_V.topk(2).indices.tolist()
    (without,) = engine.generate([[1]], GREEDY, 1)
    assert without.prompt_logprobs is None


def test_a_long_prompt_does_not_hold_up_those_that_write(loaded):
    engine = Engine(loaded, EngineConfig(max_batch=2, max_num_batched_tokens=9))
    writing, long = Request([5], GREEDY, 30, ignore_end=True), Request(list(range(80)), GREEDY, 2, ignore_end=True)
    engine.add(writing)
    engine.step()
    engine.add(long)
    steps = [[output.request_id for output in engine.step()] for _ in range(10)]
    assert steps == [[writing.id]] * 9 + [[writing.id, long.id]]


def test_a_better_priority_goes_first(loaded):
    engine = Engine(loaded, EngineConfig(max_batch=1))
    late, soon = Request([5], GREEDY, 2, priority=1), Request([6], GREEDY, 2)
    engine.add(late)
    engine.add(soon)
    assert [output.request_id for output in engine.step()] == [soon.id]


def test_media_are_part_of_what_is_shared(tokenizer, tmp_path):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = make_model({"model_type": "omni", "vocab_size": 300, "max_position_embeddings": 96, **shape}).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    loaded, prompt = Loaded(model, tokenizer, "omni", tmp_path), [*[1] * 20, *range(40, 60)]
    places = torch.arange(40) % model.config.media.patches
    widest = max(model.config.media.patch_width, model.config.media.sound_width)
    pictures = [torch.randn(40, widest, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    asked = [
        Request(prompt, GREEDY, 40, ignore_end=True, inputs={"features_BTF": pictures[n], "places_BT": places})
        for n in (0, 1, 0)
    ]
    alone = [Engine(loaded).run([one])[0] for one in asked]
    assert alone[0].ids == alone[2].ids != alone[1].ids
    engine = Engine(loaded)
    found = [engine.run([one])[0] for one in asked]
    assert ids(found) == ids(alone)
    assert [one.cached_tokens for one in found] == [0, 0, 32]
    crowd = Watched(loaded, EngineConfig(max_batch=3, kv_cache_tokens=112, prefill_chunk=24))
    assert ids(crowd.run(asked)) == ids(alone)
    assert crowd.preempted > 0


def test_a_cache_of_a_given_size(loaded):
    assert Engine(loaded, EngineConfig(kv_cache_tokens=100)).cache_size == 112
    assert Engine(loaded, EngineConfig(max_batch=3, context=20)).cache_size == 3 * 32
    with pytest.raises(ResourceError, match="kv_cache_tokens=80: one request may have 96 tokens"):
        Engine(loaded, EngineConfig(kv_cache_tokens=80))
    with pytest.raises(ResourceError, match="free for it"):
        Engine(loaded, EngineConfig(kv_cache_tokens=2**50))


def test_little_memory_makes_the_cache_smaller(loaded, monkeypatch):
    per_block = 2 * 3 * 2 * 8 * 16 * 4
    monkeypatch.setattr("cutaway.infer.engine.free_memory", lambda device: 10 * per_block)
    assert Engine(loaded).cache_size == 9 * 16


def test_the_budget_must_give_everybody_a_token():
    with pytest.raises(ConfigError, match="max_num_batched_tokens 4 is less than max_batch"):
        make_config(EngineConfig, {"max_batch": 5, "max_num_batched_tokens": 4})


def test_no_replies_cannot_be_asked_for(loaded):
    with pytest.raises(RequestError) as caught:
        Engine(loaded).add(Request([1], n=0))
    assert caught.value.field == "n"
