"""Ids to text, one at a time, for streaming."""

from cutaway.text.tokenizer import Tokenizer

UNFINISHED = "\ufffd"


class Detokenizer:
    """Gives the text that is certain by now: never half a character, and joined it equals decoding all ids at once.

    A tokeniser's decoder may look at neighbours (a leading space, bytes that make a character together), so the ids since
    the last certain place are decoded together with those just before it, and what is new is given out. Text that ends in
    U+FFFD waits, since the next token may finish the character.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True):
        self._tokenizer, self._skip = tokenizer, skip_special
        self._ids: list[int] = []
        self._before, self._certain = 0, 0

    def push(self, id: int) -> str:
        """Add one id; return the text that became certain."""
        self._ids.append(id)
        text = self._new_text()
        if not text or text.endswith(UNFINISHED):
            return ""
        self._before, self._certain = self._certain, len(self._ids)
        return text

    def flush(self) -> str:
        """The rest, unfinished characters as U+FFFD."""
        text = self._new_text()
        self._before, self._certain = self._certain, len(self._ids)
        return text

    def _new_text(self) -> str:
        before = self._tokenizer.decode(self._ids[self._before : self._certain], self._skip)
        return self._tokenizer.decode(self._ids[self._before :], self._skip)[len(before) :]
