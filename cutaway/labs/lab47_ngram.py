"""Lab 47, n-gram models: bits per byte beside a small neural model as data grows, over a distance, and where nothing was seen."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cutaway.data.examples import Example
from cutaway.evaluate.ngram import ngram_perplexity
from cutaway.evaluate.perplexity import perplexity
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit
from cutaway.labs.small_corpus import DECODER, batches, examples, word_nats, word_tokenizer
from cutaway.labs.small_language import MOST_PLACES, Sentence, sentences
from cutaway.models.families import make_model
from cutaway.models.ngram import NGram, NGramConfig
from cutaway.models.ngram import fit as count
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.objectives import causal_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDER = 5


def measure(setting: Setting) -> Numbers:
    sizes = [25, 400, 5_000] if setting.quick else [25, 100, 400, 1_600, 6_400, 25_600]
    tokenizer = word_tokenizer()
    training = [one.text for one in sentences(sizes[-1], setting.seed)]
    held_out = examples([one.text for one in sentences(200, setting.seed + 1_000)], tokenizer)
    new = sentences(1_000, setting.seed + 2_000)
    tests = examples([one.text for one in new], tokenizer)
    n_bytes = sum(len(one.text) for one in new)
    found: dict[str, list[float]] = {}
    for size in sizes:
        texts = training[:size]
        ngram, ngram_seconds = timed(partial(count_ngrams, texts, tokenizer))
        neural, neural_seconds = timed(partial(train, texts, held_out, tokenizer, setting))
        report = ngram_perplexity(ngram, tokenizer, tests)
        for name, value in (
            ("ngram_bits_per_byte", report.perplexity.bits_per_byte),
            ("neural_bits_per_byte", perplexity(neural, tokenizer, tests).bits_per_byte),
            ("unseen", report.unseen),
            ("ngram_seconds", ngram_seconds),
            ("neural_seconds", neural_seconds),
        ):
            found.setdefault(name, []).append(value)
    by_ngram = [-ngram.score(one.ids)[1:-1] for one in tests]  # of the last, largest size; without BOS and EOS
    by_neural = word_nats(neural, tests)
    unseen = np.concatenate([ngram.matched(one.ids)[1:-1] < ORDER for one in tests])
    scored = {"ngram": by_ngram, "neural": by_neural, "source": [np.array(one.nats) for one in new]}
    return {
        "sizes": sizes,
        **found,
        "source_bits_per_byte": sum(sum(one.nats) for one in new) / math.log(2) / n_bytes,
        "places": list(range(MOST_PLACES + 1)),
        **{f"{name}_verb_bits": verb_bits(nats, new) for name, nats in scored.items()},
        **{
            f"{name}_unseen_bits": float(np.concatenate(nats)[unseen].mean()) / math.log(2)
            for name, nats in scored.items()
        },
        "ngram_largest_bits": float(np.concatenate(by_ngram).max()) / math.log(2),
    }


def count_ngrams(texts: Sequence[str], tokenizer: Tokenizer) -> NGram:
    """The n-gram model of texts."""
    return count(
        [one.ids for one in examples(texts, tokenizer)], NGramConfig(vocab_size=tokenizer.vocab_size, order=ORDER)
    )


def train(texts: Sequence[str], held_out: Sequence[Example], tokenizer: Tokenizer, setting: Setting) -> Any:
    """The neural model of texts, after a few steps or many, whichever predicts the held-out ones better."""
    models = []
    for steps in (40, 200) if setting.quick else (40, 200, 1_000):
        torch.manual_seed(setting.seed)
        model = make_model({**DECODER, "vocab_size": tokenizer.vocab_size})
        fit(model, causal_lm, batches(texts, tokenizer, setting.seed, rows=8), steps, lr=5e-3)
        models.append(model)
    return min(models, key=lambda model: perplexity(model, tokenizer, held_out).nats)


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """What `make` made, and the seconds it took."""
    started = time.perf_counter()
    return make(), time.perf_counter() - started


def verb_bits(nats: Sequence[np.ndarray], some: Sequence[Sentence]) -> list[float]:
    """Mean bits of the verb, by how many places stand between it and its subject."""
    found: list[list[float]] = [[] for _ in range(MOST_PLACES + 1)]
    for one, of_words in zip(some, nats, strict=True):
        found[one.words.count("near")].append(float(of_words[one.verb]))
    return [sum(group) / len(group) / math.log(2) for group in found]


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    data, distance, unseen = figure.subplots(1, 3)
    for name, label in (("ngram", f"{ORDER}-gram"), ("neural", "neural")):
        data.semilogx(numbers["sizes"], numbers[f"{name}_bits_per_byte"], "o-", label=label)
        distance.plot(numbers["places"], numbers[f"{name}_verb_bits"], "o-", label=label)
    data.axhline(numbers["source_bits_per_byte"], color="grey", linestyle=":", label="the language itself")
    data.set(xlabel="sentences to learn from", ylabel="bits per byte", title="new sentences")
    distance.plot(numbers["places"], numbers["source_verb_bits"], "o:", color="grey", label="the language itself")
    distance.set(xlabel="places between subject and verb", ylabel="bits for the verb", title="distance")
    names = ("ngram", "neural", "source")
    unseen.bar((f"{ORDER}-gram", "neural", "language"), [numbers[f"{name}_unseen_bits"] for name in names])
    unseen.set(ylabel="bits per word", title=f"words that end an unseen {ORDER}-gram")
    data.legend()
    return figure


LAB = Lab(
    id=47,
    title=Bilingual("N-gram models", "N 元语法模型"),
    claim=Bilingual(
        "An n-gram model counts short, local contexts and knows nothing of what it has not seen; a neural model uses distant "
        "context and generalises.",
        "N 元语法模型只统计局部的短上下文，对没见过的组合一无所知；神经模型能利用远处的上下文并能泛化。",
    ),
    fixed=Bilingual(
        "The same sentences, tokeniser and test; bits per byte of the same words. The neural model has one shape for all sizes "
        "and stops early where that predicts held-out sentences better.",
        "句子、分词器和测试都相同，对同样的词计算每字节比特数。神经模型在各数据量下形状相同，若早停在留出句子上更好则早停。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "much data",
            Bilingual(
                "with the most data the neural model needs fewer bits per byte.",
                "数据最多时，神经模型的每字节比特数更低。",
            ),
            lambda n: n["neural_bits_per_byte"][-1] < n["ngram_bits_per_byte"][-1],
        ),
        Claim(
            "distance",
            Bilingual(
                "two places between subject and verb cost the n-gram model at least half a bit on the verb, and the neural model "
                "less than half of that.",
                "主语和动词之间隔两个地点时，N 元语法模型在动词上至少多付半个比特，神经模型多付的不到它的一半。",
            ),
            lambda n: (
                n["ngram_verb_bits"][2] > n["source_verb_bits"][2] + 0.5
                and n["neural_verb_bits"][2] - n["source_verb_bits"][2]
                < (n["ngram_verb_bits"][2] - n["source_verb_bits"][2]) / 2
            ),
        ),
        Claim(
            "unseen",
            Bilingual(
                "words that end an n-gram never seen cost the neural model fewer bits.",
                "在从未见过的 N 元组上，神经模型所需的比特更少。",
            ),
            lambda n: n["neural_unseen_bits"] < n["ngram_unseen_bits"],
        ),
        Limit(
            "little data",
            Bilingual(
                "with the least data the n-gram model needs fewer bits per byte.",
                "数据最少时，N 元语法模型的每字节比特数更低。",
            ),
            lambda n: n["ngram_bits_per_byte"][0] < n["neural_bits_per_byte"][0],
        ),
        Limit(
            "quick",
            Bilingual("it is made at least five times as fast.", "它的训练至少快五倍。"),
            lambda n: n["neural_seconds"][-1] > 5 * n["ngram_seconds"][-1],
        ),
        Limit(
            "smoothing",
            Bilingual(
                "it can deal with what it has not seen: by Kneser–Ney smoothing no word of the test has less than a millionth.",
                "它能处理没见过的组合：有 Kneser–Ney 平滑，测试中没有一个词的概率低于百万分之一。",
            ),
            lambda n: n["ngram_largest_bits"] < math.log2(1e6),
        ),
    ),
    measure=measure,
    draw=draw,
)
