"""Topic 17: the Transformer against recurrent sequence-to-sequence models: how fast they train, and how far they copy.

Three models of one size learn to copy: a recurrent one with a fixed vector between its sides (the traditional design), a
recurrent one with attention, and the Transformer. A token is written as many tokens after it was read as the row is long, so the
row's length is the distance that it must be carried.
"""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from cutaway.data.pairs import Pair, PairBatch, collate_pairs
from cutaway.decode.beam import Beam
from cutaway.infer.translate import translate
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit
from cutaway.models.families import make_model
from cutaway.train.gradients import accumulate
from cutaway.train.objectives import seq2seq_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

START, END, SYMBOLS = 0, 1, 16
VOCAB = 2 + SYMBOLS
TOKENS = 384  # of one side, per training batch
TIMED_TOKENS = 512  # of one side, per timed step
RNN = {"model_type": "rnn_seq2seq", "vocab_size": VOCAB, "num_layers": 1}
MODELS: dict[str, dict[str, Any]] = {  # widths that give 85,000 to 90,000 parameters
    "rnn": {**RNN, "attention_score": "none", "hidden_size": 86},
    "rnn_attention": {**RNN, "attention_score": "dot", "hidden_size": 80},
    "transformer": {
        "model_type": "transformer",
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "num_attention_heads": 4,
        "norm": "pre",
        "dropout": 0.0,
        "max_position_embeddings": 1024,
    },
}


def measure(setting: Setting) -> Numbers:
    lengths, timed, steps = (
        ([4, 8, 16], [16, 64, 256], 240) if setting.quick else ([4, 8, 16, 32, 64], [16, 64, 256, 1024], 2_000)
    )
    numbers: dict[str, Any] = {"distances": lengths, "lengths": timed}
    models: dict[str, Any] = {}
    for name, shape in MODELS.items():
        torch.manual_seed(setting.seed)
        models[name] = make_model(shape)
        numbers[f"parameters_{name}"] = sum(parameter.numel() for parameter in models[name].parameters())
        fit(models[name], seq2seq_lm, copies(lengths, setting.seed), steps, lr=5e-3)
        numbers[f"copied_{name}"] = [copied(models[name], length, setting.seed) for length in lengths]
    speeds = {name: [tokens_per_s(model, length) for length in timed] for name, model in models.items()}
    return {
        **numbers,
        **{f"tokens_per_s_{name}": found for name, found in speeds.items()},
        "speed_ratio": [a / b for a, b in zip(speeds["transformer"], speeds["rnn"], strict=True)],
    }


def copies(lengths: list[int], seed: int) -> Iterator[PairBatch]:
    """Endless batches of rows to copy, the lengths in turn and `TOKENS` in each batch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for length in lengths:
            yield collate_pairs(rows(max(1, TOKENS // length), length, generator), START, START)


def rows(count: int, length: int, generator: torch.Generator) -> list[Pair]:
    """Random symbols, the same on both sides."""
    symbols = torch.randint(2, VOCAB, (count, length), generator=generator).tolist()
    return [Pair([*one, END], [*one, END]) for one in symbols]


def copied(model: Any, length: int, seed: int) -> float:
    """Share of the symbols of new rows that greedy decoding writes in their places."""
    pairs = rows(48, length, torch.Generator().manual_seed(10_000 + seed))
    found = translate(model, [pair.source for pair in pairs], Beam(width=1), [], START, length)
    right = [
        said == symbol
        for best, pair in zip(found, pairs, strict=True)
        for said, symbol in zip(best[0].ids, pair.target, strict=False)
    ]
    return sum(right) / (length * len(pairs))


def tokens_per_s(model: Any, length: int, repeats: int = 2) -> float:
    """Tokens of both sides trained on per second, forward and backward, the best of some steps on `TIMED_TOKENS`."""
    batch = collate_pairs(rows(max(1, TIMED_TOKENS // length), length - 1, torch.Generator()), START, START)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        accumulate(model, seq2seq_lm, [batch])
        best = min(best, time.perf_counter() - started)
    model.zero_grad()
    return batch.n_tokens / best


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    labels = {"rnn": "RNN, fixed vector", "rnn_attention": "RNN with attention", "transformer": "Transformer"}
    for name, label in labels.items():
        left.loglog(numbers["lengths"], numbers[f"tokens_per_s_{name}"], "o-", label=label)
        right.plot(numbers["distances"], numbers[f"copied_{name}"], "o-", label=label)
    left.set(xlabel="tokens of a row", ylabel="training tokens per second", title="equal tokens per step")
    right.set(xlabel="tokens between reading and writing", ylabel="symbols copied (share)", ylim=(0, 1.03))
    right.axhline(1 / SYMBOLS, color="grey", linestyle="--", label="guessing")
    left.set_xticks(numbers["lengths"], map(str, numbers["lengths"]), minor=False)
    left.minorticks_off()
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    return figure


LAB = Lab(
    id=17,
    title=Bilingual("Transformer and recurrent seq2seq", "Transformer 与循环 Seq2Seq"),
    claim=Bilingual(
        "The Transformer works on all positions at once and so trains far faster than a recurrent network, and it links distant "
        "positions directly, where a recurrent network forgets.",
        "Transformer 同时处理所有位置，因此训练比循环网络快得多；它直接连接相距很远的位置，而循环网络会遗忘。",
    ),
    fixed=Bilingual(
        "Parameters within a tenth, equal rows, steps and learning rate; every timed step has equally many tokens, whatever "
        "the length.",
        "参数量相差不到一成，训练行、步数和学习率相同；无论长度多少，每个计时步的词元数相同。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "parallel",
            Bilingual(
                "on the longest rows the Transformer trains on more than twice as many tokens per second as the recurrent model.",
                "在最长的行上，Transformer 每秒训练的词元数是循环模型的两倍以上。",
            ),
            lambda n: n["speed_ratio"][-1] > 2,
        ),
        Claim(
            "the more the longer",
            Bilingual(
                "its lead grows with length, because a recurrent network takes the positions of a row one after the other.",
                "它的领先随长度增大，因为循环网络只能逐个处理一行中的位置。",
            ),
            lambda n: n["speed_ratio"][-1] > 1.5 * n["speed_ratio"][0],
        ),
        Claim(
            "distance",
            Bilingual(
                "over the longest distance the Transformer copies far more symbols than the recurrent model with a fixed vector.",
                "在最远的距离上，Transformer 正确复制的符号远多于使用固定向量的循环模型。",
            ),
            lambda n: n["copied_transformer"][-1] > n["copied_rnn"][-1] + 0.25,
        ),
        Limit(
            "attention is enough",
            Bilingual(
                "a recurrent model with attention copies over that distance as well: attention between the sides bridges it, and "
                "recurrent models had it before the Transformer. What the Transformer adds is the parallel training.",
                "带注意力的循环模型同样能跨越这一距离：起作用的是两侧之间的注意力，循环模型早在 Transformer 之前就有了。"
                "Transformer 新增的是并行训练。",
            ),
            lambda n: n["copied_rnn_attention"][-1] > n["copied_rnn"][-1] + 0.25,
        ),
    ),
    measure=measure,
    draw=draw,
)
