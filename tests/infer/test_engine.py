"""The engine's promises: batched equals single, chunked equals whole, streamed equals whole, and one failure stays one."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from cutaway.core.errors import ContextLengthError, RequestError, ResourceError
from cutaway.decode.sampling import GREEDY, Sampling
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.request import Request

PROMPTS = [[5, 17, 250], list(range(40, 60)), [299], [8, 9]]
DRAWN = Sampling(temperature=0.8, top_p=0.95, seed=3)


def run(engine: Engine, *requests: Request) -> dict[str, list]:
    for request in requests:
        engine.add(request)
    outputs: dict[str, list] = {request.id: [] for request in requests}
    while not engine.idle:
        for output in engine.step():
            outputs[output.request_id].append(output)
    return outputs


def uncached_greedy(model, prompt, n):
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(n):
            ids.append(int(model.logits(model(torch.tensor([ids]))[0, -1]).argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_batched_equals_single(loaded, sampling):
    together = Engine(loaded, EngineConfig(max_batch=3)).generate(PROMPTS, sampling, 20, ignore_end=True)
    for prompt, completion in zip(PROMPTS, together, strict=True):
        alone = Engine(loaded, EngineConfig(max_batch=1)).generate([prompt], sampling, 20, ignore_end=True)[0]
        assert completion.ids == alone.ids


def test_cached_equals_uncached(loaded):
    found = Engine(loaded).generate(PROMPTS, GREEDY, 15, ignore_end=True)
    assert [one.ids for one in found] == [uncached_greedy(loaded.model, prompt, 15) for prompt in PROMPTS]


@pytest.mark.parametrize("chunk", [1, 3, 7, 19])
def test_chunked_prefill_equals_whole(loaded, chunk):
    prompt = list(range(40, 60))
    whole = Engine(loaded).generate([prompt], GREEDY, 10, logprobs=1)[0]
    chunked = Engine(loaded, EngineConfig(prefill_chunk=chunk)).generate([prompt], GREEDY, 10, logprobs=1)[0]
    assert chunked.ids == whole.ids
    assert [one.logprob for one in chunked.logprobs] == pytest.approx([one.logprob for one in whole.logprobs], abs=1e-4)


def test_streamed_text_equals_the_whole_decoded(loaded):
    for completion in Engine(loaded).generate(PROMPTS, DRAWN, 30, ignore_end=True):
        assert completion.text == loaded.tokenizer.decode(completion.ids)


def test_a_freed_row_is_used_again_without_traces(loaded):
    engine = Engine(loaded, EngineConfig(max_batch=2))
    requests = [Request(PROMPTS[i % 4], GREEDY, 3 + i, ignore_end=True) for i in range(9)]
    outputs = run(engine, *requests)
    for i, request in enumerate(requests):
        ids = [output.token_id for output in outputs[request.id]]
        assert ids == uncached_greedy(loaded.model, PROMPTS[i % 4], 3 + i)
        assert [output.finish_reason for output in outputs[request.id]] == [None] * (2 + i) + ["length"]
    assert engine.cached_tokens == 0


def test_cancelled_requests_leave_the_others_alone(loaded):
    engine = Engine(loaded, EngineConfig(max_batch=2))
    first, second, third = (Request(prompt, GREEDY, 10, ignore_end=True) for prompt in PROMPTS[:3])
    for request in (first, second, third):
        engine.add(request)
    engine.step()
    assert engine.cancel(first.id)  # runs
    assert not engine.cancel(first.id)
    assert not engine.cancel("nobody")
    ids = []
    while not engine.idle:
        ids += [output.token_id for output in engine.step() if output.request_id == third.id]
    assert ids == uncached_greedy(loaded.model, PROMPTS[2], 10)


def test_a_waiting_request_can_be_cancelled(loaded):
    engine = Engine(loaded, EngineConfig(max_batch=1))
    engine.add(Request(PROMPTS[0], GREEDY, 4))
    waiting = Request(PROMPTS[1], GREEDY, 4)
    engine.add(waiting)
    engine.step()
    assert (engine.running, engine.waiting) == (1, 1)
    assert engine.cancel(waiting.id)
    assert engine.waiting == 0


def test_stop_strings_end_the_text_before_them(loaded):
    whole = Engine(loaded).generate([PROMPTS[1]], GREEDY, 30, ignore_end=True)[0].text
    stop = whole[len(whole) // 2 :][:3]
    found = Engine(loaded).generate([PROMPTS[1]], GREEDY, 30, stop=(stop,), ignore_end=True)[0]
    assert found.finish_reason == "stop"
    assert found.text == whole[: whole.index(stop)]


def test_the_end_token_stops_and_is_no_text(loaded):
    sampling = Sampling(temperature=0, logit_bias={0: 1000.0})
    found = Engine(loaded).generate([PROMPTS[0]], sampling, 5)[0]
    assert (found.ids, found.text, found.finish_reason) == ([0], "", "stop")


def test_logprobs_are_of_the_model_itself(loaded):
    sampling = Sampling(temperature=0.5, top_k=2, logit_bias={7: 3.0}, seed=1)
    found = Engine(loaded).generate([PROMPTS[0]], sampling, 4, logprobs=3, ignore_end=True)[0]
    ids = list(PROMPTS[0])
    for token, logprob in zip(found.ids, found.logprobs, strict=True):
        with torch.inference_mode():
            log_V = loaded.model.logits(loaded.model(torch.tensor([ids]))[0, -1]).log_softmax(-1)
        assert logprob.id == token
        assert logprob.logprob == pytest.approx(float(log_V[token]), abs=1e-4)
        assert [id for id, _ in logprob.top] == log_V.topk(3).indices.tolist()
        ids.append(token)


def test_logits_that_are_not_numbers_fail_one_request_only(loaded):
    """Token 7 is broken: whoever reads it fails, whoever runs beside it or gets its blocks afterwards does not notice."""
    model = copy.deepcopy(loaded.model)
    with torch.no_grad():
        model.embedding.weight[7] = math.nan
    broken = [[*range(40, 70), 7, *range(70, 90)], [7]]
    engine = Engine(replace(loaded, model=model), EngineConfig(max_batch=3, prefill_chunk=16))
    for _ in range(3):
        requests = [Request(prompt, GREEDY, 5, ignore_end=True) for prompt in (*broken, *PROMPTS)]
        outputs = run(engine, *requests)
        for request in requests[:2]:
            (output,) = outputs[request.id]
            assert output.finish_reason == "error"
            assert "not numbers" in output.error
        for request, prompt in zip(requests[2:], PROMPTS, strict=True):
            assert [output.token_id for output in outputs[request.id]] == uncached_greedy(loaded.model, prompt, 5)


def test_settings_that_leave_no_token_fail_one_request(loaded):
    sampling = Sampling(logit_bias={id: -math.inf for id in range(300)})
    with pytest.raises(RequestError, match="no token to choose"):
        Engine(loaded).generate([PROMPTS[0]], sampling, 5)


def test_a_prompt_longer_than_the_context_names_both_numbers(loaded):
    with pytest.raises(ContextLengthError, match=r"120 tokens.*96"):
        Engine(loaded).add(Request([1] * 120))
    with pytest.raises(ContextLengthError, match=r"max_tokens=50: .*90 tokens.*96.*6 are left"):
        Engine(loaded).add(Request([1] * 90, max_tokens=50))


def test_without_max_tokens_the_context_is_the_limit(loaded):
    found = Engine(loaded).generate([[1] * 90], GREEDY, None, ignore_end=True)[0]
    assert (len(found.ids), found.finish_reason) == (6, "length")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Request([]), "prompt"),
        (Request([300]), "prompt"),
        (Request([-1]), "prompt"),
        (Request([1], Sampling(logit_bias={300: 1.0})), "logit_bias"),
        (Request([1], Sampling(bad_words=((1, 400),))), "bad_words"),
        (Request([1], stop=("",)), "stop"),
        (Request([1], max_tokens=0), "max_tokens"),
    ],
)
def test_a_request_that_cannot_run_is_refused_by_field(loaded, request_, field):
    with pytest.raises(RequestError) as caught:
        Engine(loaded).add(request_)
    assert caught.value.field == field


def test_a_cache_that_does_not_fit_is_refused(loaded, monkeypatch):
    monkeypatch.setattr("cutaway.infer.engine.free_memory", lambda device: 1000)
    with pytest.raises(ResourceError, match="context"):
        Engine(loaded)


def test_a_reply_can_have_an_opening(loaded):
    """Given tokens come first, with the model's own log-probabilities, and what follows is what follows them."""
    engine, prompt, opening = Engine(loaded), [5, 6, 7], (9, 4)
    [forced] = engine.generate([prompt], GREEDY, 6, opening=opening, logprobs=0, ignore_end=True)
    [after] = engine.generate([[*prompt, *opening]], GREEDY, 4, ignore_end=True)
    assert forced.ids == [*opening, *after.ids]
    assert all(one.logprob <= 0 for one in forced.logprobs)


def test_only_decoders_run(tokenizer, tmp_path):
    from cutaway.core.errors import ConfigError
    from cutaway.models.families import make_model
    from cutaway.models.load import Loaded

    for kind in ("bert", "t5", "vit"):
        with pytest.raises(ConfigError, match=f"model='{kind}': cannot continue a text"):
            Engine(
                Loaded(
                    make_model(
                        {"model_type": kind, "hidden_size": 24, "num_attention_heads": 2}
                        if kind != "t5"
                        else {"model_type": kind}
                    ),
                    tokenizer,
                    kind,
                    tmp_path,
                )
            )
