"""Span corruption: lengths and sentinels as in the authors' code, the text can be put together again, and a T5 learns it."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError
from cutaway.data.corpus import DataConfig, open_corpus
from cutaway.data.masking import MaskingConfig
from cutaway.data.spans import SENTINEL, SpanStream, cut_out, most_sentinels, noise_sizes, noise_spans
from cutaway.loss.language_modelling import IGNORED
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.pretrain import PretrainConfig, pretrain

TEXT = [
    f"the {a} fox saw {b} dogs and went to the {c}"
    for a in ["red", "old"]
    for b in ["two", "six"]
    for c in ["sea", "hill", "wood"]
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def reference_noise_mask(length, density, mean, draw):
    """`random_spans_noise_mask` of Raffel et al. 2020, appendix of the T5 code, written from its description in numpy."""
    noise = int(np.clip(np.round(length * density), 1, length - 1))
    spans = max(int(np.round(noise / mean)), 1)
    spans = min(spans, length - noise)

    def segments(items, parts):
        first = np.zeros(items, int)
        first[1 : 1 + parts - 1] = 1
        first[1:] = draw.permutation(first[1:])
        return np.bincount(np.cumsum(first), minlength=parts)

    lengths = np.stack([segments(length - noise, spans), segments(noise, spans)], 1).reshape(-1)
    starts = np.zeros(length, int)
    starts[np.cumsum(lengths)[:-1]] = 1
    return np.cumsum(starts) % 2 == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 600), st.sampled_from([(0.15, 3.0), (0.5, 3.0), (0.15, 10.0), (0.9, 1.0)]), st.integers(0, 10**6))
def test_as_many_tokens_and_spans_as_the_reference(L, sizes, seed):
    share, span = sizes
    config = MaskingConfig(share=share, span=span)
    mine = noise_spans(L, config, generator(seed)).numpy()
    theirs = reference_noise_mask(L, share, span, np.random.default_rng(seed))
    runs = [int((np.diff(np.concatenate([[0], mask.astype(int)])) == 1).sum()) for mask in (mine, theirs)]
    assert len(mine) == L
    assert mine.sum() == theirs.sum() == noise_sizes(L, config)[0]
    assert runs[0] == runs[1] == noise_sizes(L, config)[1]
    assert not mine[0]
    assert mine[-1]
    assert runs[0] < most_sentinels(L, config)


def test_span_lengths_are_spread_like_the_reference():
    config, draw = MaskingConfig(), np.random.default_rng(0)
    mine = torch.stack([noise_spans(200, config, generator(seed)) for seed in range(800)]).float().mean(0).numpy()
    theirs = np.mean([reference_noise_mask(200, 0.15, 3.0, draw) for _ in range(800)], 0)
    assert abs(mine[20:180] - theirs[20:180]).mean() < 0.02


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(0, 10**6))
def test_source_and_target_give_the_text_back(L, seed):
    config = MaskingConfig(share=0.3, span=2.0)
    ids = torch.randint(1000, (L,), generator=generator(seed)).tolist()
    sentinels = list(range(2000, 2000 + most_sentinels(L, config)))
    source, target = cut_out(ids, noise_spans(L, config, generator(seed)).tolist(), sentinels)
    used = [id for id in target if id >= 2000]
    assert used == sentinels[: len(used)]
    assert [id for id in source if id >= 2000] == used[:-1]
    assert target[-1] == used[-1]
    parts = {}
    for id in target:
        if id >= 2000:
            parts[id] = []
        else:
            parts[next(reversed(parts))].append(id)
    assert [id for one in source for id in (parts[one] if one >= 2000 else [one])] == ids
    assert len(source) + len(target) == L + 2 * len(used) - 1


@pytest.mark.parametrize("packing", [True, False])
def test_a_place_in_the_stream_always_cuts_the_same(tmp_path, packing):
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXT))
    extra = tuple(SENTINEL.format(number) for number in range(3))
    tokenizer = train_tokenizer(TEXT, TrainTokenizerConfig(vocab_size=280, extra=extra))
    data = DataConfig(path=tmp_path / "text.jsonl", seq_len=32, rows=2, cache=tmp_path / "cache", packing=packing)

    def stream():
        return SpanStream(open_corpus(data, tokenizer, 3).train, tokenizer, MaskingConfig(), 5)

    first, second = stream(), stream()
    whole = [next(first) for _ in range(5)]
    for _ in range(2):
        next(second)
    third = stream()
    third.restore(second.state())
    for batch in whole[2:]:
        again = next(third)
        assert torch.equal(batch.source_BS, again.source_BS)
        assert torch.equal(batch.targets_BT, again.targets_BT)
    for batch in whole:
        assert (batch.target_BT[:, 0] == 5).all()
        assert (batch.target_BT[:, 1] == tokenizer.special[SENTINEL.format(0)]).all()
        for source, real, targets in zip(batch.source_BS, batch.real_BS, batch.targets_BT, strict=True):
            assert source[real][-1] == targets[targets != IGNORED][-1] == tokenizer.eos_id
    with pytest.raises(ConfigError, match="has 3 sentinels, and rows of 999 tokens may need 51"):
        SpanStream(
            open_corpus(data.model_copy(update={"seq_len": 999}), tokenizer, 3).train, tokenizer, MaskingConfig(), 5
        )


def words(tmp_path, kind, *more):
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXT * 4))
    shape = {
        "t5": ["model.d_model=32", "model.d_ff=64", "model.num_layers=1", "model.num_heads=2", "model.d_kv=16"],
        "transformer": ["model.hidden_size=32", "model.intermediate_size=64", "model.num_attention_heads=2"],
    }
    return [
        f"data.path={tmp_path / 'text.jsonl'}",
        f"data.cache={tmp_path / 'cache'}",
        f"out={tmp_path / kind}",
        "objective=spans",
        f"model.model_type={kind}",
        "data.seq_len=24",
        "train_tokenizer.vocab_size=300",
        "loop.steps=60",
        "loop.tensorboard=false",
        "loop.precision=float32",
        "loop.compile=off",
        "optim.lr=1e-2",
        *shape.get(kind, []),
        *more,
    ]


@pytest.mark.parametrize("kind", ["t5", "transformer"])
def test_an_encoder_decoder_learns_it(tmp_path, kind):
    said = CliRunner().invoke(app, ["pretrain", *words(tmp_path, kind)], catch_exceptions=False).stdout
    loss = json.loads((tmp_path / kind / "report.json").read_text())["held_out_loss"]["held_out"]
    assert loss["after"] < 0.7 * loss["before"]
    assert f"next: cutaway seq2seq start={tmp_path / kind / 'model'}" in said


@pytest.mark.parametrize("kind", ["llama", "whisper", "bert"])
def test_other_models_are_refused(tmp_path, kind):
    more = ["model.max_target_positions=64"] if kind == "whisper" else []
    with pytest.raises(ConfigError, match=f"objective='spans': cannot be trained on a {kind} model"):
        pretrain(load_config(PretrainConfig, None, words(tmp_path, kind, *more)))
