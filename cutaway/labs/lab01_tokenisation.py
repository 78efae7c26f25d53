"""Topic 1: tokenisation. Three kinds of subword tokeniser on unseen English and Chinese, and what a vocabulary costs."""

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast, get_args

import torch

from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.guide_text import guide
from cutaway.labs.timing import fastest_ms
from cutaway.text.report import fit
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import Kind, TrainTokenizerConfig, train_tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = get_args(Kind)
SIZES = (1_500, 1_800, 2_100)
HEADS = (4_096, 16_384, 65_536)  # vocabularies whose output head is timed
WIDTH, POSITIONS = 576, 64


def measure(setting: Setting) -> Numbers:
    train, held_out = guide(setting.seed)
    texts = [text for pages in train.values() for text in pages]
    numbers: dict[str, list[float]] = {}
    for kind in KINDS:
        for size in SIZES:
            tokenizer = _train(kind, size, texts)
            numbers.setdefault(f"{kind}_vocab", []).append(tokenizer.vocab_size)
            for language, pages in held_out.items():
                found = fit(tokenizer, "\n".join(pages))
                numbers.setdefault(f"{kind}_{language}_bytes_per_token", []).append(found.bytes_per_token)
                numbers.setdefault(f"{kind}_{language}_unknown_rate", []).append(found.unknown_rate)
                if language == "en":  # Chinese does not mark words
                    numbers.setdefault(f"{kind}_en_tokens_per_word", []).append(found.tokens_per_word)
    strings = 500 if setting.quick else 5_000
    return {
        **numbers,
        "sizes": list(SIZES),
        "byte_strings": strings,
        "byte_strings_not_returned": _not_returned(_train("bpe", SIZES[0], texts), strings, setting.seed),
        "heads": list(HEADS),
        "head_mparams": [size * WIDTH / 1e6 for size in HEADS],
        "head_ms": [_head_ms(size) for size in HEADS],
    }


def _train(kind: str, size: int, texts: list[str]) -> Tokenizer:
    config = TrainTokenizerConfig(kind=cast(Kind, kind), vocab_size=size, character_coverage=0.98, byte_fallback=False)
    return train_tokenizer(texts, config)


def _not_returned(tokenizer: Tokenizer, count: int, seed: int) -> int:
    """How many random byte strings, most of them no UTF-8, do not come back exactly."""
    draw = random.Random(seed)
    strings = [draw.randbytes(draw.randint(0, 64)) for _ in range(count)]
    return sum(tokenizer.decode_bytes(tokenizer.encode_bytes(data)) != data for data in strings)


def _head_ms(vocab: int) -> float:
    """Milliseconds for the logits and softmax of some positions."""
    h, weight = torch.randn(POSITIONS, WIDTH), torch.randn(vocab, WIDTH)
    return fastest_ms(lambda: (h @ weight.T).softmax(-1), times=5)[0]


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    length, unknown, cost = figure.subplots(1, 3)
    for kind in KINDS:
        for language, line in (("en", "-"), ("zh", "--")):
            label = f"{kind}, {language}"
            vocab = numbers[f"{kind}_vocab"]
            length.plot(vocab, numbers[f"{kind}_{language}_bytes_per_token"], line, marker="o", label=label)
            unknown.plot(vocab, numbers[f"{kind}_{language}_unknown_rate"], line, marker="o", label=label)
    length.set(xlabel="vocabulary", ylabel="bytes per token", title="held-out text")
    figure.legend(*length.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=7)
    unknown.set(xlabel="vocabulary", ylabel="share of unknown tokens", title="held-out text")
    cost.loglog(numbers["heads"], numbers["head_ms"], marker="o")
    cost.set_xticks(numbers["heads"], [f"{head:,}" for head in numbers["heads"]], minor=False)
    cost.set_xticks([], minor=True)
    cost.set(xlabel="vocabulary", ylabel="ms for logits and softmax", title=f"{POSITIONS} positions, width {WIDTH}")
    return figure


LAB = Lab(
    id=1,
    title=Bilingual("Tokenisation", "分词"),
    claim=Bilingual(
        "Subword tokens let a model read any text in any language with a vocabulary of fixed size; a larger vocabulary "
        "makes texts shorter.",
        "子词词元使模型能用固定大小的词表读任何语言的任何文本；词表越大，文本越短。",
    ),
    fixed=Bilingual(
        "All tokenisers learn from the same pages and are measured on the same pages, which none of them has seen.",
        "各分词器在相同页面上训练，并在相同的、均未见过的页面上测量。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "shorter",
            Bilingual(
                "for each kind and language, the largest vocabulary gives more bytes per token than the smallest.",
                "对每种分词器和语言，最大的词表比最小的词表每词元字节更多。",
            ),
            lambda n: all(
                n[f"{kind}_{language}_bytes_per_token"][-1] > n[f"{kind}_{language}_bytes_per_token"][0]
                for kind in KINDS
                for language in ("en", "zh")
            ),
        ),
        Claim(
            "any_text",
            Bilingual(
                "byte-level BPE has no unknown token, and every byte string comes back exactly.",
                "字节级 BPE 没有未知词元，任何字节串都能精确还原。",
            ),
            lambda n: (
                n["byte_strings_not_returned"] == 0
                and not any(n["bpe_en_unknown_rate"])
                and not any(n["bpe_zh_unknown_rate"])
            ),
        ),
        Limit(
            "characters",
            Bilingual(
                "tokenisers that begin with characters meet unknown ones in Chinese they have not seen.",
                "以字符为起点的分词器在未见过的中文里会遇到未知字符。",
            ),
            lambda n: n["wordpiece_zh_unknown_rate"][-1] > 0 and n["unigram_zh_unknown_rate"][-1] > 0,
        ),
        Limit(
            "cost",
            Bilingual(
                "a vocabulary sixteen times as large makes the output head at least twice as slow.",
                "词表大十六倍，输出层至少慢一倍。",
            ),
            lambda n: n["head_ms"][-1] > 2 * n["head_ms"][0],
        ),
    ),
    measure=measure,
    draw=draw,
)
