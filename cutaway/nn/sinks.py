"""Attention sinks (Xiao et al. 2023, StreamingLLM): the first few positions of a text stay visible beside a sliding window.

Softmax weights sum to one, so heads learn to leave on the first tokens what they have no use for; a window that loses these loses
the model. Positions count as inside the window: a sink never stands farther from a query than right before the window, so that
no distance is longer than those of training. The paper drops what the window has left and numbers the rest anew; here keys
keep the positions they were turned by, and only the score of a sink is corrected.

Shapes: B batch, T query positions, S key positions, H query heads, G key-value heads, K head width.
"""

import torch.nn.functional as F
from torch import Tensor

from cutaway.nn.attention import attention_scores


def sink_positions(positions_BT: Tensor, window: int, sinks: int) -> Tensor:
    """Where queries stand as a sink sees it: behind the sinks and a full window at most."""
    return positions_BT.clamp(max=window + sinks - 1)


def sink_bias(q_BHTK: Tensor, to_sinks_BHTK: Tensor, k_BGSK: Tensor, sinks: int, scale: float) -> Tensor:
    """What corrects the scores of the first `sinks` keys, B × H × T × S; 0 for all others.

    Args:
        q_BHTK, k_BGSK: turned by their positions.
        to_sinks_BHTK: the same queries turned by their `sink_positions`.
    """
    change = attention_scores(to_sinks_BHTK - q_BHTK, k_BGSK[:, :, :sinks], scale)
    return F.pad(change, (0, k_BGSK.shape[2] - sinks))
