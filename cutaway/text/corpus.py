"""Encode a corpus by the fastest library whose ids equal those of `tokenizers`.

`gigatoken` encodes byte-level BPE many times faster. It is asked only where it is installed and takes the tokeniser, and
trusted only after its ids for hard strings and for a sample of this very corpus were equal; otherwise `tokenizers` does the work.
"""

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.text.tokenizer import Tokenizer

_GROUP_CHARS = 4_000_000
_SAMPLE_TEXTS, _SAMPLE_CHARS = 64, 2_000
# Where tokenisers are known to differ: runs of spaces, digits, contractions, combining marks, emoji sequences, other scripts.
HARD = (
    "  two   spaces\t\ttabs\n\n\nlines  ",
    "I'll don't WE'VE 12345 3.14159 1,000,000",
    "naïve café e\u0301 \u0300\u0301 İstanbul ß",
    "👩‍👩‍👧‍👦 🇨🇳 👍🏽 ☃️",
    "床前明月光，疑是地上霜。 こんにちは 안녕하세요 العربية हिन्दी",
    "def f(x):\n    return x**2  # ‘quotes’ “and” — dashes…",
    "\u00a0nbsp\u200bzero\ufeffbom\r\nwindows\r",
    "",
)


def encode_corpus(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[np.ndarray]:
    """The ids (int32) of every text, in order; special tokens written in a text are ordinary text."""
    texts = iter(texts)
    sample = list(itertools.islice(texts, _SAMPLE_TEXTS))
    fast, _ = fast_encoder(tokenizer, [text[:_SAMPLE_CHARS] for text in sample])
    for group in _groups(itertools.chain(sample, texts)):
        spelled = any(token in text for text in group for token in tokenizer.special)
        found = tokenizer.encode_batch(group) if fast is None or spelled else fast.encode_batch_list(group)
        yield from (np.asarray(ids, dtype=np.int32) for ids in found)


def fast_encoder(tokenizer: Tokenizer, sample: list[str]) -> tuple[Any | None, str]:
    """The fast encoder for this tokeniser, or None; and why, in words for a log."""
    try:
        import gigatoken
    except ImportError:
        return None, "tokenizers (gigatoken is not installed)"
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tokenizer.json"
            path.write_text(tokenizer.backend.to_str(), encoding="utf-8")
            fast = gigatoken.Tokenizer(str(path))
        texts = [*HARD, *sample]
        equal = [list(ids) for ids in fast.encode_batch_list(texts)] == tokenizer.encode_batch(texts)
    except Exception as err:  # another library's reasons: whatever they are, the reference does the work
        return None, f"tokenizers (gigatoken does not take this tokeniser: {err})"
    return (fast, "gigatoken (ids equal on a sample)") if equal else (None, "tokenizers (gigatoken's ids differ)")


def _groups(texts: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= _GROUP_CHARS:
            yield group
            group, size = [], 0
    if group:
        yield group
