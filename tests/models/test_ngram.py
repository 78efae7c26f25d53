"""Kneser-Ney n-grams against a small case computed by hand and against the equations written with dictionaries."""

import json
import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from cutaway.cli.main import app
from cutaway.core.config import make_config
from cutaway.core.errors import CheckpointError, ConfigError, CutawayError, DataError, NothingSupervisedError
from cutaway.data.examples import Example
from cutaway.evaluate.ngram import ngram_perplexity
from cutaway.evaluate.perplexity import PerplexityConfig, perplexity
from cutaway.models.ngram import FALLBACK, NGram, NGramConfig, discounts, fit

START = -1


class Equations:
    """Chen & Goodman 1998, sections 2.6 and 2.7 and equation 26, one dictionary per order; slow and exact (fractions)."""

    def __init__(self, documents, V, order, number):
        self.V, self.order, self.count = V, order, {n: Counter() for n in range(1, order + 1)}
        before = {n: defaultdict(set) for n in range(1, order)}
        for ids in documents:
            padded = [START] * (order - 1) + list(ids)
            for end in range(order, len(padded) + 1):
                self.count[order][tuple(padded[end - order : end])] += 1
                for n in range(1, order):
                    before[n][tuple(padded[end - n : end])].add(padded[end - n - 1])
        for n in range(1, order):
            self.count[n] = Counter({gram: len(tokens) for gram, tokens in before[n].items()})
        self.D = {n: self.discount(Counter(count.values()), number) for n, count in self.count.items()}

    def discount(self, of, number):
        if number == 1 and of[1] and of[2]:
            return [Fraction(of[1], of[1] + 2 * of[2])] * 3
        if number == 3 and of[1] and of[2] and of[3] and of[4]:
            Y = Fraction(of[1], of[1] + 2 * of[2])
            D = [n - (n + 1) * Y * Fraction(of[n + 1], of[n]) for n in (1, 2, 3)]
            if min(D) > 0:
                return D
        return [Fraction(d) for d in FALLBACK]

    def probability(self, context, id):
        context = ([START] * self.order + list(context))[-(self.order - 1) :] if self.order > 1 else []
        return self._probability(tuple(context), id)

    def _probability(self, h, w):
        n = len(h) + 1
        shorter = self._probability(h[1:], w) if h else Fraction(1, self.V)
        following = {gram[-1]: c for gram, c in self.count[n].items() if gram[:-1] == h}
        total = sum(following.values())
        if not total:
            return shorter
        D = {v: self.D[n][min(c, 3) - 1] for v, c in following.items()}
        kept = Fraction(following.get(w, 0)) - D.get(w, 0)
        return (kept + sum(D.values()) * shorter) / total


def documents(seed, V, lengths):
    """Random text with a tail, so that counts of 1, 2, 3 and 4 occur."""
    rng = np.random.default_rng(seed)
    shape = 1 / np.arange(1, V + 1)
    return [rng.choice(V, length, p=shape / shape.sum()).tolist() for length in lengths]


