"""More training texts from those there are: words dropped, swapped or replaced by synonyms, or the counterfactual text.

    for record in augment(read_records("in.jsonl"), AugmentConfig(method="dropout", share=0.1)): ...

Every copy draws from a generator of its own, made of the seed, the record's number and the copy's: the same stream gives the same
texts. In conversations only what the assistant reads is made noisy; its replies are what is learned, and stay as they are.
Counterparts replace words on both sides.

Sources: dropout, Iyyer et al. (2015), Deep Unordered Composition; synonyms, Wei and Zou (2019), EDA; swaps of neighbours, Lample
et al. (2018), unlike EDA's of any two words, which lose the meaning; back-translation, Sennrich et al. (2016).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import regex
from pydantic import Field, model_validator

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError, DataError
from cutaway.data.counterfactual import Counterparts, own_pairs, pairs_of
from cutaway.data.read import Record
from cutaway.data.units import Unit, kind_of, units, word_spans
from cutaway.data.word_table import finder, like, read_table

Translate = Callable[[list[str]], list[str]]

_READ = ("text", "text_pair", "instruction", "input", "prompt", "source", "anchor")
_LEARNED = ("output", "completion", "response", "chosen", "rejected", "target", "positive", "negative")
_ASSISTANT = ("assistant", "gpt", "bing", "function_call")
_GROUP = 256  # records translated together


class AugmentConfig(Config):
    """How texts are changed."""

    method: Literal["dropout", "swap", "synonyms", "counterfactual", "back-translation"]
    by: Unit = Field("record", description="cut text files into paragraphs or lines first, each a record of its own")
    share: float = Field(0.1, gt=0, lt=1, description="of the words that could be changed, how many are, on average")
    copies: int = Field(1, ge=1, description="changed texts per record")
    keep: bool = Field(True, description="write the record as it is, too")
    table: Path | None = Field(None, description="synonyms, or pairs of counterparts: JSON, or lines with tabs")
    own: bool = Field(True, description="counterparts: use Cutaway's own pairs beside those of the table")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> "AugmentConfig":
        if self.method in ("counterfactual", "back-translation") and self.copies > 1:
            raise ValueError(f"copies must be 1 with method={self.method}: a text has only one such copy")
        if self.method == "counterfactual" and not (self.own or self.table):
            raise ValueError("method=counterfactual with own=false needs table=FILE")
        if self.method == "synonyms" and self.table is None:
            raise ValueError("method=synonyms needs table=FILE of words and their synonyms")
        if self.method in ("dropout", "swap", "back-translation") and self.table is not None:
            raise ValueError(f"method={self.method} takes no table")
        return self


def augment(
    records: Iterable[Record], config: AugmentConfig, there: Translate | None = None, back: Translate | None = None
) -> Iterator[Record]:
    """The records, each followed by those of its changed copies that are new.

    Args:
        there, back: into another language and back; what `back-translation` needs.

    Raises:
        ConfigError: `back-translation` without them, or another method with one.
        DataError: a record is malformed, the table cannot be read, or a translation has not as many texts as it was given.
    """
    wanted = 2 if config.method == "back-translation" else 0
    if (there is not None) + (back is not None) != wanted:
        message = "needs two translations, there and back" if wanted else "takes no translation"
        raise ConfigError(message, field="method", value=config.method)
    cut = _checked(units(records, config.by))
    copies = _back_translated(cut, there, back) if there and back else _copies(cut, config)
    for record, made in copies:
        new = [value for place, value in enumerate(made) if value not in (record.value, *made[:place])]
        yield from (Record(value, record.where) for value in ([record.value] if config.keep else []) + new)


def rewrite(value: Any, change: Callable[[str], str], replies: bool) -> Any:
    """A record with its texts changed, whatever its shape; those of the assistant only if `replies`."""
    if isinstance(value, str):
        return change(value)
    if not isinstance(value, Mapping):
        return value
    keys = _READ + _LEARNED if replies else _READ
    out = {key: change(inner) if key in keys and isinstance(inner, str) else inner for key, inner in value.items()}
    for turns, role, content in (("messages", "role", "content"), ("conversations", "from", "value")):
        if isinstance(value.get(turns), list):
            out[turns] = [
                {**turn, content: change(turn[content])}
                if isinstance(turn.get(content), str) and (replies or turn.get(role) not in _ASSISTANT)
                else turn
                for turn in value[turns]
            ]
    return out


def drop_words(text: str, share: float, draw: np.random.Generator) -> str:
    """The text with each word dropped with probability `share`, and the space before it (after it, where a line begins); one
    word always stays."""
    words, gaps = _split(text)
    dropped = draw.random(len(words)) < share
    if len(words) and dropped.all():
        dropped[draw.integers(len(words))] = False
    begins = True  # nothing stands on this line yet
    for place in np.flatnonzero(dropped):
        words[place], gaps[place] = "", gaps[place].rstrip(" \t")
        begins = gaps[place].endswith("\n") or (not gaps[place] and (place == 0 or (begins and not words[place - 1])))
        if begins:
            gaps[place + 1] = gaps[place + 1].lstrip(" \t")
    return _join(words, gaps)


def swap_words(text: str, share: float, draw: np.random.Generator) -> str:
    """The text with neighbouring words swapped, each word in at most one swap, so that about `share` of them move."""
    words, gaps = _split(text)
    chosen = draw.random(len(words)) < share / (2 - share)  # of the words that are still free
    place = 0
    while place < len(words) - 1:
        if chosen[place]:
            words[place], words[place + 1] = words[place + 1], words[place]
        place += 2 if chosen[place] else 1
    return _join(words, gaps)


class Synonyms:
    """Replacing words by synonyms.

    Args:
        table: words, and what may stand for each.
    """

    def __init__(self, table: Mapping[str, Sequence[str]]):
        self._table = {word.casefold(): list(others) for word, others in table.items()}
        self._find = finder(self._table)

    def replace(self, text: str, share: float, draw: np.random.Generator) -> str:
        """The text with each word of the table replaced by one of its synonyms with probability `share`."""

        def replaced(match: regex.Match) -> str:
            others = self._table.get(match[0].casefold(), [match[0]])
            return like(others[draw.integers(len(others))], match[0]) if draw.random() < share else match[0]

        return self._find.sub(replaced, text)


def back_translate(texts: list[str], there: Translate, back: Translate) -> list[str]:
    """The texts translated into another language and back: other words, the same meaning.

    Raises:
        DataError: a translation has not as many texts as it was given.
    """
    for translate in (there, back):
        translated = translate(texts)
        if len(translated) != len(texts):
            raise DataError(f"the translation of {len(texts)} texts has {len(translated)}", field="translate")
        texts = translated
    return texts


def _split(text: str) -> tuple[list[str], list[str]]:
    """The words of a text and what stands before each, and after the last."""
    spans = word_spans(text)
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    return [text[start:stop] for start, stop in spans], [
        text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


def _join(words: Sequence[str], gaps: Sequence[str]) -> str:
    return "".join(gap + word for gap, word in zip(gaps, [*words, ""], strict=True))


def _checked(records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        kind_of(record)  # raises where a known shape is broken
        yield record


def _copies(records: Iterable[Record], config: AugmentConfig) -> Iterator[tuple[Record, list[Any]]]:
    change, replies = _method(config), config.method == "counterfactual"
    for number, record in enumerate(records):
        draws = (np.random.default_rng([config.seed, number, copy]) for copy in range(config.copies))
        yield record, [rewrite(record.value, partial(change, draw=draw), replies) for draw in draws]


def _back_translated(
    records: Iterable[Record], there: Translate, back: Translate
) -> Iterator[tuple[Record, list[Any]]]:
    waiting = iter(records)
    while group := list(islice(waiting, _GROUP)):
        texts = [text for record in group for text in _read_texts(record.value)]
        translated = iter(back_translate(texts, there, back))
        for record in group:
            yield record, [rewrite(record.value, partial(_following, translated), replies=False)]


def _following(texts: Iterator[str], _: str) -> str:
    return next(texts)


def _read_texts(value: Any) -> list[str]:
    """The texts of a record that `rewrite` would change."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    rewrite(value, note, replies=False)
    return found


def _method(config: AugmentConfig) -> Callable[..., str]:
    table = read_table(config.table) if config.table else {}
    match config.method:
        case "dropout":
            return partial(drop_words, share=config.share)
        case "swap":
            return partial(swap_words, share=config.share)
        case "synonyms":
            return partial(Synonyms(table).replace, share=config.share)
    counterparts = Counterparts(pairs_of(table) + (own_pairs() if config.own else []))
    return lambda text, draw: counterparts.swap(text)
