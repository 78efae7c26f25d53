"""Encode a corpus by the fastest library whose ids equal those of `tokenizers`.

`gigatoken` encodes byte-level BPE many times faster. It is asked only where it is installed and takes the tokeniser, and
trusted only after its ids for hard strings and for a sample of this very corpus were equal; otherwise `tokenizers` does the work.
"""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.text.tokenizer import Tokenizer

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


class CorpusEncoder:
    """Encodes many texts with one tokeniser; special tokens written in a text are ordinary text.

    `library` says who does the work, and why, once the first texts were seen.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.library = "tokenizers (nothing encoded yet)"
        self._fast: Any = None
        self._chosen = False
        self._special = re.compile("|".join(map(re.escape, tokenizer.special)) or r"(?!)")

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids (int32) of every text, in order."""
        if texts and not self._chosen:
            sample = [text[:_SAMPLE_CHARS] for text in texts[:_SAMPLE_TEXTS] if not self._special.search(text)]
            self._fast, self.library = fast_encoder(self.tokenizer, sample)
            self._chosen = True
        if self._fast is None or any(self._special.search(text) for text in texts):
            found = self.tokenizer.encode_batch(texts)
        else:
            found = self._fast.encode_batch_list(list(texts))
        return [np.asarray(ids, dtype=np.int32) for ids in found]


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
