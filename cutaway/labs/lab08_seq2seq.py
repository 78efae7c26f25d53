"""Topic 8: sequence to sequence. Pairs whose sides differ in length; a fixed vector between the sides against attention.

The pairs are lists of numbers from 0 to 99, English words to Chinese numerals ("twenty, seven" to "二十，七"): a translation
whose right answer is known, with as many pairs of every length as wanted, and too many lists to learn by heart.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cutaway.data.examples import Skipped
from cutaway.data.pairs import Pair, collate_pairs, encode
from cutaway.data.rows import RowStream, split
from cutaway.decode.beam import Beam
from cutaway.infer.translate import translate
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit
from cutaway.models.families import make_model
from cutaway.models.rnn import RNNSeq2Seq
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.objectives import seq2seq_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENGLISH = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
CHINESE = "零一二三四五六七八九"
WIDTHS = {"none": 72, "dot": 64}  # equal parameters within a tenth: attention has a matrix of its own
LONGEST = 64  # tokens of a side


@dataclass(frozen=True)
class Task:
    """Pairs to learn from, held-out pairs by the numbers in the list, and the tokeniser of both sides."""

    training: list[Pair]
    held_out: dict[int, list[Pair]]
    tokenizer: Tokenizer


def measure(setting: Setting) -> Numbers:
    longest, count, steps = (4, 4_500, 420) if setting.quick else (8, 20_000, 2_500)
    task = make_task(longest, count, setting.seed)
    fixed, attention = (trained(task, score, steps, setting.seed) for score in WIDTHS)
    held_out = [pair for pairs in task.held_out.values() for pair in pairs]
    return {
        "numbers_in_list": list(task.held_out),
        "source_tokens": [_mean(len(pair.source) for pair in pairs) for pairs in task.held_out.values()],
        "equally_long": _mean(len(pair.source) == len(pair.target) for pair in held_out),
        "parameters_fixed": _parameters(fixed),
        "parameters_attention": _parameters(attention),
        "exact_fixed": [exact(fixed, pairs, task.tokenizer) for pairs in task.held_out.values()],
        "exact_attention": [exact(attention, pairs, task.tokenizer) for pairs in task.held_out.values()],
        "memory_fixed": [memory(fixed, pairs) for pairs in task.held_out.values()],
        "memory_attention": [memory(attention, pairs) for pairs in task.held_out.values()],
    }


def in_english(number: int) -> str:
    """0 to 99 in words.

    >>> in_english(42), in_english(7)
    ('forty two', 'seven')
    """
    if number < len(ENGLISH):
        return ENGLISH[number]
    tens, ones = divmod(number, 10)
    return f"{TENS[tens - 2]} {ENGLISH[ones]}" if ones else TENS[tens - 2]


def in_chinese(number: int) -> str:
    """0 to 99 in numerals.

    >>> in_chinese(42), in_chinese(10), in_chinese(7)
    ('四十二', '十', '七')
    """
    tens, ones = divmod(number, 10)
    if not tens:
        return CHINESE[ones]
    return (CHINESE[tens] if tens > 1 else "") + "十" + (CHINESE[ones] if ones else "")


def make_task(longest: int, count: int, seed: int) -> Task:
    """Lists of 1 to `longest` numbers; a tenth of the sources is held out, and never seen in training."""
    draw = random.Random(seed)
    lists = [[draw.randrange(100) for _ in range(draw.randint(1, longest))] for _ in range(count)]
    texts = [(", ".join(map(in_english, one)), "，".join(map(in_chinese, one))) for one in lists]
    training, held_out = split(texts, 0.1, lambda pair: pair[0])
    tokenizer = train_tokenizer(
        [side for pair in training for side in pair], TrainTokenizerConfig(kind="wordpiece", vocab_size=260)
    )
    by_numbers = {n: [pair for pair in held_out if pair[0].count(",") == n - 1] for n in range(1, longest + 1)}
    return Task(
        encode([*enumerate(training, 1)], tokenizer, LONGEST, Skipped()),
        {n: encode([*enumerate(pairs, 1)], tokenizer, LONGEST, Skipped()) for n, pairs in by_numbers.items()},
        tokenizer,
    )


def trained(task: Task, score: str, steps: int, seed: int) -> RNNSeq2Seq:
    """A recurrent encoder-decoder with the attention `score`, trained on the task."""
    torch.manual_seed(seed)
    start, pad = _start(task.tokenizer), task.tokenizer.pad_id or 0
    model = make_model(
        {
            "model_type": "rnn_seq2seq",
            "vocab_size": task.tokenizer.vocab_size,
            "hidden_size": WIDTHS[score],
            "num_layers": 1,
            "attention_score": score,
            "decoder_start_token_id": start,
        }
    )
    assert isinstance(model, RNNSeq2Seq)
    batches = RowStream(
        task.training, lambda some, drawn: collate_pairs(some, start, pad), 48, seed, lambda pair: len(pair.source)
    )
    fit(model, seq2seq_lm, batches, steps, lr=5e-3)
    return model


def exact(model: RNNSeq2Seq, pairs: Sequence[Pair], tokenizer: Tokenizer) -> float:
    """Share of the sources whose greedy translation has no error."""
    end, start = tokenizer.eos_id, _start(tokenizer)
    assert end is not None
    found = translate(model, [pair.source for pair in pairs], Beam(width=1), [end], start, LONGEST)
    return _mean(best[0].ids == pair.target for best, pair in zip(found, pairs, strict=True))


@torch.inference_mode()
def memory(model: RNNSeq2Seq, pairs: Sequence[Pair]) -> float:
    """How many numbers the decoder gets of one source, on average."""
    return _mean(model.encode(torch.tensor([pair.source])).numel() for pair in pairs[:20])


def _start(tokenizer: Tokenizer) -> int:
    assert tokenizer.bos_id is not None
    return tokenizer.bos_id


def _parameters(model: RNNSeq2Seq) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label in (("fixed", "one fixed vector"), ("attention", "attention")):
        left.plot(numbers["source_tokens"], numbers[f"exact_{name}"], "o-", label=label)
        right.plot(numbers["source_tokens"], numbers[f"memory_{name}"], "o-", label=label)
    left.set(xlabel="tokens of the source", ylabel="translated without an error (share)", ylim=(-0.03, 1.03))
    right.set(xlabel="tokens of the source", ylabel="numbers the decoder gets", ylim=(0, None))
    left.legend()
    right.legend()
    return figure


LAB = Lab(
    id=8,
    title=Bilingual("Sequence to sequence", "序列到序列"),
    claim=Bilingual(
        "An encoder compresses the input sequence into one vector of fixed size, and a decoder writes from it an output "
        "sequence, which may have another length.",
        "编码器把输入序列压缩成一个固定大小的向量，解码器再由它写出输出序列，两者长度可以不同。",
    ),
    fixed=Bilingual(
        "Training pairs, their order, steps and learning rate are equal; parameters are equal within a tenth.",
        "训练句对、顺序、步数和学习率相同；参数量相差不到一成。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "another length",
            Bilingual(
                "with attention most held-out lists are translated without an error, although most targets are not as long as "
                "their source.",
                "带注意力的模型把多数留出的句子译得毫无错误，尽管多数译文与原文长度不同。",
            ),
            lambda n: sum(n["exact_attention"]) / len(n["exact_attention"]) > 0.6 and n["equally_long"] < 0.5,
        ),
        Claim(
            "a vector is enough for little",
            Bilingual(
                "one fixed vector carries a single number: most are translated without an error.",
                "一个固定向量装得下单独一个数：多数译得毫无错误。",
            ),
            lambda n: n["exact_fixed"][0] > 0.5,
        ),
        Limit(
            "a vector is too little for more",
            Bilingual(
                "as the source grows the fixed vector fails and attention does not: compressing into one vector is the design "
                "from before attention.",
                "原文变长时固定向量失效，而注意力不会：压缩成一个向量是注意力出现之前的设计。",
            ),
            lambda n: n["exact_attention"][-1] > n["exact_fixed"][-1] + 0.3,
        ),
        Limit(
            "nothing is compressed",
            Bilingual(
                "with attention the decoder gets more, the longer the source is; nothing is pressed into a fixed size.",
                "有注意力时，原文越长，解码器得到的信息越多，并没有压缩到固定大小。",
            ),
            lambda n: n["memory_attention"][-1] > 2 * n["memory_attention"][0],
        ),
    ),
    measure=measure,
    draw=draw,
)
