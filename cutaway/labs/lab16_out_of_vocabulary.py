"""Topic 16: out-of-vocabulary. Words no tokeniser was trained on, through each kind, beside a vocabulary of whole words."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.guide_text import guide
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUPS = ("held_out", "invented", "misspelt", "emoji", "scripts")
SUBWORD = ("bpe", "wordpiece", "unigram", "unigram_bytes")
INVENTED = ["untokenisable", "hypergradient", "microlearned", "overfitter", "resamplable", "promptwright", "multihop"]
EMOJI = ["👍", "🎉", "🤖", "👩\u200d🔬", "🇨🇳", "☃️", "🦙", "🧠"]
SCRIPTS = ["γλώσσα", "язык", "भाषा", "لغة", "언어", "שפה", "ภาษา", "ენა"]


def measure(setting: Setting) -> Numbers:
    train, held_out = guide(setting.seed)
    texts = [text for pages in train.values() for text in pages]
    seen = set(_words("\n".join(texts)))
    english = sorted(set(_words("\n".join(held_out["en"]))))
    invented = [word for word in INVENTED if word not in seen]
    groups = dict(zip(GROUPS, (english, invented, _misspelt(english, seen, setting.seed), EMOJI, SCRIPTS), strict=True))
    numbers: dict[str, list[float]] = {
        "word_unknown_rate": [_share(words, lambda word: word not in seen) for words in groups.values()]
    }
    for name in SUBWORD:
        tokenizer = _train(name, texts)
        rates = [_share(words, lambda word, t=tokenizer: _is_unknown(t, word)) for words in groups.values()]  # type: ignore[misc]
        numbers[f"{name}_unknown_rate"] = rates
        numbers[f"{name}_tokens_per_word"] = [
            sum(len(tokenizer.encode(" " + word)) for word in words) / len(words) for words in groups.values()
        ]
    return {"groups": list(GROUPS), **numbers}


def _train(name: str, texts: list[str]) -> Tokenizer:
    kind = name.removesuffix("_bytes")
    values = {"kind": kind, "vocab_size": 2000, "character_coverage": 0.98, "byte_fallback": name.endswith("_bytes")}
    return train_tokenizer(texts, TrainTokenizerConfig.model_validate(values))


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+", text)


def _misspelt(words: Sequence[str], seen: set[str], seed: int) -> list[str]:
    """Words with two neighbouring letters swapped that nobody wrote before."""
    draw = random.Random(seed)
    swapped = []
    for word in words:
        if len(word) > 4:
            i = draw.randrange(1, len(word) - 2)
            swapped.append(word[:i] + word[i + 1] + word[i] + word[i + 2 :])
    return [word for word in swapped if word not in seen and word not in words]


def _is_unknown(tokenizer: Tokenizer, word: str) -> bool:
    return tokenizer.unk_id is not None and tokenizer.unk_id in tokenizer.encode(word)


def _share(words: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, words)) / len(words)


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    unknown, length = figure.subplots(1, 2)
    for place, name in enumerate(("word", *SUBWORD)):
        at = [i + 0.16 * (place - 2) for i in range(len(GROUPS))]
        unknown.bar(at, numbers[f"{name}_unknown_rate"], 0.15, color=f"C{place}", label=name)
        if name != "word":
            length.bar(at, numbers[f"{name}_tokens_per_word"], 0.15, color=f"C{place}")
    for axes, title in ((unknown, "words with an unknown token"), (length, "tokens per word")):
        axes.set_xticks(range(len(GROUPS)), [group.replace("_", " ") for group in GROUPS])
        axes.set(title=title)
    figure.legend(fontsize=7, loc="outside right center")
    return figure


LAB = Lab(
    id=16,
    title=Bilingual("Out-of-vocabulary words", "词表外的词"),
    claim=Bilingual(
        "Subword tokenisers handle words outside the vocabulary by splitting them into known pieces; a vocabulary of whole "
        "words loses them.",
        "子词分词器把词表外的词拆成已知的片段；而整词词表会丢失它们。",
    ),
    fixed=Bilingual(
        "All learn from the same pages; the groups of words are the same for all.",
        "全部在相同页面上训练；各组词对所有分词器相同。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "words_lost",
            Bilingual(
                "a vocabulary of whole words knows none of the invented and misspelt words.",
                "整词词表不认识任何自造词和拼错的词。",
            ),
            lambda n: n["word_unknown_rate"][1] == n["word_unknown_rate"][2] == 1.0,
        ),
        Claim(
            "subwords",
            Bilingual(
                "every subword tokeniser loses fewer held-out, invented and misspelt English words than the vocabulary of whole "
                "words.",
                "每种子词分词器丢失的未见、自造和拼错的英文词都少于整词词表。",
            ),
            lambda n: all(
                n[f"{name}_unknown_rate"][g] < n["word_unknown_rate"][g] for name in SUBWORD for g in range(3)
            ),
        ),
        Claim(
            "bytes",
            Bilingual(
                "with bytes underneath (byte-level BPE, Unigram with byte fallback) nothing at all is unknown.",
                "以字节为底（字节级 BPE、带字节回退的 Unigram）时没有任何未知。",
            ),
            lambda n: not any(n["bpe_unknown_rate"]) and not any(n["unigram_bytes_unknown_rate"]),
        ),
        Limit(
            "characters",
            Bilingual(
                "without bytes, emoji and scripts that were not in the training text are lost.",
                "没有字节时，训练文本中没有的表情符号和文字会丢失。",
            ),
            lambda n: min(n[f"{name}_unknown_rate"][g] for name in ("wordpiece", "unigram") for g in (3, 4)) > 0.5,
        ),
        Limit(
            "length",
            Bilingual(
                "known is not cheap: a word in an unseen script takes more than twice the tokens of a held-out English word.",
                "认识不等于便宜：未见文字的一个词所需词元是未见英文词的两倍以上。",
            ),
            lambda n: n["bpe_tokens_per_word"][4] > 2 * n["bpe_tokens_per_word"][0],
        ),
    ),
    measure=measure,
    draw=draw,
)
