"""The original Transformer: what holds by its construction. Its numbers are held against torch's layers in tests/parity."""

import pytest
import torch
from torch import nn

from cutaway.core.errors import CheckpointError, ConfigError
from cutaway.models.families import make_model
from cutaway.models.huggingface import load_model, model_config, save_model
from cutaway.models.transformer import Transformer, TransformerConfig

V = 53
SMALL = dict(
    vocab_size=V,
    hidden_size=24,
    intermediate_size=38,
    num_encoder_layers=2,
    num_decoder_layers=3,
    num_attention_heads=3,
    max_position_embeddings=40,
)
CASES = {
    "the paper's": {},
    "pre-norm": dict(norm="pre"),
    "GELU": dict(hidden_act="gelu", layer_norm_eps=1e-3),
    "learned positions": dict(positions="learned", norm="pre"),
    "two vocabularies": dict(source_vocab_size=31, tie_word_embeddings=False),
}


def fresh(**over) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{**SMALL, **over})).eval()
    for parameter in model.parameters():  # biases and norms too
        nn.init.normal_(parameter, mean=0.02, std=0.2)
    return model


def padded(lengths, high=31):
    torch.manual_seed(1)
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randint(1, high, real.shape) * real, real


@torch.no_grad()
def test_what_enters_the_first_block():
    """√D times the embedding, plus the encoding of the position."""
    model = fresh()
    placed = model.encoder.placed(model.embedding(torch.tensor([[7, 7]])), torch.arange(2)[None])[0]
    scaled = model.embedding.weight[7] * 24**0.5
    torch.testing.assert_close(placed[0], scaled + torch.tensor([0.0, 1.0] * 12))
    assert (placed[1, :2] - scaled[:2]).tolist() == pytest.approx([0.841471, 0.540302], abs=1e-5)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_cached_equals_uncached(case):
    model = fresh(**CASES[case])
    source, real = padded((12, 7, 9))
    target = torch.randint(V, (3, 14))
    memory = model.encode(source, mask_BS=real)
    whole = model(target, memory, memory_mask_BS=real)
    cache = model.new_cache(3, 14)
    pieces = [model(part, memory, memory_mask_BS=real, cache=cache) for part in target.split([5, 1, 1, 4, 3], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_select_reorders_source_and_target():
    model = fresh()
    source, real = padded((12, 7, 9))
    target = torch.randint(V, (3, 6))
    memory = model.encode(source, mask_BS=real)
    cache = model.new_cache(3, 6)
    model(target[:, :5], memory, memory_mask_BS=real, cache=cache)
    rows = [2, 2, 0]
    cache.select(rows)
    found = model(target[rows, 5:], memory[rows], memory_mask_BS=real[rows], cache=cache)
    expected = model(target[rows], memory[rows], memory_mask_BS=real[rows])[:, 5:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_target_sees_only_its_past_and_the_source_all():
    model = fresh()
    source, _ = padded((8,))
    target = torch.randint(1, V, (1, 10))
    changed = target.clone()
    changed[0, 6] = 0
    memory = model.encode(source)
    before, after = model(target, memory), model(changed, memory)
    assert before[0, :6].equal(after[0, :6])
    assert not before[0, 6:].isclose(after[0, 6:]).all(-1).any()
    other = source.clone()
    other[0, 7] = 0
    assert not model.encode(other).isclose(memory).all(-1).any(), "the encoder sees both sides"


@pytest.mark.parametrize("case", CASES)
def test_a_folder_comes_back_equal(case, tmp_path):
    model = fresh(**CASES[case])
    save_model(model, None, tmp_path / "saved")
    again = load_model(tmp_path / "saved", torch.float32, torch.device("cpu"))
    assert again.config == model.config
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(map(torch.equal, model.parameters(), again.parameters()))
    assert (again.lm_head.weight is again.embedding.weight) == model.config.tie_word_embeddings


def test_a_fresh_model_starts_at_unit_scale():
    """Inputs, and logits of a tied head, have a spread near one, whatever the width."""
    torch.manual_seed(0)
    model = make_model({**SMALL, "model_type": "transformer", "hidden_size": 192, "vocab_size": 500})
    x = model.embedding.weight * 192**0.5
    assert x.std().item() == pytest.approx(1, rel=0.05)
    source = torch.randint(500, (4, 12))
    logits = model.logits(model(source, model.encode(source)))
    assert logits.std().item() == pytest.approx(1, rel=0.2)


def test_dropout_is_off_in_evaluation_and_on_in_training():
    model = fresh(dropout=0.5)
    source, _ = padded((8,))
    assert model.encode(source).equal(model.encode(source))
    model.train()
    assert not model.encode(source).equal(model.encode(source))


def test_what_cannot_be_is_refused_by_name():
    with pytest.raises(ConfigError, match="hidden_size 24 is not a multiple of num_attention_heads 5"):
        make_model({**SMALL, "model_type": "transformer", "num_attention_heads": 5})
    with pytest.raises(ConfigError, match="decoder_start_token_id 53 is outside the vocabulary of 53"):
        make_model({**SMALL, "model_type": "transformer", "decoder_start_token_id": V})
    for kind, field in (
        ("t5", "decoder_start_token_id"),
        ("rnn_seq2seq", "decoder_start_token_id"),
        ("text_vae", "decoder_start_token_id"),
        ("text_vae", "unk_token_id"),
    ):
        for id in (-1, V):
            with pytest.raises(ConfigError, match=field):
                make_model({"model_type": kind, "vocab_size": V, field: id})
    with pytest.raises(CheckpointError, match="positions"):
        model_config({**SMALL, "model_type": "transformer", "positions": "rotary"})
