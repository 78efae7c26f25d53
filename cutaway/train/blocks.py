"""The blocks of a model, which are what is shared, computed again and split."""

from typing import Any

from torch import nn


def all_blocks(model: Any) -> list[nn.Module]:
    """Those of an encoder, then those of the decoder; none where a model has no `blocks`."""
    return [*getattr(model, "encoder_blocks", ()), *getattr(model, "blocks", ())]
