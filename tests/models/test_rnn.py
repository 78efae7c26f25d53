"""The recurrent encoder-decoder: its two ways of running agree, padding changes nothing, attention is the published one."""

import pytest
import torch

from cutaway.core.config import make_config
from cutaway.core.errors import CheckpointError, ConfigError
from cutaway.decode.beam import Beam
from cutaway.infer.translate import translate
from cutaway.lens.hooks import capture, module_names
from cutaway.models.encoder_decoder import MemoryCache
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, save_model
from cutaway.models.rnn import RNNConfig, RNNSeq2Seq
from cutaway.nn.attention import Attend

CELLS, SCORES = ("gru", "lstm"), ("none", "additive", "dot")
all_kinds = pytest.mark.parametrize(("cell", "score"), [(cell, score) for cell in CELLS for score in SCORES])
S, T = 6, 5


def make(cell="gru", score="additive", **other):
    torch.manual_seed(0)
    shape = dict(vocab_size=23, hidden_size=10, num_layers=2, decoder_start_token_id=1) | other
    return RNNSeq2Seq(RNNConfig(cell=cell, attention_score=score, **shape)).double().eval()


def pairs(B=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(23, (B, S), generator=generator), torch.randint(23, (B, T), generator=generator)


@all_kinds
def test_one_forward_equals_step_by_step(cell, score):
    model, (source, target) = make(cell, score), pairs()
    memory = model.encode(source)
    assert memory.shape == ((3, S, 10) if score != "none" else (3, 1, 10))
    whole = model(target, memory)
    with torch.no_grad():
        for steps in ([1] * T, [2, 3]):
            cache = model.new_cache(3, T)
            parts = [model(part, memory, cache=cache) for part in target.split(steps, 1)]
            torch.testing.assert_close(torch.cat(parts, 1), whole.detach(), rtol=1e-12, atol=1e-12)
    assert model.logits(whole).shape == (3, T, 23)


@all_kinds
def test_a_row_in_a_padded_batch_equals_the_row_alone(cell, score):
    model, (source, target) = make(cell, score), pairs()
    lengths = torch.tensor([4, 6, 1])
    real = torch.arange(S) < lengths[:, None]
    memory = model.encode(source.where(real, 7), mask_BS=real)
    batched = model(target, memory, memory_mask_BS=real)
    for row, length in enumerate(lengths.tolist()):
        alone = model(target[[row]], model.encode(source[[row], :length]))
        torch.testing.assert_close(batched[[row]], alone, rtol=1e-12, atol=1e-12)


@all_kinds
def test_rows_of_the_cache_move_with_the_beams(cell, score):
    model, (source, target) = make(cell, score), pairs()
    memory = model.encode(source)
    rows = [2, 0, 0]
    with torch.no_grad():
        cache = model.new_cache(3, T)
        model(target[:, :3], memory, cache=cache)
        cache.select(rows)
        moved = model(target[rows, 3:], memory[rows], cache=cache)
        torch.testing.assert_close(moved, model(target[rows], memory[rows])[:, 3:], rtol=1e-12, atol=1e-12)


@all_kinds
def test_a_view_of_some_rows_of_the_cache_has_their_state(cell, score):
    model, (source, target) = make(cell, score), pairs()
    memory = model.encode(source)
    with torch.no_grad():
        cache = model.new_cache(3, T)
        model(target[:, :3], memory, cache=cache)
        view = MemoryCache(cache.own.rows(1, 3))
        went_on = model(target[1:, 3:], memory[1:], cache=view)
        torch.testing.assert_close(went_on, model(target, memory)[1:, 3:], rtol=1e-12, atol=1e-12)
    assert cache.own.lengths.tolist() == [3, T, T]


@all_kinds
def test_beam_search_in_a_batch_equals_beam_search_alone(cell, score):
    model, sources = make(cell, score), [[3, 4, 5, 6, 7, 8], [9], [10, 11, 12]]
    together = translate(model, sources, Beam(width=3), {2}, 1, T)
    alone = [translate(model, [source], Beam(width=3), {2}, 1, T)[0] for source in sources]
    assert [[found.ids for found in row] for row in together] == [[found.ids for found in row] for row in alone]


@all_kinds
def test_gradients_reach_every_weight_and_every_source_position(cell, score):
    model, (source, target) = make(cell, score), pairs()
    given = []
    model.shared.register_forward_hook(lambda _, __, output: given.append(output))
    loss = model.logits(model(target, model.encode(source))).square().sum()
    assert all(
        (gradient != 0).any() for gradient in torch.autograd.grad(loss, [*model.parameters()], retain_graph=True)
    )
    assert (torch.autograd.grad(loss, given[0])[0] != 0).any(-1).all()


def test_the_target_is_read_from_left_to_right():
    model, (source, target) = make(), pairs()
    memory, changed = model.encode(source), target.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 23
    before, after = model(target, memory), model(changed, memory)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).any(-1).all()


