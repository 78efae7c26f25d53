"""Topic 10: embeddings and their initialisation. What a small decoder gains from rows that were learned elsewhere, on little text
and on more, and where the rows lie before and after training.

Elsewhere are sentences of the same language of which none is learned from or judged on here. They train a checkpoint, whose first
weights share nothing with those of the decoder, and give every word a vector of its counts, in a .vec file that is wider than
the decoder. Rows from elsewhere are given the mean and the scale of drawn ones, so that scale is not what differs.

Shapes: V vocabulary, D width, N words of the language.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.count_vectors import write_counts
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.small_corpus import DECODER, SEQ_LEN, batches, examples, word_nats, word_tokenizer
from cutaway.labs.small_language import Sentence, sentences
from cutaway.labs.word_places import chance, kinds_of, places
from cutaway.models.families import make_model
from cutaway.models.huggingface import save_model
from cutaway.models.initial_embeddings import EmbeddingsConfig, initialise_embeddings
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.objectives import causal_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = ("scaled", "unit", "vectors", "shuffled", "checkpoint")
JUDGED, ELSEWHERE = 200, 2_000  # sentences
ROWS, PASSES, LR = 4, 4, 4e-3  # rows of a step, times that a text is read


@one_thread()
def measure(setting: Setting) -> Numbers:
    sizes, far_steps = ((96, 768), 400) if setting.quick else ((96, 768, 4_608), 1_500)
    tokenizer, seed = word_tokenizer(), setting.seed
    learned = sentences(sizes[-1], 1_000 + seed)
    judged = apart(sentences(JUDGED, 2_000 + seed), learned)
    far = [one.text for one in apart(sentences(ELSEWHERE, 3_000 + seed), [*learned, *judged])]
    test = examples([one.text for one in judged], tokenizer)
    tokens = [sum(len(one.ids) for one in examples([one.text for one in learned[:size]], tokenizer)) for size in sizes]
    words_N = torch.tensor(sorted({id for one in test for id in one.ids[1:-1]}))
    kinds = kinds_of(learned)
    numbers: dict[str, Any] = {
        "arms": list(ARMS),
        "sentences": list(sizes),
        "tokens": tokens,
        "steps": [math.ceil(PASSES * count / (ROWS * SEQ_LEN)) for count in tokens],
        "extra_tokens": far_steps * ROWS * SEQ_LEN,
        "entropy_nats": float(np.mean([nats for one in judged for nats in one.nats])),
        "chance": chance(kinds),
    }
    with TemporaryDirectory() as folder:
        files = {"checkpoint": Path(folder) / "elsewhere", "vectors": Path(folder) / "counts.vec"}
        write_counts(far, files["vectors"])
        torch.manual_seed(10_000 + seed)
        other = make_model({**DECODER, "vocab_size": tokenizer.vocab_size})
        fit(other, causal_lm, batches(far, tokenizer, seed, ROWS), far_steps, LR)
        save_model(other, tokenizer, files["checkpoint"])
        numbers["checkpoint_itself_nats"] = mean_nats(other, test)
        for arm, (size, steps) in itertools.product(ARMS, zip(sizes, numbers["steps"], strict=True)):
            model = begin(arm, tokenizer, files, words_N, seed)
            found: dict[str, Any] = places(model, tokenizer, kinds, "before")
            texts = [one.text for one in learned[:size]]
            found["curves_nats"] = fit(model, causal_lm, batches(texts, tokenizer, seed, ROWS), steps, LR)
            found |= {"nats": mean_nats(model, test), **places(model, tokenizer, kinds, "after")}
            for name, value in found.items():
                numbers.setdefault(f"{arm}_{name}", []).append(value)
    return numbers


def apart(drawn: Sequence[Sentence], others: Sequence[Sentence]) -> list[Sentence]:
    """The sentences that are not among others."""
    known = {one.words for one in others}
    return [one for one in drawn if one.words not in known]


@torch.no_grad()
def begin(arm: str, tokenizer: Tokenizer, files: Mapping[str, Path], words_N: Tensor, seed: int) -> Any:
    """A fresh decoder: all weights but the embedding are the same for every arm."""
    torch.manual_seed(seed)
    model: Any = make_model({**DECODER, "vocab_size": tokenizer.vocab_size})
    init = {"unit": "scaled", "shuffled": "checkpoint"}.get(arm, arm)
    path = str(files[init]) if init in files else None
    initialise_embeddings(model, tokenizer, EmbeddingsConfig(init=init, path=path))  # type: ignore[arg-type]
    weight_VD = model.embedding.weight
    if arm == "unit":  # the default of torch's own embedding: N(0, 1)
        weight_VD.mul_(weight_VD.shape[1] ** 0.5)
    if arm == "shuffled":  # the rows of words, dealt out among the words
        weight_VD[words_N] = weight_VD[words_N[torch.randperm(len(words_N))]]
    return model


def mean_nats(model: Any, test: Sequence[Any]) -> float:
    """Loss per word."""
    return float(np.concatenate(word_nats(model, test)).mean())


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    loss, curves, near = figure.subplots(1, 3)
    places_of_arms, sizes = np.arange(len(ARMS)), numbers["sentences"]
    for number, size in enumerate(sizes):
        held_out = [numbers[f"{arm}_nats"][number] for arm in ARMS]
        loss.bar(places_of_arms + 0.25 * (number - 1), held_out, 0.25, label=f"{size} sentences")
    loss.axhline(numbers["entropy_nats"], color="k", ls=":", label="entropy of the language")
    loss.set(ylabel="nats per word", title="held-out loss", ylim=(1, 4))
    for arm in ARMS:
        curves.semilogx(np.arange(numbers["steps"][-1]) + 1, numbers[f"{arm}_curves_nats"][-1], lw=1, label=arm)
    curves.set(xlabel="step", ylabel="nats per token", title=f"training loss, {sizes[-1]} sentences", ylim=(1, 8))
    for offset, when in ((-0.2, "before"), (0.2, "after")):
        shares = [numbers[f"{arm}_neighbours_{when}"][-1] for arm in ARMS]
        near.bar(places_of_arms + offset, shares, 0.4, label=f"{when} training on {sizes[-1]} sentences")
    near.axhline(numbers["chance"], color="k", ls=":", label="chance")
    near.set(title="nearest word of the same kind", ylabel="share", ylim=(0, 1.4))
    for axes in (loss, near):
        axes.set_xticks(places_of_arms, ARMS, rotation=20)
    for axes in (loss, curves, near):
        axes.legend(fontsize=7)
    return figure


def gains(numbers: Mapping, arm: str, over: str = "scaled") -> list[float]:
    """How much lower the held-out loss is than another's, nats, by size."""
    return [theirs - ours for ours, theirs in zip(numbers[f"{arm}_nats"], numbers[f"{over}_nats"], strict=True)]


