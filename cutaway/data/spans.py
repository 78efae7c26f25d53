"""Span corruption (Raffel et al. 2020, section 3.1.4 and figure 2): spans are cut out of a text, an encoder-decoder says them.

    Thank you for inviting me to your party last week
    source: Thank you <extra_id_0> me to your party <extra_id_1> week
    target: <extra_id_0> for inviting <extra_id_1> last <extra_id_2>

A sentinel stands for each span, one more ends the target; EOS ends both sides. How many tokens are cut out, and in how many
spans, depends on the length alone, as in the authors' code. L tokens of a text.
"""

from collections.abc import Sequence
from itertools import count, takewhile

import torch
from torch import Tensor

from cutaway.core.errors import ConfigError
from cutaway.data.batch import Batch
from cutaway.data.masking import MaskingConfig
from cutaway.data.pairs import Pair, PairBatch, collate_pairs
from cutaway.data.stream import BatchStream, DrawnStream
from cutaway.text.tokenizer import Tokenizer

SENTINEL = "<extra_id_{}>"


class SpanStream(DrawnStream[PairBatch]):
    """The rows of a stream with spans cut out. A packed row is one text, as in T5's own training.

    Args:
        masking: its `share` and `span` say how much is cut out; the rest does not matter here.
        start_id: what the decoder begins a target with.

    Raises:
        ConfigError: the tokeniser has fewer sentinels than a row may need.
    """

    def __init__(self, stream: BatchStream, tokenizer: Tokenizer, masking: MaskingConfig, start_id: int):
        self.masking, self.start_id, self.pad_id = masking, start_id, tokenizer.pad_id or 0
        self.end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        self.sentinels = sentinel_ids(tokenizer)
        needed = most_sentinels(stream.seq_len, masking)
        if len(self.sentinels) < needed:
            raise ConfigError(
                f"has {len(self.sentinels)} sentinels, and rows of {stream.seq_len} tokens may need {needed}",
                field="tokenizer",
                hint=f"special tokens {SENTINEL.format(0)} to {SENTINEL.format(needed - 1)}, or a smaller data.seq_len",
            )
        super().__init__(stream, self._cut_out)

    def _cut_out(self, batch: Batch, generator: torch.Generator) -> PairBatch:
        pairs = []
        for ids_T, segments_T in zip(batch.ids_BT, batch.segments_BT, strict=True):
            ids_L = ids_T[segments_T != 0]
            noise_L = noise_spans(len(ids_L), self.masking, generator)
            source, target = cut_out(ids_L.tolist(), noise_L.tolist(), self.sentinels)
            pairs.append(Pair([*source, *self.end], [*target, *self.end]))
        return collate_pairs(pairs, self.start_id, self.pad_id)


def sentinel_ids(tokenizer: Tokenizer) -> list[int]:
    """The ids of the sentinels, from the first."""
    found = takewhile(lambda token: token in tokenizer.special, map(SENTINEL.format, count()))
    return [tokenizer.special[token] for token in found]


def noise_sizes(L: int, masking: MaskingConfig) -> tuple[int, int]:
    """How many of L tokens are cut out, and in how many spans: the rounded expectations."""
    tokens = min(max(round(L * masking.share), 1), max(L - 1, 1))
    return tokens, max(1, min(round(tokens / masking.span), L - tokens))


def side_lengths(L: int, masking: MaskingConfig) -> tuple[int, int]:
    """Tokens of the source and of the target that a text of L tokens becomes, with the EOS of each.

    >>> side_lengths(512, MaskingConfig())
    (462, 105)
    """
    tokens, spans = noise_sizes(L, masking)
    return L - tokens + spans + 1, tokens + spans + 2


def most_sentinels(L: int, masking: MaskingConfig) -> int:
    """Sentinels that any text of at most L tokens may need."""
    return 1 + max(noise_sizes(length, masking)[1] for length in range(1, L + 1))


def noise_spans(L: int, masking: MaskingConfig, generator: torch.Generator) -> Tensor:
    """L booleans, true where tokens are cut out: what stays and what goes take turns, each divided at random."""
    tokens, spans = noise_sizes(L, masking)
    lengths = torch.stack((_divided(L - tokens, spans, generator), _divided(tokens, spans, generator)), 1).flatten()
    return torch.tensor([False, True]).repeat(spans).repeat_interleave(lengths)


def cut_out(ids: Sequence[int], noise: Sequence[bool], sentinels: Sequence[int]) -> tuple[list[int], list[int]]:
    """Source and target, without EOS.

    >>> cut_out([7, 8, 9, 7], [False, True, True, False], [100, 101])
    ([7, 100, 7], [100, 8, 9, 101])
    """
    source: list[int] = []
    target: list[int] = []
    spans, before = 0, False
    for id, hidden in zip(ids, noise, strict=True):
        if hidden and not before:
            source.append(sentinels[spans])
            target.append(sentinels[spans])
            spans += 1
        (target if hidden else source).append(id)
        before = hidden
    return source, [*target, sentinels[spans]]


def _divided(total: int, parts: int, generator: torch.Generator) -> Tensor:
    """`parts` lengths of at least 1 that add up to `total`, every such division equally likely."""
    if parts == 1:
        return torch.tensor([total])
    cuts = 1 + torch.randperm(total - 1, generator=generator)[: parts - 1].sort().values
    return torch.diff(torch.cat((torch.tensor([0]), cuts, torch.tensor([total]))))
