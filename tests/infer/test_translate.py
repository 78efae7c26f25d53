"""Targets from sources: batched as single, cached as uncached, greedy as argmax."""

import pytest
import torch

from cutaway.core.errors import ContextLengthError, RequestError
from cutaway.decode.beam import Beam, beam_search
from cutaway.infer.translate import pad, translate, write
from cutaway.models.families import make_model

V, START, ENDS = 19, 1, {2, 6, 11, 14}
SHAPES = {
    "transformer": dict(
        hidden_size=24, intermediate_size=30, num_encoder_layers=2, num_decoder_layers=2, max_position_embeddings=16
    ),
    "t5": dict(d_model=24, d_kv=5, d_ff=30, num_layers=2, num_heads=3, n_positions=16),
}
SOURCES = [[3, 4, 5, 6, 7, 8, 9], [10, 3], [4], [18, 17, 16, 15, 3, 3]]
BEAMS = [Beam(width=1), Beam(width=3, n_best=2), Beam(width=4, length_penalty=0.6, early_stopping=True)]


@pytest.fixture(params=SHAPES)
def model(request):
    """Random, with targets that differ from source to source; some end."""
    torch.manual_seed(0)
    small = {"model_type": request.param, "vocab_size": V, "tie_word_embeddings": False, **SHAPES[request.param]}
    made = make_model(small).eval()
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return made


@torch.no_grad()
def uncached(model, source, beam, max_tokens):
    """The same search, running the whole target anew at every step."""
    memory = model.encode(torch.tensor([source]))
    written = torch.full((beam.width, 1), START)

    def log_probabilities():
        h = model(written, memory.expand(len(written), -1, -1))
        return model.logits(h[:, -1]).log_softmax(-1)

    def step(tokens, rows):
        nonlocal written
        written = torch.cat((written[rows], tokens[:, None]), dim=1)
        return log_probabilities()

    return beam_search(log_probabilities()[:1], step, beam, ENDS, max_tokens)[0]


def same(found, expected):
    assert [one.ids for one in found] == [one.ids for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-4)


@pytest.mark.parametrize("beam", BEAMS, ids=lambda beam: f"width {beam.width}")
def test_cached_equals_uncached(model, beam):
    for source, found in zip(SOURCES, translate(model, SOURCES, beam, ENDS, START, 12), strict=True):
        assert len(found) == beam.n_best
        same(found, uncached(model, source, beam, 12))


@pytest.mark.parametrize("beam", BEAMS, ids=lambda beam: f"width {beam.width}")
def test_batched_equals_single(model, beam):
    together = translate(model, SOURCES, beam, ENDS, START, 12)
    for source, found in zip(SOURCES, together, strict=True):
        same(found, translate(model, [source], beam, ENDS, START, 12)[0])
    lengths = {len(found[0].ids) for found in together}
    assert min(lengths) < 12, "the test covers targets that end before others"


@torch.no_grad()
def test_width_one_is_greedy(model):
    for source in SOURCES:
        memory = model.encode(torch.tensor([source]))
        ids = [START]
        while len(ids) < 13 and ids[-1] not in ENDS:
            ids.append(int(model.logits(model(torch.tensor([ids]), memory))[0, -1].argmax()))
        assert translate(model, [source], Beam(width=1), ENDS, START, 12)[0][0].ids == ids[1:]


@torch.no_grad()
def test_a_target_may_begin_with_several_tokens(model):
    """Forced as the first token of a search, or given as the beginning: the rest is the same."""
    memory = model.encode(torch.tensor(SOURCES[:1]))
    whole = translate(model, SOURCES[:1], Beam(width=1), ENDS, START, 12)[0][0].ids
    rest = write(model, memory, None, Beam(width=1), ENDS, [START, *whole[:2]], 10)[0][0].ids
    assert [*whole[:2], *rest] == whole


def test_sources_are_padded_on_the_right():
    ids, real = pad([[5, 6], [7]])
    assert ids.tolist() == [[5, 6], [7, 0]]
    assert real.tolist() == [[True, True], [True, False]]


def test_no_sources_no_targets(model):
    assert translate(model, [], Beam(), ENDS, START, 4) == []


@pytest.mark.parametrize(
    ("sources", "max_tokens", "error", "message"),
    [
        ([[3], []], 4, RequestError, r"sources\[1\]: is empty"),
        ([[3, V]], 4, RequestError, r"sources\[0\]: holds a token id outside 0 to 18"),
        ([[3, -1]], 4, RequestError, r"sources\[0\]: holds a token id outside 0 to 18"),
        ([[3] * 17], 4, ContextLengthError, r"sources\[0\]: has 17 tokens and the model reads 16"),
        ([[3]], 17, ContextLengthError, r"max_tokens=17: must be 1 to 16"),
        ([[3]], 0, ContextLengthError, r"max_tokens=0: must be 1 to 16"),
    ],
)
def test_what_cannot_be_translated_is_named(model, sources, max_tokens, error, message):
    with pytest.raises(error, match=message):
        translate(model, sources, Beam(), ENDS, START, max_tokens)
