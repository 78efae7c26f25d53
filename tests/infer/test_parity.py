"""Greedy and beam output equal to transformers' token for token, on random models and on the real one."""

import pytest
import torch
from transformers import LlamaForCausalLM

from cutaway.decode.beam import Beam
from cutaway.decode.sampling import GREEDY
from cutaway.infer.beam import beam_decode
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.models.huggingface import save_model
from cutaway.models.load import load

PROMPTS = [[5, 17, 250], [40, 41, 42, 43, 44, 45, 46], [299]]


def their_beams(model, prompt, beam, max_tokens, end_id):
    ids = torch.tensor([prompt])
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        num_beams=beam.width,
        num_return_sequences=beam.n_best,
        length_penalty=beam.length_penalty,
        early_stopping=beam.early_stopping,
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=end_id,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    rows = [row[len(prompt) :].tolist() for row in found.sequences]
    return [_up_to_end(row, end_id) for row in rows], found.sequences_scores.tolist()


def _up_to_end(row, end_id):
    return row[: row.index(end_id) + 1] if end_id in row else row


def test_greedy_batch_equals_transformers_one_by_one(loaded, theirs):
    found = Engine(loaded, EngineConfig(max_batch=2)).generate(PROMPTS, GREEDY, 24)
    for prompt, completion in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        assert completion.ids == _up_to_end(expected[0, len(prompt) :].tolist(), 0)


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize(("width", "n_best"), [(2, 1), (4, 4), (5, 3)])
def test_beams_equal_transformers(loaded, theirs, width, n_best, length_penalty, early_stopping):
    beam = Beam(width=width, n_best=n_best, length_penalty=length_penalty, early_stopping=early_stopping)
    # An end token that is likely now and then: the stopping rules decide.
    ended = 0
    for prompt in PROMPTS:
        with torch.no_grad():
            end_id = int(theirs(torch.tensor([prompt])).logits[0, -1].topk(9).indices[-1])
        expected, scores = their_beams(theirs, prompt, beam, 20, end_id)
        found = beam_decode(loaded.model, [prompt], beam, [end_id], 20)[0]
        assert [one.ids for one in found] == expected
        assert [one.score for one in found] == pytest.approx(scores, rel=1e-5)
        ended += any(end_id in ids for ids in expected)
    assert ended or length_penalty > 0


def test_beams_of_a_batch_equal_single(loaded):
    beam = Beam(width=3, n_best=2)
    batch = beam_decode(loaded.model, PROMPTS, beam, [7], 12)
    for prompt, found in zip(PROMPTS, batch, strict=True):
        alone = beam_decode(loaded.model, [prompt], beam, [7], 12)[0]
        assert [one.ids for one in found] == [one.ids for one in alone]


@pytest.mark.slow
def test_the_real_model_equals_transformers(smollm2, tmp_path):
    loaded = load(smollm2, dtype="float32")
    save_model(loaded.model, None, tmp_path / "hf")
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    ids = loaded.tokenizer.encode("The ship left the harbour and")
    end_id = loaded.tokenizer.eos_id
    found = Engine(loaded, EngineConfig(max_batch=1)).generate([ids], GREEDY, 32)[0]
    row = torch.tensor([ids])
    expected = theirs.generate(
        row, attention_mask=torch.ones_like(row), max_new_tokens=32, do_sample=False, eos_token_id=end_id
    )
    assert found.ids == _up_to_end(expected[0, len(ids) :].tolist(), end_id)
    beam = Beam(width=4, n_best=2)
    sequences, scores = their_beams(theirs, ids, beam, 24, end_id)
    ours = beam_decode(loaded.model, [ids], beam, [end_id], 24)[0]
    assert [one.ids for one in ours] == sequences
    assert [one.score for one in ours] == pytest.approx(scores, rel=1e-5)
