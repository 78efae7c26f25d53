"""Topic 10: embeddings and their initialisation. What a small decoder gains from rows that were learned elsewhere, on little text
and on more, and where the rows lie before and after training.

Elsewhere are sentences of the same language of which none is learned from or judged on here. They train a checkpoint, whose first
weights share nothing with those of the decoder, and give every word a vector of its counts, in a .vec file that is wider than
the decoder. A table from elsewhere is given the mean and the spread of a drawn one. Within it the words' rows are larger than
those of tokens that were never seen, so the control is the checkpoint's rows dealt out among the words: same sizes, other places.

Shapes: V vocabulary, D width, N words of the language.
"""

import itertools
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
JUDGED, ELSEWHERE, FAR_STEPS = 200, 2_000, 400  # sentences, and steps of the checkpoint
ROWS, PASSES, LR = 4, 4, 4e-3  # rows of a step, times that a text is read
RUNS = 3  # on a text of each size, as far as there is enough
TOKENS = 13.5  # of a mean sentence, with BOS and EOS: so that steps are the same for every seed


@one_thread()
def measure(setting: Setting) -> Numbers:
    sizes = (96, 768) if setting.quick else (96, 768, 2_304)
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
        "steps": [round(PASSES * size * TOKENS / (ROWS * SEQ_LEN)) for size in sizes],
        "extra_tokens": FAR_STEPS * ROWS * SEQ_LEN,
        "entropy_nats": float(np.mean([nats for one in judged for nats in one.nats])),
        "chance": chance(kinds),
    }
    with TemporaryDirectory() as folder:
        files = {"checkpoint": Path(folder) / "elsewhere", "vectors": Path(folder) / "counts.vec"}
        write_counts(far, files["vectors"])
        torch.manual_seed(10_000 + seed)
        other = make_model({**DECODER, "vocab_size": tokenizer.vocab_size})
        fit(other, causal_lm, batches(far, tokenizer, seed, ROWS), FAR_STEPS, LR)
        save_model(other, tokenizer, files["checkpoint"])
        numbers["checkpoint_itself_nats"] = mean_nats(other, test)
        for arm, (size, steps) in itertools.product(ARMS, zip(sizes, numbers["steps"], strict=True)):
            runs = []
            for number, texts in enumerate(parts([one.text for one in learned], size)):
                model = begin(arm, tokenizer, files, words_N, seed + 20_000 * number)
                found: dict[str, Any] = places(model, tokenizer, kinds, "before")
                found["curves_nats"] = fit(model, causal_lm, batches(texts, tokenizer, seed, ROWS), steps, LR)
                runs.append(found | {"nats": mean_nats(model, test), **places(model, tokenizer, kinds, "after")})
            for name in runs[0]:
                numbers.setdefault(f"{arm}_{name}", []).append(np.mean([run[name] for run in runs], 0).tolist())
    return numbers


def parts(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    """Up to `RUNS` texts of one size, none in two of them: what a model makes of a little text scatters."""
    return [texts[first : first + size] for first in range(0, len(texts), size)][:RUNS]


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
        loss.bar(places_of_arms + 0.25 * (number - (len(sizes) - 1) / 2), held_out, 0.25, label=f"{size} sentences")
    loss.axhline(numbers["entropy_nats"], color="k", ls=":", label="entropy of the language")
    loss.set(ylabel="nats per word", title="held-out loss", ylim=(1, None))
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
        "Decoder, sentences, batches, steps, and first weights but for the embedding. Checkpoint and shuffled control have the "
        "same rows. Checkpoint and vectors cost text besides. Of little text, the mean over three texts.",
        "解码器、句子、批次、步数以及嵌入以外的初始权重相同；检查点与打乱的对照用的是同样的行。检查点和词向量另外耗费文本。"
        "文本少时取三份文本的平均。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "better start",
            Bilingual(
                "on little text the checkpoint's rows lower the loss by more than 0.1 nats",
                "文本少时，用检查点的行使损失下降 0.1 奈特以上",
            ),
            lambda n: gains(n, "checkpoint")[0] > 0.1,
        ),
        Claim(
            "each row its word",
            Bilingual(
                "dealt out among the words, the same rows are worse by more than 0.1 nats",
                "把同样的行在词之间打乱，损失高出 0.1 奈特以上",
            ),
            lambda n: gains(n, "checkpoint", over="shuffled")[0] > 0.1,
        ),
        Claim(
            "word vectors",
            Bilingual(
                "on little text word vectors of another width lower it by more than 0.05 nats",
                "文本少时，另一宽度的词向量使损失下降 0.05 奈特以上",
            ),
            lambda n: gains(n, "vectors")[0] > 0.05,
        ),
        Claim(
            "fades",
            Bilingual(
                "with the most text the checkpoint's rows gain less than half of that",
                "文本最多时，检查点的行带来的下降不到文本少时的一半",
            ),
            lambda n: gains(n, "checkpoint")[-1] < gains(n, "checkpoint")[0] / 2,
        ),
        Claim(
            "neighbours",
            Bilingual(
                "before training the nearest word is of the same kind as by chance (within 0.2) among random rows, more than "
                "half of the time among the checkpoint's",
                "训练前，随机行的最近词同类的比例与机遇相当（相差 0.2 以内），检查点的行超过一半",
            ),
            lambda n: (  # among 48 words, a share that is chance has a standard deviation of 0.045
                abs(n["scaled_neighbours_before"][0] - n["chance"]) < 0.2 and n["checkpoint_neighbours_before"][0] > 0.5
            ),
        ),
        Claim(
            "learned alone",
            Bilingual(
                "with the most text, rows that began at random lie together by kind (the share of such neighbours is 0.1 higher)",
                "文本最多时，从随机出发的行也按类靠拢（最近词同类的比例升高 0.1 以上）",
            ),
            lambda n: n["scaled_neighbours_after"][-1] > n["scaled_neighbours_before"][-1] + 0.1,
        ),
        Limit(
            "whole checkpoint",
            Bilingual(
                "on little text the whole checkpoint is better still, by more than 0.1 nats",
                "文本少时，整个检查点的损失还要再低 0.1 奈特以上",
            ),
            lambda n: n["checkpoint_itself_nats"] < n["checkpoint_nats"][0] - 0.1,
        ),
        Limit(
            "scale",
            Bilingual(
                "rows drawn from N(0, 1) lose more than the checkpoint's rows gain",
                "取自 N(0, 1) 的行使损失上升的幅度，大于检查点的行带来的下降",
            ),
            lambda n: all(a + b < 0 for a, b in zip(gains(n, "unit"), gains(n, "checkpoint"), strict=True)),
        ),
    ),
    measure=measure,
    draw=draw,
)