def test_a_case_computed_by_hand():
    """Text 0 1 0 2, bigrams, one discount.

    Bigrams (S 0) (0 1) (1 0) (0 2), each once: n1 = 4 and n2 = 0 give no discount, so D = FALLBACK = 1/2 for a count of 1.
    Unigrams by tokens before them: 0 follows S and 1 (2), 1 follows 0 (1), 2 follows 0 (1): n1 = 2, n2 = 1, D = 2/4 = 1/2.
    P(0) = (2 − 1/2)/4 + (3 · 1/2)/4 · 1/4 = 3/8 + 3/32 = 15/32; P(1) = P(2) = 1/8 + 3/32 = 7/32; P(3) = 3/32.
    After 0 (seen twice): P(1 | 0) = (1 − 1/2)/2 + 1/2 · 7/32 = 23/64; P(0 | 0) = 1/2 · 15/32 = 15/64.
    After 1 (once): P(0 | 1) = 1/2 + 1/2 · 15/32 = 47/64. After 3, never seen: the unigrams.
    """
    model = fit([[0, 1, 0, 2]], NGramConfig(vocab_size=4, order=2, discounts=1))
    np.testing.assert_allclose(np.exp(model.logprobs([0])), np.array([15, 23, 23, 3]) / 64, rtol=1e-14)
    np.testing.assert_allclose(np.exp(model.logprobs([1])), np.array([47, 7, 7, 3]) / 64, rtol=1e-14)
    np.testing.assert_allclose(np.exp(model.logprobs([3])), np.array([15, 7, 7, 3]) / 32, rtol=1e-14)
    np.testing.assert_allclose(np.exp(model.logprobs([])), np.array([47, 7, 7, 3]) / 64, rtol=1e-14)
    expected = [47 / 64, 23 / 64, 47 / 64, 23 / 64]
    np.testing.assert_allclose(np.exp(model.score([0, 1, 0, 2])), expected, rtol=1e-14)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_equals_the_equations(order, number):
    V, text = 7, documents(order, 7, [90, 1, 2, 40])
    model = fit(text, NGramConfig(vocab_size=V, order=order, discounts=number))
    exact = Equations(text, V, order, number)
    assert order == 1 or any(tuple(D) != FALLBACK for D in exact.D.values())
    for ids in [*text, *documents(9, V, [25])]:
        expected = [float(exact.probability(ids[:place], id)) for place, id in enumerate(ids)]
        np.testing.assert_allclose(np.exp(model.score(ids)), expected, rtol=1e-12)
    for context in ([], [3], [6, 6, 6, 6, 6], text[0][:11]):
        expected = [float(exact.probability(context, id)) for id in range(V)]
        np.testing.assert_allclose(np.exp(model.logprobs(context)), expected, rtol=1e-12)
        assert model.logprob(context, 2) == pytest.approx(math.log(expected[2]), rel=1e-12)


def test_the_discounts_of_the_paper_are_used():
    """Otherwise the test above would only show the fallback."""
    found = fit(documents(0, 60, [4000]), NGramConfig(vocab_size=60, order=2)).levels[1].counts
    assert discounts(found, 3) != FALLBACK
    assert discounts(found, 1) != FALLBACK
    assert 0 < discounts(found, 3)[0] < 1
    assert discounts(np.array([1, 1, 2, 3, 4]), 3) == pytest.approx((0.5, 0.5, 1.0))
    assert discounts(np.array([1, 2, 3, 3, 3, 4]), 3) == FALLBACK  # 2 − 3 · 1/3 · 3 is negative


ids = st.integers(0, 5)


@settings(max_examples=60, deadline=None)
@given(
    text=st.lists(st.lists(ids, max_size=30), min_size=1, max_size=4).filter(any),
    context=st.lists(ids, max_size=8),
    order=st.integers(1, 6),
    number=st.sampled_from([1, 3]),
)
def test_probabilities_sum_to_one(text, context, order, number):
    model = fit(text, NGramConfig(vocab_size=6, order=order, discounts=number))
    for seen in [context, *text]:
        probability = np.exp(model.logprobs(seen))
        assert probability.sum() == pytest.approx(1, abs=1e-12)
        assert probability.min() > 0
        assert model.logprob(seen, 4) == pytest.approx(math.log(probability[4]), rel=1e-12)


def test_longest_seen_ngram():
    model = fit([[0, 1, 2, 3], [2, 4]], NGramConfig(vocab_size=6, order=3))
    assert model.matched([0, 1, 2, 4, 5, 0]).tolist() == [3, 3, 3, 2, 0, 1]
    assert model.matched([]).tolist() == model.score([]).tolist() == []


