"""One token of a text, opened: how likely it was, what else could have come, what each filter did, where the model looked,
and what each layer would have said.

One forward pass over the tokens before it, with hooks on the ordinary model; a model that nobody inspects carries none.

The report is plain data (JSON):

    {"position": 17, "prompt_length": 12, "token": {"id": 260, "text": " the", "bytes": [32, 116, 104, 101]},
     "probability": 0.31, "rank": 1, "entropy_bits": 4.2,
     "stages": [{"name": "model", "kept": 49152, "chosen": 0.31, "alternatives": [{"id", "text", "bytes", "probability"}, …]},
                {"name": "temperature", …}, {"name": "top_k", …}, …],
     "tokens": [{"id", "text", "bytes"}, …],               what the attention weights are over: the tokens before it
     "attention": [[[w, …] per token] per head] per layer,
     "logit_lens": [{"layer": 1, "chosen": 0.02, "rank": 31, "top": [{"id", "text", "bytes", "probability"}, …]}, …]}

A token may be part of a character: its `text` then holds U+FFFD, and only its `bytes`, joined to its neighbours', tell which.
`probability`, `rank` (1 is the likeliest) and `entropy_bits` are of the model's own distribution; `stages` follow the chain of
processors that the engine ran, each with the distribution after it; a greedy request ends with the stage `greedy`.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.core.errors import ContextLengthError, RequestError
from cutaway.decode.processors import History, Processor, chain
from cutaway.decode.sampling import Sampling
from cutaway.lens.attention import last_row
from cutaway.lens.hooks import capture, module_names
from cutaway.lens.layers import block_names
from cutaway.lens.logit_lens import logit_lens, stream_at_end
from cutaway.models.load import Loaded
from cutaway.nn.attention import Attend
from cutaway.text.tokenizer import Tokenizer

DIGITS = 5  # of a probability in the report


@torch.inference_mode()
def token_report(
    loaded: Loaded,
    ids: Sequence[int],
    position: int,
    *,
    prompt_length: int = 0,
    sampling: Sampling | None = None,
    alternatives: int = 10,
    grammar: Processor | None = None,
) -> dict[str, Any]:
    """Open the token at `position` of `ids`.

    Args:
        ids: the whole text, prompt and reply.
        position: of the token, from 1: the first token has nothing before it that could predict it.
        prompt_length: how many of `ids` were the prompt; the others count as generated for the penalties.
        sampling: the settings it was chosen with.
        alternatives: how many tokens to list per distribution.
        grammar: what the reply had to be (`decode.grammar`).

    Raises:
        RequestError: a position or an id that does not exist. ContextLengthError: more tokens than the model can read.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    _check(model, ids, position, prompt_length, alternatives)
    before, chosen, sampling = list(ids[:position]), ids[position], sampling or Sampling()
    sampling.check_ids(model.embedding.num_embeddings)
    attends = module_names(model, Attend)
    with capture(model, [*attends, *block_names(model)]) as calls:
        h_D = model(torch.tensor([before], device=model.embedding.weight.device))[0, -1]
    logits_V = model.logits(h_D).float()
    own_V = logits_V.softmax(-1)
    history = History(before[:prompt_length], before[prompt_length:])
    return {
        "position": position,
        "prompt_length": prompt_length,
        "token": _token(tokenizer, chosen),
        "probability": float(own_V[chosen]),
        "rank": _rank(own_V, chosen),
        "entropy_bits": float(torch.special.entr(own_V.double()).sum()) / math.log(2),
        "stages": _stages(tokenizer, logits_V, chain(sampling, grammar), sampling, history, chosen, alternatives),
        "tokens": [_token(tokenizer, id) for id in before],
        "attention": [_rounded(last_row(model.get_submodule(name), calls[name])[0]) for name in attends],
        "logit_lens": [
            {"layer": layer, **_reading(tokenizer, log_V.exp(), chosen, alternatives)}
            for layer, log_V in enumerate(logit_lens(model, stream_at_end(model, calls)), 1)
        ],
    }


def _stages(
    tokenizer: Tokenizer,
    logits_V: Tensor,
    processors: Sequence[tuple[str, Processor]],
    sampling: Sampling,
    history: History,
    chosen: int,
    n: int,
) -> list[dict[str, Any]]:
    """The distribution of the model, and after each processor of the chain."""
    stages = [("model", logits_V)]
    for name, process in processors:
        stages.append((name, process(stages[-1][1], history)))
    if sampling.temperature == 0:
        last = stages[-1][1]
        stages.append(("greedy", torch.full_like(last, -math.inf).index_fill(0, last.argmax(), 0.0)))
    return [
        {
            "name": name,
            "kept": int((stage_V > -math.inf).sum()),
            "chosen": float(stage_V.softmax(-1)[chosen]),
            "alternatives": _top(tokenizer, stage_V.softmax(-1), n),
        }
        for name, stage_V in stages
    ]


def _reading(tokenizer: Tokenizer, probabilities_V: Tensor, chosen: int, n: int) -> dict[str, Any]:
    return {
        "chosen": float(probabilities_V[chosen]),
        "rank": _rank(probabilities_V, chosen),
        "top": _top(tokenizer, probabilities_V, n),
    }


def _top(tokenizer: Tokenizer, probabilities_V: Tensor, n: int) -> list[dict[str, Any]]:
    best = probabilities_V.topk(min(n, len(probabilities_V)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [{**_token(tokenizer, id), "probability": probability} for id, probability in pairs if probability > 0]


def _rank(probabilities_V: Tensor, id: int) -> int:
    return 1 + int((probabilities_V > probabilities_V[id]).sum())


def _token(tokenizer: Tokenizer, id: int) -> dict[str, Any]:
    """A model's vocabulary may be padded beyond its tokeniser's; such an id has no text."""
    known = tokenizer.has(id)
    text, raw = (tokenizer.token_text(id), tokenizer.token_bytes(id)) if known else ("", b"")
    return {"id": id, "text": text, "bytes": list(raw)}


def _rounded(weights_HS: Tensor) -> list[list[float]]:
    """Fewer digits: a report of a long text is mostly attention weights."""
    return [[round(weight, DIGITS) for weight in row] for row in weights_HS.tolist()]


def _check(model: Any, ids: Sequence[int], position: int, prompt_length: int, alternatives: int) -> None:
    V = model.embedding.num_embeddings
    if any(not 0 <= id < V for id in ids):
        raise RequestError(f"holds a token id outside 0 to {V - 1}", field="ids")
    if not 1 <= position < len(ids):
        hint = f"1 to {len(ids) - 1}" if len(ids) > 1 else "the text needs at least two tokens"
        raise RequestError("no token there that follows another", field="position", value=position, hint=hint)
    if position > model.context:
        raise ContextLengthError(f"the model reads {model.context} tokens", field="position", value=position)
    if not 0 <= prompt_length <= len(ids):
        raise RequestError(f"must be 0 to {len(ids)}", field="prompt_length", value=prompt_length)
    if alternatives < 1:
        raise RequestError("must be at least 1", field="alternatives", value=alternatives)