def test_without_attention_the_decoder_sees_the_final_state_only():
    model, source = make(score="none"), pairs()[0]
    final_BD = model.encode(source)[:, 0]
    _, h_2BK = model.encoder.layers[1](model.encoder.layers[0](model.shared(source))[0])
    torch.testing.assert_close(final_BD, torch.cat([h_2BK[0], h_2BK[1]], -1))
    assert module_names(model, Attend) == []


@pytest.mark.parametrize("score", ["additive", "dot"])
def test_attention_is_that_of_the_papers(score):
    model, (source, target) = make(score=score), pairs(1)
    memory_SD = model.encode(source)[0]
    with capture(model, ["decoder.layers.1", "decoder.look.attend"]) as calls:
        out_TD = model(target, memory_SD[None])[0]
    h_TD, look = calls["decoder.layers.1"].output[0][0], model.decoder.look
    q, k, _, mask = calls["decoder.look.attend"].inputs
    for t in range(T):
        if score == "dot":
            scores = torch.stack([h_TD[t] @ m for m in memory_SD])
        else:
            W, U, v = look.query.weight, look.key.weight, look.attend.v.weight[0]
            scores = torch.stack([v @ torch.tanh(W @ h_TD[t] + U @ m) for m in memory_SD])
        weights = scores.softmax(0)
        torch.testing.assert_close(look.attend.weights(q, k, mask)[0, 0, t], weights)
        context = sum(w * m for w, m in zip(weights, memory_SD, strict=True))
        expected = torch.tanh(look.combine.weight @ torch.cat([context, h_TD[t]]))
        torch.testing.assert_close(out_TD[t], expected)


@pytest.mark.parametrize("tied", [True, False])
@all_kinds
def test_saved_equals_loaded(cell, score, tied, tmp_path):
    torch.manual_seed(2)
    model = make_model(
        {
            "model_type": "rnn_seq2seq",
            "vocab_size": 23,
            "hidden_size": 8,
            "cell": cell,
            "attention_score": score,
            "tie_word_embeddings": tied,
        }
    ).eval()
    save_model(model, None, tmp_path / "model")
    loaded = load_model(tmp_path / "model", torch.float32, torch.device("cpu"))
    assert loaded.config == model.config
    assert (loaded.lm_head.weight is loaded.embedding.weight) is tied
    source, target = pairs()
    assert torch.equal(loaded(target, loaded.encode(source)), model(target, model.encode(source)))


def test_learns_to_reverse():
    """What only attention does easily: the first word out is the last word in."""
    torch.manual_seed(0)
    model = RNNSeq2Seq(RNNConfig(vocab_size=12, hidden_size=32, num_layers=1))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        source = torch.randint(1, 12, (32, 5))
        target = torch.cat([torch.zeros(32, 1, dtype=torch.int64), source.flip(1)], 1)
        logits = model.logits(model(target[:, :-1], model.encode(source)))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3


@pytest.mark.parametrize(
    "shape", [{"hidden_size": 7}, {"cell": "rnn"}, {"attention_score": "cosine"}, {"num_layers": 0}, {"dropout": 1.0}]
)
def test_a_bad_setting_is_named(shape):
    with pytest.raises(ConfigError, match=next(iter(shape))):
        make_config(RNNConfig, shape)


def test_a_checkpoint_that_does_not_fit_names_its_tensors(tmp_path):
    save_model(make().float(), None, tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"additive"', '"dot"'))
    with pytest.raises(CheckpointError, match=r"unexpected: .*decoder\.look\.key\.weight"):
        load_model(tmp_path / "model", torch.float32, torch.device("cpu"))