def test_sampling_follows_the_probabilities_and_stops():
    model = fit(documents(1, 5, [300]), NGramConfig(vocab_size=5, order=2))
    rng = np.random.default_rng(0)
    drawn = np.bincount([model.sample([0], 1, rng)[0] for _ in range(4000)], minlength=5) / 4000
    np.testing.assert_allclose(drawn, np.exp(model.logprobs([0])), atol=0.03)
    first, again = (model.sample([1], 12, np.random.default_rng(3)) for _ in range(2))
    assert first == again
    assert len(first) == 12
    ended = model.sample([1], 500, rng, ends=frozenset({2}))
    assert ended.count(2) == 1
    assert ended[-1] == 2


def test_saved_equals_loaded(tmp_path):
    text = documents(2, 20, [400])
    model = fit(text, NGramConfig(vocab_size=20, order=4))
    model.save(tmp_path / "model")
    loaded = NGram.load(tmp_path / "model")
    assert loaded.config == model.config
    assert (loaded.score(text[0]) == model.score(text[0])).all()
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["config.json", "ngrams.safetensors"]


def test_scores_the_tokens_that_a_neural_model_is_scored_on(tiny_chat):
    loaded = tiny_chat(64)
    tokenizer = loaded.tokenizer
    ids = np.array(tokenizer.encode("the cat sat on the mat — ünïcödé <|im_end|> the cat", special=True))
    examples = [Example(ids, np.ones(len(ids), bool))]
    neural = perplexity(loaded.model, tokenizer, examples, PerplexityConfig(window=16, stride=8))
    model = fit([ids], NGramConfig(vocab_size=tokenizer.vocab_size, order=3))
    report = ngram_perplexity(model, tokenizer, examples)
    assert (report.perplexity.tokens, report.perplexity.bytes) == (neural.tokens, neural.bytes)
    scored = model.score(ids)[1:][ids[1:] != tokenizer.eos_id]
    assert report.perplexity.nats == pytest.approx(-scored.sum())
    assert report.unseen == 0
    assert report.matched == (0, 0, 0, report.perplexity.tokens)
    with pytest.raises(NothingSupervisedError):
        ngram_perplexity(model, tokenizer, [])


# --- bad input


@pytest.mark.parametrize("shape", [{"order": 0}, {"order": -3}, {"order": 21}, {"discounts": 2}, {"vocab_size": 0}])
def test_a_bad_setting_is_named(shape):
    with pytest.raises(ConfigError, match=next(iter(shape))):
        make_config(NGramConfig, {"vocab_size": 5, **shape})


def test_nothing_to_count():
    with pytest.raises(DataError, match="no token"):
        fit([[], []], NGramConfig(vocab_size=3))


@pytest.fixture
def folder(tmp_path):
    fit(documents(3, 9, [60]), NGramConfig(vocab_size=9, order=3)).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda arrays: arrays.pop("counts.2"), "missing or unexpected: counts.2"),
        (lambda arrays: arrays.update({"keys.4": arrays["keys.3"]}), "missing or unexpected: keys.4"),
        (lambda arrays: arrays.update({"keys.2": arrays["keys.2"][::-1].copy()}), "the 2-grams are corrupt"),
        (lambda arrays: arrays.update({"keys.3": arrays["keys.3"][:-1]}), "the 3-grams are corrupt"),
        (lambda arrays: arrays.update({"keys.3": arrays["keys.3"] * 1000}), "the 3-grams are corrupt"),
        (lambda arrays: arrays.update({"counts.1": -arrays["counts.1"]}), "the 1-grams are corrupt"),
        (lambda arrays: arrays.update({"counts.1": arrays["counts.1"].astype(np.float32)}), "the 1-grams are corrupt"),
    ],
)
def test_a_damaged_model_is_refused(folder, damage, message):
    arrays = load_file(folder / "ngrams.safetensors")
    damage(arrays)
    save_file(arrays, folder / "ngrams.safetensors")
    with pytest.raises(CheckpointError, match=message):
        NGram.load(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "is no n-gram model"),
        ('{"model_type": "llama"}', "model_type='llama': is no n-gram model"),
        ('{"model_type": "ngram", "vocab_size": 9, "order": 0}', "order=0"),
    ],
)
def test_a_bad_config_is_refused(folder, config, message):
    (folder / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message):
        NGram.load(folder)


