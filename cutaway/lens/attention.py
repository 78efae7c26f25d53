"""Attention maps of an ordinary model, and scores that tell what a head does.

The weights are recomputed from what the `attend` children got, so a model has one implementation of attention.
Shapes: L layers, B batch, H query heads, T query positions, S key positions.
"""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.core.errors import ConfigError
from cutaway.lens.hooks import Call, capture, module_names
from cutaway.lens.layers import Input, read_input
from cutaway.nn.attention import Attend


def attention_maps(model: Any, x: Input) -> Tensor:
    """The weights of every head, L × B × H × T × S, float32."""
    return torch.stack(list(named_maps(model, x).values()))


@torch.inference_mode()
def named_maps(model: Any, x: Input) -> dict[str, Tensor]:
    """The weights of every head of each attention that an input (`lens.layers`) goes through, B × H × T × S, by its name.

    Raises:
        ConfigError: the model has no attention.
    """
    names = module_names(model, Attend)
    if not names:
        raise ConfigError(f"a model of the family {model.config.model_type} has no attention", field="model")
    with capture(model, names) as calls:
        read_input(model, x)
    return {name: model.get_submodule(name).weights(*_scored(calls[name])) for name in names if name in calls}


def last_row(attend: Attend, call: Call) -> Tensor:
    """The weights with which the last position attends, B × H × S, from a recorded call."""
    q_BHTK, k_BGSK, *given = _scored(call)
    mask, bias = (x[..., -1:, :] if x is not None else None for x in given)
    return attend.weights(q_BHTK[:, :, -1:], k_BGSK, mask, bias)[:, :, 0]


def head_scores(
    weights_LHTT: Tensor, ids: Sequence[int], delimiters: Collection[int], far: int = 16
) -> dict[str, Tensor]:
    """How much each head does each of five things on one causal sequence: L × H each, from 0 to 1.

    A score is the share of a query's weight that falls on the keys in question, averaged over the queries that have any:

    * `previous`: the token just before;
    * `induction`: the token that followed an earlier occurrence of the query's own token (Olsson et al. 2022);
    * `copy`: a token at least `far` positions back which is the one that comes next (long-range copying);
    * `delimiter`: earlier punctuation and line ends, the first position apart;
    * `first`: the first position, where heads rest that have nothing to do (the sink, Xiao et al. 2023).
    """
    T = len(ids)
    token = torch.tensor(list(ids))
    query, key = torch.arange(T)[:, None], torch.arange(T)[None]
    following = token.roll(-1)
    is_delimiter = torch.tensor([id in delimiters for id in ids])
    kinds = {
        "previous": key == query - 1,
        "induction": (token[:, None] == token.roll(1)[None]) & (key >= 1) & (key <= query),
        "copy": (following[:, None] == token[None]) & (key <= query - far) & (query < T - 1),
        "delimiter": is_delimiter[None] & (key >= 1) & (key <= query),
        "first": (key == 0) & (query >= 1),
    }
    return {name: _share(weights_LHTT, where_TT.to(weights_LHTT.device)) for name, where_TT in kinds.items()}


def _share(weights_LHTT: Tensor, where_TT: Tensor) -> Tensor:
    queries = where_TT.any(-1)
    if not queries.any():
        return torch.zeros(weights_LHTT.shape[:2])
    return (weights_LHTT * where_TT).sum(-1)[..., queries].mean(-1)


def _scored(call: Call) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Queries, keys, mask and bias: what the weights come from."""
    q_BHTK, k_BGSK, _, mask, *bias = call.inputs
    return q_BHTK, k_BGSK, mask, bias[0] if bias else None