LAB = Lab(
    id=10,
    title=Bilingual("Embeddings and their initialisation", "词嵌入及其初始化"),
    claim=Bilingual(
        "Embeddings put related words near each other. Rows learned elsewhere are a better start than random ones; with enough "
        "text a model learns them by itself.",
        "嵌入让相关的词彼此靠近。用别处学到的行起步优于随机起步；文本足够多时，模型自己就能学到。",
    ),
    fixed=Bilingual(
        "Decoder, sentences, batches, steps, first weights but for the embedding, and its scale, apart from `unit`. Checkpoint "
        "and vectors cost text besides.",
        "解码器、句子、批次、步数、嵌入以外的初始权重相同；除 `unit` 外嵌入的尺度也相同。检查点和词向量另外耗费文本。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "better start",
            Bilingual(
                "on little text the checkpoint's rows gain more than 0.1 nats", "文本少时，检查点的行降损 0.1 奈特以上"
            ),
            lambda n: gains(n, "checkpoint")[0] > 0.1,
        ),
        Claim(
            "each row its word",
            Bilingual(
                "dealt out among the words, the same rows are worse by 0.1 nats", "同样的行在词间打乱后差 0.1 奈特"
            ),
            lambda n: gains(n, "checkpoint", over="shuffled")[0] > 0.1,
        ),
        Claim(
            "word vectors",
            Bilingual(
                "on little text vectors of another width gain 0.05 nats", "文本少时，另一宽度的词向量降损 0.05 奈特"
            ),
            lambda n: gains(n, "vectors")[0] > 0.05,
        ),
        Claim(
            "fades",
            Bilingual(
                "with the most text the checkpoint's rows gain less than half", "文本最多时，检查点的行所得不到一半"
            ),
            lambda n: gains(n, "checkpoint")[-1] < gains(n, "checkpoint")[0] / 2,
        ),
        Claim(
            "neighbours",
            Bilingual(
                "before training, the nearest word is of the same kind by chance (within 0.1) among random rows, and more than "
                "half of the time among the checkpoint's",
                "训练前，随机行的最近词同类的比例与机遇相当（相差 0.1 以内），检查点的行超过一半",
            ),
            lambda n: (
                abs(n["scaled_neighbours_before"][0] - n["chance"]) < 0.1 and n["checkpoint_neighbours_before"][0] > 0.5
            ),
        ),
        Claim(
            "learned alone",
            Bilingual(
                "with the most text, random rows move together by kind (by 0.1)",
                "文本最多时，随机的行也按类靠拢（0.1）",
            ),
            lambda n: n["scaled_neighbours_after"][-1] > n["scaled_neighbours_before"][-1] + 0.1,
        ),
        Limit(
            "whole checkpoint",
            Bilingual(
                "on little text the whole checkpoint is better by 0.1 nats", "文本少时，整个检查点还要好 0.1 奈特"
            ),
            lambda n: n["checkpoint_itself_nats"] < n["checkpoint_nats"][0] - 0.1,
        ),
        Limit(
            "scale",
            Bilingual("rows from N(0, 1) lose more than the checkpoint's gain", "N(0, 1) 的行所失大于检查点的行所得"),
            lambda n: all(a + b < 0 for a, b in zip(gains(n, "unit"), gains(n, "checkpoint"), strict=True)),
        ),
    ),
    measure=measure,
    draw=draw,
)