def test_missing_and_truncated_files(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        NGram.load(tmp_path)
    file = folder / "ngrams.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        NGram.load(folder)
    file.unlink()
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        NGram.load(folder)


# --- the command


@pytest.fixture
def tokenizer(tiny_chat, tmp_path):
    tiny_chat(8).tokenizer.save(tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")


def run(*arguments):
    return CliRunner().invoke(app, ["ngram", *map(str, arguments)])


def test_command(tokenizer, tmp_path):
    text, other, out = tmp_path / "text.txt", tmp_path / "other.txt", tmp_path / "model"
    text.write_text("She sells sea shells by the sea shore.\n" * 30)
    other.write_text("He sells shells.")
    trained = run("train", text, "--tokenizer", tokenizer, "--order", 4, "--out", out, "--json")
    assert trained.exit_code == 0, trained.output
    assert json.loads(trained.stdout)["tokens"] == len(text.read_bytes()) + 1  # and the end of the document
    known, unknown = (json.loads(run("score", out, file, "--json").stdout) for file in (text, other))
    assert known["bits_per_byte"] < 0.5 < unknown["bits_per_byte"]
    assert known["bytes"] == len(text.read_bytes()) - 1  # nothing stands before the first
    assert known["unseen"] == 0 < unknown["unseen"] < 1
    assert "bits per byte" in run("score", out, other).stdout
    assert "4-grams unseen" in run("score", out, other).stdout
    drawn = json.loads(run("sample", out, "She sells", "--tokens", 20, "--json").stdout)
    assert 0 < len(drawn["ids"]) <= 20
    assert run("sample", out, "She").stdout == run("sample", out, "She", "--seed", 0).stdout


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, [], "no such file"),
        (b"", [], "is empty"),
        (b" \n\n", [], "is empty"),
        (b"ab\0cd", [], "is binary"),
        (b"caf\xe9", [], "is not utf-8: byte 3"),
        (b"text", ["--order", "0"], "order=0"),
        (b"text", ["--discounts", "2"], "discounts=2"),
        (b"text", ["--tokenizer", "nowhere"], "no such file"),
    ],
)
def test_bad_training_input(tokenizer, tmp_path, content, options, message):
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_bytes(content)
    result = run("train", text, "--tokenizer", tokenizer, "--out", tmp_path / "model", *options)
    assert isinstance(result.exception, CutawayError), result.output
    assert message in str(result.exception)
    assert not (tmp_path / "model").exists()


def test_bad_scoring_input(tokenizer, tmp_path):
    text, empty = tmp_path / "text.txt", tmp_path / "empty.txt"
    text.write_text("some text")
    empty.write_text("")
    assert "no such folder" in str(run("score", tmp_path / "absent", text).exception)
    assert "holds no config.json" in str(run("score", tokenizer, text).exception)
    assert run("train", text, "--tokenizer", tokenizer, "--out", tmp_path / "model").exit_code == 0
    assert "no such file" in str(run("score", tmp_path / "model", tmp_path / "absent.txt").exception)
    assert "is empty" in str(run("score", tmp_path / "model", empty).exception)


@pytest.mark.slow
def test_trains_on_15_mb_in_a_minute(data, tmp_path):
    from time import perf_counter

    ranks = data / "tokenizers" / "gpt2.tiktoken"
    started = perf_counter()
    result = run("train", data / "gutenberg_en", "--tokenizer", ranks, "--out", tmp_path / "model")
    assert result.exit_code == 0, result.output
    assert perf_counter() - started < 60
    scored = json.loads(run("score", tmp_path / "model", data / "tinyshakespeare", "--json").stdout)
    assert 2.5 < scored["bits_per_byte"] < 3
