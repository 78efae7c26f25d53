"""How well a tokeniser fits texts, in numbers."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cutaway.text.corpus import CorpusEncoder
from cutaway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Frequent:
    """A token and how often it stands in the texts."""

    id: int
    text: str
    count: int


@dataclass(frozen=True)
class Fit:
    """Counts over texts.

    Args:
        distinct: how many of the vocabulary's tokens occur.
        bytes_per_token: bytes of UTF-8 per token; higher is shorter.
        tokens_per_word: tokens per run of characters without white space (fertility).
        unknown_rate: share of tokens that are the unknown token.
        byte_rate: share of tokens that are a piece of a character: byte tokens, or bytes that are no UTF-8 by themselves.
        round_trip: whether decoding gives every text back exactly.
        frequent: the most frequent tokens, first the most frequent.
    """

    bytes: int
    characters: int
    words: int
    tokens: int
    distinct: int
    bytes_per_token: float
    tokens_per_word: float
    unknown_rate: float
    byte_rate: float
    round_trip: bool
    frequent: list[Frequent]


def fit(tokenizer: Tokenizer, texts: str | Iterable[str], most_frequent: int = 20) -> Fit:
    """Measure a tokeniser on a text, or on many, one at a time. Without any text the rates are 0."""
    encoder, counts = CorpusEncoder(tokenizer), Counter[int]()
    size = characters = words = 0
    round_trip = True
    for text in [texts] if isinstance(texts, str) else texts:
        ids = encoder.encode([text])[0].tolist()
        counts.update(ids)
        size, characters, words = size + len(text.encode()), characters + len(text), words + len(text.split())
        round_trip = round_trip and tokenizer.decode(ids) == text
    tokens = counts.total()
    return Fit(
        bytes=size,
        characters=characters,
        words=words,
        tokens=tokens,
        distinct=len(counts),
        bytes_per_token=size / max(tokens, 1),
        tokens_per_word=tokens / max(words, 1),
        unknown_rate=counts[tokenizer.unk_id] / max(tokens, 1) if tokenizer.unk_id is not None else 0.0,
        byte_rate=sum(count for id, count in counts.items() if _is_bytes(tokenizer, id)) / max(tokens, 1),
        round_trip=round_trip,
        frequent=[Frequent(id, tokenizer.token_text(id), count) for id, count in counts.most_common(most_frequent)],
    )


def _is_bytes(tokenizer: Tokenizer, id: int) -> bool:
    data = tokenizer.token_bytes(id)
    if len(data) == 1 and tokenizer.backend.id_to_token(id) == f"<0x{data[0]:02X}>":
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False
