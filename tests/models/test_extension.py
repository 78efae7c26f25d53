"""Models past their training length: what each way changes, and what attention then sees."""

from itertools import pairwise

import pytest
import torch

from cutaway.core.errors import ConfigError
from cutaway.models.extension import Extension, extend, extended, read_extension
from cutaway.models.families import make_model
from cutaway.models.huggingface import model_config
from cutaway.models.llama_config import LlamaConfig, config_to_hf
from cutaway.nn.rope import rope_frequencies

TRAINED = 16
SHAPE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": TRAINED,
    "initializer_range": 0.3,
}
KINDS = ("linear", "ntk", "dynamic", "yarn", "llama3", "sinks")


def small(by: Extension | None = None, **more):
    torch.manual_seed(0)
    model = make_model({**SHAPE, **more}).eval()
    if by:
        extend(model, by)
    return model


@pytest.fixture(scope="module")
def ids():
    return torch.randint(50, (2, 60), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_the_context_grows_and_backends_agree(kind, ids):
    by = Extension(kind=kind, factor=4)
    fused, reference = small(by), small(by, attention="reference")
    assert fused.context == 4 * TRAINED
    torch.testing.assert_close(fused(ids), reference(ids), atol=2e-5, rtol=0)
    assert not torch.allclose(fused(ids), small()(ids), atol=1e-2)


@pytest.mark.parametrize("kind", ["linear", "ntk", "yarn", "llama3", "sinks"])
@torch.inference_mode()
def test_a_cache_changes_nothing(kind, ids):
    model = small(Extension(kind=kind, factor=4))
    cache = model.new_cache(2, 64)
    cuts = [0, 7, 40, *range(41, 61)]
    parts = [model(ids[:, a:b], cache=cache) for a, b in pairwise(cuts)]
    torch.testing.assert_close(torch.cat(parts, 1), model(ids), atol=3e-5, rtol=0)


@torch.inference_mode()
def test_sinks_in_rows_of_different_lengths(ids):
    model = small(Extension(kind="sinks", factor=4, window=5, sinks=2))
    cache = model.new_cache(2, 64)
    for row, length in enumerate((40, 9)):
        model(ids[row : row + 1, :length], cache=cache.rows(row, row + 1))
    both = model(torch.stack((ids[0, 40:43], ids[1, 9:12])), cache=cache)
    torch.testing.assert_close(both[0], model(ids[:1, :43])[0, 40:], atol=3e-5, rtol=0)
    torch.testing.assert_close(both[1], model(ids[1:, :12])[0, 9:], atol=3e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "mixtral"])
@torch.inference_mode()
def test_one_layer_with_sinks_reads_the_kept_tokens_as_if_they_were_the_text(family, ids):
    """In one layer what a token sees does not depend on what was left out: the reference is a shorter text, numbered anew."""
    window, sinks = 12, 4
    shape = {"num_hidden_layers": 1, "model_type": family}
    model = small(Extension(kind="sinks", factor=4, window=window, sinks=sinks), **shape)
    plain = small(**shape)
    for length in (10, 16, 17, 60):
        kept = ids[:, :length]
        if length > window + sinks:
            kept = torch.cat((kept[:, :sinks], kept[:, -window:]), 1)
        torch.testing.assert_close(model(ids[:, :length])[:, -1], plain(kept)[:, -1], atol=1e-5, rtol=0)


def test_ntk_leaves_the_fastest_pair_and_stretches_the_slowest_as_linear_does():
    config = LlamaConfig(**SHAPE)
    plain, ntk, linear = (
        rope_frequencies(c.head_dim, c.rope_theta, c.rope_scaling, c.context)[0]
        for c in (config, *(extended(config, Extension(kind=kind, factor=4)) for kind in ("ntk", "linear")))
    )
    assert ntk[0] == plain[0]
    torch.testing.assert_close(ntk[-1], linear[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_shape_is_read_back_from_its_file(kind):
    config = extended(LlamaConfig(**SHAPE), Extension(kind=kind, factor=4))
    again = model_config(config_to_hf(config))
    for of in ("context", "rope_theta", "sliding_window", "attention_sinks"):
        assert getattr(again, of) == getattr(config, of)
    ours, theirs = (rope_frequencies(8, c.rope_theta, c.rope_scaling, c.context, 50) for c in (config, again))
    torch.testing.assert_close(ours, theirs)


def test_what_a_command_takes():
    assert read_extension("yarn=4") == Extension(kind="yarn", factor=4)
    assert read_extension("sinks=16,window=1020, sinks=8") == Extension(kind="sinks", factor=16, window=1020, sinks=8)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("yarn", "extend=.*KIND=FACTOR"),
        ("yarm=4", "kind='yarm'"),
        ("yarn=1", "factor=1"),
        ("yarn=far", "factor='far'"),
        ("yarn=4,window=8", "takes no window"),
        ("sinks=4,windw=8", "windw.*did you mean window"),
        ("sinks=4,window=13", "extend.window=13: and 4 sinks are more than the 16"),
        ("sinks=4,sinks=16", "extend.window"),
    ],
)
def test_what_cannot_be_is_named(text, names):
    with pytest.raises(ConfigError, match=names):
        extended(LlamaConfig(**SHAPE), read_extension(text))


def test_positions_are_scaled_once_and_only_where_they_turn():
    model = small(Extension(kind="yarn", factor=2))
    with pytest.raises(ConfigError, match="scaled already"):
        extend(model, Extension(kind="linear", factor=2))
    extend(model, Extension(kind="sinks", factor=4))
    assert model.context == 8 * TRAINED
    assert model.config.rope_scaling.original_max_position_embeddings == TRAINED
    with pytest.raises(ConfigError, match="extend='gpt2': only models of the Llama shape"):
        extend(
            make_model({"model_type": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 2}), Extension(kind="ntk", factor=2)
        )
