"""Writing a target for each source with an encoder-decoder: greedy, or by beam search. Nothing here is about languages.

Shapes: B sources, W beams, S source positions, T target positions, D model width, V vocabulary.
"""

import itertools
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from cutaway.core.errors import ContextLengthError, RequestError
from cutaway.decode.beam import Beam, Hypothesis, beam_search
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.target_rules import TargetRules


@torch.inference_mode()
def translate(
    model: EncoderDecoder,
    sources: Sequence[Sequence[int]],
    beam: Beam,
    end_ids: Collection[int],
    start_id: int,
    max_tokens: int,
    rules: TargetRules = TargetRules(),
) -> list[list[Hypothesis]]:
    """The best targets of every source, all in one batch.

    Args:
        model: in evaluation mode.
        sources: token ids, at least one each.
        beam: how to search; a width of 1 is greedy.
        end_ids: tokens that end a target.
        start_id: what every target begins with; it is no part of the result.
        max_tokens: new tokens at most.
        rules: which tokens the checkpoint allows where.

    Returns:
        Per source the `n_best` best hypotheses, best first.

    Raises:
        RequestError: a source is empty or holds an id that the model has no embedding for.
        ContextLengthError: a source or `max_tokens` is more than the model was made for.
    """
    _check(model, sources, max_tokens)
    if not sources:
        return []
    source_BS, real_BS = (x.to(model.embedding.weight.device) for x in pad(sources))
    memory_BSD = model.encode(source_BS, mask_BS=real_BS)
    return write(model, memory_BSD, real_BS, beam, end_ids, [start_id], max_tokens, rules)


@torch.inference_mode()
def write(
    model: EncoderDecoder,
    memory_BSD: Tensor,
    memory_mask_BS: Tensor | None,
    beam: Beam,
    end_ids: Collection[int],
    start_ids: Sequence[int] | Tensor,
    max_tokens: int,
    rules: TargetRules = TargetRules(),
) -> list[list[Hypothesis]]:
    """The best targets for every memory, whatever was encoded; the arguments and the result are those of `translate`.

    Args:
        memory_mask_BS: true where the memory is real; None: everywhere.
        start_ids: what every target begins with, at least one token; or B × T, what each begins with.
    """
    W, device = beam.width, memory_BSD.device
    memory = memory_BSD.repeat_interleave(W, 0)
    real = None if memory_mask_BS is None else memory_mask_BS.repeat_interleave(W, 0)
    start_BT = torch.as_tensor(start_ids).expand(len(memory_BSD), -1).repeat_interleave(W, 0)
    opening, written = start_BT.shape[1], itertools.count()
    cache = model.new_cache(len(memory), opening + max_tokens - 1)

    def following(tokens_BT: Tensor) -> Tensor:
        h = model(tokens_BT.to(device), memory, memory_mask_BS=real, cache=cache)
        log_BV = model.logits(h[:, -1]).float().log_softmax(-1)
        return rules.kept(log_BV, opening, next(written), max_tokens)

    def step(tokens: Tensor, rows: Tensor) -> Tensor:
        cache.own.select(rows.tolist())  # beams move among rows of one source, whose memory is the same
        return following(tokens[:, None])

    return beam_search(following(start_BT)[::W], step, beam, end_ids, max_tokens)


def pad(sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """B × S ids with zeros on the right, and where they are real."""
    lengths = torch.tensor([len(source) for source in sources])
    real_BS = torch.arange(int(lengths.max())) < lengths[:, None]
    source_BS = torch.zeros(real_BS.shape, dtype=torch.int64)
    source_BS[real_BS] = torch.tensor([id for source in sources for id in source])
    return source_BS, real_BS


def _check(model: EncoderDecoder, sources: Sequence[Sequence[int]], max_tokens: int) -> None:
    V, context = model.source_embedding.num_embeddings, model.context
    for number, source in enumerate(sources):
        field = f"sources[{number}]"
        if not source:
            raise RequestError("is empty", field=field)
        if any(not 0 <= id < V for id in source):
            raise RequestError(f"holds a token id outside 0 to {V - 1}", field=field)
        if len(source) > context:
            raise ContextLengthError(f"has {len(source)} tokens and the model reads {context}", field=field)
    if not 1 <= max_tokens <= context:
        raise ContextLengthError(f"must be 1 to {context}, the model's context", field="max_tokens", value=max_tokens)
