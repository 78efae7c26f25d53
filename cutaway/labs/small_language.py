"""A small language whose probabilities are known: English-like sentences with agreement over a distance and classes of words.

    today the old crews near the market near the tall bridges paint these red chairs now .

The first word sets the tense and the subject the number; the verb shows both, after any number of places in between, and the last
word the tense again. The verb belongs to one trade, which the object follows. Half the subjects have a trade too; the others may
do anything, and what they do is known only from the verb behind them.

The grammar says at each word how likely the next ones are, so drawing, judging and scoring a sentence are one walk.
"""

import math
import random
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass

Options = Mapping[str, float]
"""The words that may come next, with their probabilities."""

_TENSES = ("today", "yesterday")
TRADES = ("sea", "farm", "kitchen", "workshop")
_SUBJECTS = {
    "sea": ("sailor", "diver"),
    "farm": ("farmer", "miller"),
    "kitchen": ("cook", "baker"),
    "workshop": ("smith", "mason"),
}
_ANY_TRADE = ("crew", "friend", "guest", "stranger")
_VERBS = {
    "sea": ("anchor", "load"),
    "farm": ("plant", "weed"),
    "kitchen": ("boil", "salt"),
    "workshop": ("paint", "mend"),
}
_OBJECTS = {
    "sea": ("boat", "raft", "ship"),
    "farm": ("garden", "tree", "vine"),
    "kitchen": ("carrot", "onion", "egg"),
    "workshop": ("chair", "door", "wheel"),
}
_PLACES = ("market", "harbour", "bridge", "tower")
_ADJECTIVES = ("old", "small", "red", "heavy")
_OWN_TRADE, _PLACE, _ADJECTIVE = 0.5, 0.5, 0.2  # how likely: a subject with a trade, one more place, an adjective
MOST_PLACES = 4
"""Between subject and verb."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of the language.

    Args:
        words: with the full stop.
        nats: minus the logarithm of the probability of every word after those before it.
        subject, verb: places among the words.
        trade: the verb's.
        own: whether the subject already tells the trade.
    """

    words: tuple[str, ...]
    nats: tuple[float, ...]
    subject: int
    verb: int
    trade: str
    own: bool

    @property
    def text(self) -> str:
        """The words, a space before each, so that a word is the same token wherever it stands."""
        return _text(self.words)

    @property
    def text_with_other_tense(self) -> str:
        """The same with the other first word: the verb does not agree with it, and no word by itself tells."""
        return _text((next(word for word in _TENSES if word != self.words[0]), *self.words[1:]))


def sentences(count: int, seed: int) -> list[Sentence]:
    """Independent sentences."""
    draw = random.Random(seed)
    return [_walk(lambda options: draw.choices(list(options), list(options.values()))[0]) for _ in range(count)]


def parse(text: str) -> Sentence | None:
    """The sentence that a text is, or None where the language has no such sentence."""
    words = iter(text.split())
    try:
        sentence = _walk(lambda options: next(words))
    except (KeyError, StopIteration):
        return None
    return sentence if next(words, None) is None else None


def _walk(choose: Callable[[Options], str]) -> Sentence:
    """Go through the grammar. KeyError: a word was chosen that may not come there."""
    grammar, words, nats = _grammar(), [], []
    options = next(grammar)
    while True:
        word = choose(options)
        nats.append(-math.log(options[word]))
        words.append(word)
        try:
            options = grammar.send(word)
        except StopIteration as end:
            subject, verb, trade, own = end.value
            return Sentence(tuple(words), tuple(nats), words.index(subject), words.index(verb), trade, own)


def _grammar() -> Generator[Options, str, tuple[str, str, str, bool]]:
    """Yields what may come next and is sent what came; returns subject, verb, trade, and whether the subject tells the trade."""
    past = (yield _even(_TENSES)) == "yesterday"
    yield {"the": 1.0}
    own = {noun: trade for trade, nouns in _SUBJECTS.items() for noun in nouns}
    nouns = {**_scaled(_even(own), _OWN_TRADE), **_scaled(_even(_ANY_TRADE), 1 - _OWN_TRADE)}
    subject, noun, plural = yield from _phrase(nouns, (False, True))
    trades = (own[noun],) if noun in own else TRADES
    trade_of = {verb + _ending(past, plural): trade for trade in trades for verb in _VERBS[trade]}
    verbs, places = _even(trade_of), 0
    near = {"near": _PLACE, **_scaled(verbs, 1 - _PLACE)}
    while (verb := (yield near if places < MOST_PLACES else verbs)) == "near":
        yield {"the": 1.0}
        yield from _phrase(_even(_PLACES), (False, True))
        places += 1
    these = (yield _even(("this", "these"))) == "these"
    yield from _phrase(_even(_OBJECTS[trade_of[verb]]), (these,))
    yield {"then" if past else "now": 1.0}
    yield {".": 1.0}
    return subject, verb, trade_of[verb], noun in own


def _phrase(nouns: Options, plurals: tuple[bool, ...]) -> Generator[Options, str, tuple[str, str, bool]]:
    """Adjectives and a noun, plural as `plurals` allows: what was said, the noun itself, and whether it is plural."""
    forms = {noun + "s" * plural: (noun, plural) for noun in nouns for plural in plurals}
    of_form = {form: (1 - _ADJECTIVE) * nouns[noun] / len(plurals) for form, (noun, _) in forms.items()}
    options = {**_scaled(_even(_ADJECTIVES), _ADJECTIVE), **of_form}
    while (word := (yield options)) not in forms:
        pass
    return word, *forms[word]


def _ending(past: bool, plural: bool) -> str:
    return "ed" if past else "" if plural else "s"


def _even(words: Iterable[str]) -> dict[str, float]:
    found = list(words)
    return dict.fromkeys(found, 1 / len(found))


def _scaled(options: Options, factor: float) -> dict[str, float]:
    return {word: factor * probability for word, probability in options.items()}


def _text(words: Iterable[str]) -> str:
    return "".join(f" {word}" for word in words)
