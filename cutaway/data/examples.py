"""From documents and conversations to tokens with a mark on those that are learned."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cutaway.core.errors import DataError, RequestError
from cutaway.data.read import Record
from cutaway.data.shapes import Conversation, Document, shape
from cutaway.text.chat import ChatRenderer
from cutaway.text.corpus import CorpusEncoder
from cutaway.text.tokenizer import Tokenizer

OverLong = Literal["window", "truncate", "skip", "error"]
_GROUP = 256  # documents encoded together


@dataclass(frozen=True)
class Example:
    """Token ids, per token whether predicting it is learned, and where the record stood. The first token is never predicted."""

    ids: np.ndarray
    learned: np.ndarray
    where: str = ""


@dataclass
class Skipped:
    """What was left out, and where the first of each kind stood."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, why: str, where: str) -> None:
        """Count one record that stood at `where`."""
        self.counts[why] = self.counts.get(why, 0) + 1
        self.first.setdefault(why, where)

    def merge(self, later: "Skipped") -> None:
        """Count what was left out of later records."""
        for why, count in later.counts.items():
            self.counts[why] = self.counts.get(why, 0) + count
            self.first.setdefault(why, later.first[why])

    def report(self) -> dict[str, dict]:
        """As plain values."""
        return {"counts": self.counts, "first": self.first}

    def __str__(self) -> str:
        return "; ".join(f"{count} {why} (first: {self.first[why]})" for why, count in self.counts.items())


def tokenize(records: Iterable[Record], tokenizer: Tokenizer, skipped: Skipped) -> Iterator[Example]:
    """Every record as tokens: a document whole, with BOS where the tokeniser adds one and EOS at its end, all of it learned;
    a conversation by the chat renderer, the replies learned.

    Empty records, and conversations without a reply, are left out and counted in `skipped`.
    """
    return RecordEncoder(tokenizer).examples(records, skipped)


class RecordEncoder:
    """`tokenize` for one group of records after another; it can be sent to other processes."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.renderer, self.encoder = tokenizer, ChatRenderer(tokenizer), CorpusEncoder(tokenizer)

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordEncoder, (self.tokenizer,)

    def __call__(self, records: list[Record]) -> tuple[list[Example], Skipped]:
        skipped = Skipped()
        return list(self.examples(records, skipped)), skipped

    def examples(self, records: Iterable[Record], skipped: Skipped) -> Iterator[Example]:
        """See `tokenize`."""
        group: list[Document] = []
        for record in records:
            one = shape(record)
            if isinstance(one, Document):
                if not one.text.strip():
                    skipped.add("empty", one.where)
                    continue
                group.append(one)
                if len(group) == _GROUP:
                    yield from _documents(group, self.encoder)
                    group = []
                continue
            yield from _documents(group, self.encoder)
            group = []
            yield from _conversation(one, self.renderer, skipped)
        yield from _documents(group, self.encoder)


def cut(example: Example, seq_len: int, over_long: OverLong, skipped: Skipped) -> Iterator[Example]:
    """Make an example fit: at most seq_len + 1 tokens, so that seq_len of them have a target.

    `window` cuts it into consecutive parts that share one token, so that every token but the first is still predicted once.

    Raises:
        DataError: it does not fit, and `over_long` is `error`.
    """
    most = seq_len + 1
    if len(example.ids) <= most:
        yield example
    elif over_long == "window":
        for start in range(0, len(example.ids) - 1, seq_len):
            yield Example(example.ids[start : start + most], example.learned[start : start + most], example.where)
    elif over_long == "truncate":
        skipped.add("truncated", example.where)
        yield Example(example.ids[:most], example.learned[:most], example.where)
    elif over_long == "skip":
        skipped.add("over-long", example.where)
    else:
        raise DataError(
            f"has {len(example.ids)} tokens and data.seq_len is {seq_len}",
            field=example.where,
            hint="data.over_long=truncate or skip",
        )


def _documents(group: list[Document], encoder: CorpusEncoder) -> Iterator[Example]:
    tokenizer = encoder.tokenizer
    start = [tokenizer.bos_id] if tokenizer.adds_bos else []
    end = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    for one, ids in zip(group, encoder.encode([one.text for one in group]), strict=True):
        whole = np.concatenate([np.array(start, np.int32), ids, np.array(end, np.int32)])
        yield Example(whole, np.ones(len(whole), bool), one.where)


def _conversation(one: Conversation, renderer: ChatRenderer, skipped: Skipped) -> Iterator[Example]:
    try:
        rendered = renderer.render(one.messages)
    except RequestError as err:
        raise DataError(str(err), field=one.where) from None
    if not any(rendered.mask[1:]):
        skipped.add("without a reply", one.where)
        return
    yield Example(np.array(rendered.ids, np.int32), np.array(rendered.mask), one.where)
