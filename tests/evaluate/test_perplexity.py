"""Perplexity: every token once, whatever the windows and the batch."""

import json
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import make_config
from cutaway.core.errors import ConfigError, NothingSupervisedError
from cutaway.data.examples import Example, Skipped, tokenize
from cutaway.data.read import Record
from cutaway.evaluate.perplexity import PerplexityConfig, perplexity, windows
from cutaway.models.huggingface import save_model


def example(tokenizer, text):
    return next(tokenize([Record(text, "f")], tokenizer, Skipped()))


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(1, 4, 2), (2, 4, 4), (5, 4, 4), (6, 4, 1), (23, 7, 3), (8, 7, 7)]
)
def test_every_token_but_the_first_is_predicted_once(length, window, stride):
    cut = list(windows(Example(np.arange(length), np.ones(length, bool)), window, stride))
    assert [id for one in cut for id in one.ids[1:][one.learned[1:]]] == list(range(1, length))
    assert all(len(one.ids) <= window + 1 for one in cut)


def test_one_window_equals_the_definition(loaded):
    text = "the lazy dog"
    one = example(loaded.tokenizer, text)
    found = perplexity(loaded.model, loaded.tokenizer, [one])
    ids = torch.tensor(one.ids).long()[None]
    logits = loaded.model.logits(loaded.model(ids[:, :-1]))[0]
    nats = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:-1], reduction="sum").item()  # EOS is not scored
    assert found.tokens == ids.shape[1] - 2
    assert found.bytes == len(text.encode())
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(nats / found.tokens), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / found.bytes, rel=1e-5)


def test_windows_equal_a_loop_over_tokens(loaded):
    one = example(loaded.tokenizer, "the quick brown fox, 你好, jumps over the lazy dog " * 2)
    found = perplexity(loaded.model, loaded.tokenizer, [one], PerplexityConfig(window=16, stride=4))
    nats, special = 0.0, set(loaded.tokenizer.special.values())
    for target in range(1, len(one.ids)):
        if one.ids[target] in special:
            continue
        start = max(0, math.ceil((target - 16) / 4) * 4)
        logits = loaded.model.logits(loaded.model(torch.tensor(one.ids[None, start:target]))[0, -1])
        nats -= logits.log_softmax(-1)[one.ids[target]].item()
    assert found.nats == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_the_batch_size_changes_no_score(loaded, rows):
    examples = [example(loaded.tokenizer, text) for text in ("a", "the quick brown fox " * 5, "lazy dog")]
    reference = perplexity(loaded.model, loaded.tokenizer, examples, PerplexityConfig(window=8, stride=8, rows=3))
    found = perplexity(loaded.model, loaded.tokenizer, examples, PerplexityConfig(window=8, stride=8, rows=rows))
    assert (found.tokens, found.bytes) == (reference.tokens, reference.bytes)
    assert found.nats == pytest.approx(reference.nats, rel=1e-6)


def test_nothing_to_score_is_an_error(loaded):
    with pytest.raises(NothingSupervisedError):
        perplexity(loaded.model, loaded.tokenizer, [Example(np.array([0, 1]), np.zeros(2, bool))])


def test_a_stride_that_skips_tokens_is_refused():
    with pytest.raises(ConfigError, match="leaves out tokens"):
        make_config(PerplexityConfig, {"window": 8, "stride": 9})


def test_the_command_prints_json(loaded, tmp_path):
    save_model(loaded.model, loaded.tokenizer, tmp_path / "model")
    (tmp_path / "text.txt").write_text("the quick brown fox")
    args = ["evaluate", str(tmp_path / "model"), str(tmp_path / "text.txt"), "window=16", "stride=8", "--json"]
    result = CliRunner().invoke(app, [*args, "--dtype", "float32"], catch_exceptions=False)
    report = json.loads(result.stdout)
    assert report["bytes"] == 19
    assert report["perplexity"] == pytest.approx(math.exp(report["loss"]))
