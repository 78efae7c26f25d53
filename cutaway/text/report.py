"""How well a tokeniser fits a text, in numbers."""

from dataclasses import dataclass

from cutaway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Fit:
    """Counts over a text.

    Args:
        bytes_per_token: bytes of UTF-8 per token; higher is shorter.
        tokens_per_word: tokens per run of characters without white space (fertility).
        unknown_rate: share of tokens that are the unknown token.
        round_trip: whether decoding gives the text back exactly.
    """

    bytes: int
    tokens: int
    words: int
    bytes_per_token: float
    tokens_per_word: float
    unknown_rate: float
    round_trip: bool


def fit(tokenizer: Tokenizer, text: str) -> Fit:
    """Measure a tokeniser on a text that is not empty."""
    ids = tokenizer.encode(text)
    size, words = len(text.encode()), len(text.split())
    unknown = sum(id == tokenizer.unk_id for id in ids) if tokenizer.unk_id is not None else 0
    return Fit(
        bytes=size,
        tokens=len(ids),
        words=words,
        bytes_per_token=size / max(len(ids), 1),
        tokens_per_word=len(ids) / max(words, 1),
        unknown_rate=unknown / max(len(ids), 1),
        round_trip=tokenizer.decode(ids) == text,
    )
