"""The frame that encoders read a text or a pair of texts in: [CLS] a [SEP] b [SEP], in RoBERTa <s> a </s></s> b </s>."""

from collections.abc import Sequence

from cutaway.core.errors import TokenizerError
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig

_FRAMES = (("[CLS]", "[SEP]"), ("<s>", "</s>"))


def lacking(config: TrainTokenizerConfig) -> tuple[str, ...]:
    """The special tokens that a tokeniser trained so needs besides, to have a frame."""
    own = {config.bos, config.eos, *config.extra}
    has_one = config.kind == "wordpiece" or any(own.issuperset(frame) for frame in _FRAMES)
    return () if has_one else _FRAMES[0]


class Framing:
    """Frames for a tokeniser.

    Raises:
        TokenizerError: it has no tokens for the frame.
    """

    def __init__(self, tokenizer: Tokenizer):
        special = tokenizer.special
        self.between: tuple[int, ...]
        if "[CLS]" in special and "[SEP]" in special:
            self.start, self.end, self.between = special["[CLS]"], special["[SEP]"], (special["[SEP]"],)
            self._second = 1
        elif "<s>" in special and "</s>" in special:
            self.start, self.end, self.between = special["<s>"], special["</s>"], (special["</s>"],) * 2
            self._second = 0
        else:
            raise TokenizerError(
                "has no frame for encoders",
                field="tokenizer",
                hint="[CLS] and [SEP], or <s> and </s>; kind=wordpiece has them",
            )

    def frame(self, a: Sequence[int], b: Sequence[int] | None, limit: int) -> tuple[list[int], list[int]]:
        """Ids of at most `limit` tokens, and which text each belongs to (0 or 1, RoBERTa has 0 only).

        What does not fit is cut at the end of the longer text.

        >>> Framing(tokenizer).frame([7, 8], [9], 10)       # with [CLS] 101 and [SEP] 102
        ([101, 7, 8, 102, 9, 102], [0, 0, 0, 0, 1, 1])
        """
        room = limit - 2 - (len(self.between) if b is not None else 0)
        if b is None:
            ids = [self.start, *a[:room], self.end]
            return ids, [0] * len(ids)
        keep_b = min(len(b), max(room - len(a), room // 2))
        keep_a = min(len(a), room - keep_b)
        first = [self.start, *a[:keep_a], *self.between]
        second = [*b[:keep_b], self.end]
        return first + second, [0] * len(first) + [self._second] * len(second)
