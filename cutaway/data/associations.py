"""How often a text names groups of people, and which words it names them with.

Two words are associated when sentences hold both more often than by chance: pointwise mutual information (Church and Hanks,
1990), log2 of p(group, word) / p(group) p(word), over sentences. As PMI says nothing of how sure it is, each word also has the z
score of its log odds between a group and the others (with Haldane's 1/2 added to each count): beyond ±2 it is seldom chance.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import regex

from cutaway.core.errors import DataError, near_matches
from cutaway.data.counterfactual import own_pairs
from cutaway.data.word_table import finder, read_json

_SENTENCE = regex.compile(r"[.!?。！？\n]+")
_KEYS = ("groups", "words", "not")
_OWN_WORDS = """nurse doctor engineer teacher secretary manager lawyer scientist cook cleaner driver soldier officer leader farmer
merchant writer artist housekeeper programmer president beautiful pretty handsome strong weak gentle kind brave clever stupid
rational emotional angry ambitious family home children kitchen marriage career business money power science art war love
护士 医生 工程师 教师 老师 秘书 经理 律师 科学家 厨师 保姆 司机 士兵 将军 领导 农民 商人 作家 程序员 美丽 漂亮 英俊 坚强 软弱
温柔 善良 勇敢 聪明 理性 感性 家庭 孩子 厨房 婚姻 事业 金钱 权力 科学 艺术 战争 爱情"""


@dataclass(frozen=True)
class Lexicon:
    """What to look for.

    Args:
        groups: the words of each group.
        words: the words of interest.
        ignored: longer words that words of groups must not be found in.
    """

    groups: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lean:
    """A word of interest and a group: `together` sentences hold both. `pmi` is in bits, None when none does."""

    together: int
    pmi: float | None
    z: float


class Associations:
    """Counts of groups and words over sentences."""

    def __init__(self, lexicon: Lexicon):
        self._lexicon = lexicon
        self._group = {word.casefold(): name for name, listed in lexicon.groups.items() for word in listed}
        self._words = {word.casefold() for word in lexicon.words}
        self._find = finder({*self._group, *self._words, *lexicon.ignored}, folded=True)
        self.sentences = 0
        self.mentions: Counter[str] = Counter()
        self._groups: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._together: Counter[tuple[str, str]] = Counter()

    def add(self, text: str) -> None:
        """Count the sentences of a text."""
        for sentence in _SENTENCE.split(text.casefold()):
            if not sentence.strip():
                continue
            self.sentences += 1
            found = self._find.findall(sentence)
            named = [self._group[one] for one in found if one in self._group]
            words = self._words.intersection(found)
            self.mentions.update(named)
            self._groups.update(set(named))
            self._found.update(words)
            self._together.update((group, word) for group in set(named) for word in words)

    def report(self, least: int) -> dict[str, Any]:
        """Per group the mentions and the sentences with one; the associations of words in at least `least` sentences that
        name a group, the surest first."""
        beside: Counter[str] = Counter()
        for (_, word), count in self._together.items():
            beside[word] += count
        listed: list[dict[str, Any]] = [
            {"word": word, "groups": {group: asdict(self._lean(word, group)) for group in self._lexicon.groups}}
            for word in sorted(beside)
            if beside[word] >= least
        ]
        listed.sort(key=lambda one: -max(abs(lean["z"]) for lean in one["groups"].values()))
        return {
            "sentences": self.sentences,
            "groups": {
                name: {"mentions": self.mentions[name], "sentences": self._groups[name]}
                for name in self._lexicon.groups
            },
            "associations": listed,
        }

    def _lean(self, word: str, group: str) -> Lean:
        together, with_group, with_word = self._together[group, word], self._groups[group], self._found[word]
        others = [name for name in self._lexicon.groups if name != group]
        beside = sum(self._together[name, word] for name in others)
        table = [together, with_group - together, beside, sum(self._groups[name] for name in others) - beside]
        a, b, c, d = (count + 0.5 for count in table)
        z = math.log(a * d / (b * c)) / math.sqrt(1 / a + 1 / b + 1 / c + 1 / d) if others else 0.0
        pmi = math.log2(together * self.sentences / (with_group * with_word)) if together else None
        return Lean(together, pmi, z)


def own_lexicon() -> Lexicon:
    """What Cutaway brings: men and women, occupations, traits and walks of life, in English and Chinese."""
    pairs = [(one, other) for one, other in own_pairs() if one != other]
    return Lexicon(
        {"male": tuple(one for one, _ in pairs), "female": tuple(other for _, other in pairs)},
        tuple(_OWN_WORDS.split()),
        tuple(one for one, other in own_pairs() if one == other),
    )


def read_lexicon(path: Path) -> Lexicon:
    """The user's: `{"groups": {"old": ["old", "elderly"], "young": […]}, "words": ["wise", …], "not": ["years old"]}`. Without
    `words`, Cutaway's own are looked for.

    Raises:
        DataError: no such file, not JSON, not of this form, or a word in two groups.
    """

    def fault(message: str, hint: str | None = None) -> DataError:
        return DataError(message, field="groups", value=str(path), hint=hint)

    def listed(words: Any, name: str) -> tuple[str, ...]:
        if not isinstance(words, list) or not words or not all(isinstance(one, str) and one.strip() for one in words):
            raise fault(f"{name} is not a list of words", f"it is {str(words)[:60]}")
        return tuple(one.strip() for one in words)

    value = read_json(path)
    if not isinstance(value, Mapping) or not isinstance(value.get("groups"), Mapping) or not value["groups"]:
        raise fault("names no groups", '{"groups": {"old": ["old", "elderly"], "young": ["young"]}, "words": ["wise"]}')
    for key in value:
        if key not in _KEYS:
            raise fault(f"unknown key {key}", near_matches(key, _KEYS))
    groups = {name: listed(words, f"groups.{name}") for name, words in value["groups"].items()}
    words = listed(value["words"], "words") if "words" in value else own_lexicon().words
    count = Counter(word for one in groups.values() for word in {word.casefold() for word in one})
    if twice := [word for word, times in count.items() if times > 1]:
        raise fault(f"{twice[0]} is in two groups")
    return Lexicon(groups, words, listed(value["not"], "not") if "not" in value else ())
