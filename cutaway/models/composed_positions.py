"""How a `composed` decoder knows where a token stands: by what is added to it, or by what attention is given.

Shapes: B batch, T positions, S key positions, D model width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.models.composed_config import ComposedConfig
from cutaway.nn.positions import RelativeBias, alibi_bias, alibi_slopes, sinusoidal
from cutaway.nn.rope import RopeScaling, rope_frequencies, rope_tables


@dataclass(frozen=True)
class Places:
    """What the positions give to an attention layer: angles for queries and keys, or a bias for the scores."""

    rope: tuple[Tensor, Tensor] | None = None
    bias: Tensor | None = None


class NoPositions(nn.Module):
    """Base of the position schemes, and the one that says nothing: order is then known from the causal mask alone."""

    def __init__(self, config: ComposedConfig):
        super().__init__()

    def add(self, x_BTD: Tensor, positions_BT: Tensor) -> Tensor:
        """What enters the first layer."""
        return x_BTD

    def places(self, queries_BT: Tensor, keys_B1S: Tensor, dtype: torch.dtype) -> Places:
        """What every attention layer is given."""
        return Places()


class Sinusoidal(NoPositions):
    """Added waves."""

    def add(self, x_BTD: Tensor, positions_BT: Tensor) -> Tensor:
        return x_BTD + sinusoidal(positions_BT, x_BTD.shape[-1]).to(x_BTD.dtype)


class Learned(NoPositions):
    """An added table."""

    def __init__(self, config: ComposedConfig):
        super().__init__(config)
        self.table = nn.Embedding(config.context, config.width)

    def add(self, x_BTD: Tensor, positions_BT: Tensor) -> Tensor:
        return x_BTD + self.table(positions_BT)


class Rotary(NoPositions):
    """Turned queries and keys."""

    def __init__(self, config: ComposedConfig):
        super().__init__(config)
        self.width = config.rotary_width

    def places(self, queries_BT: Tensor, keys_B1S: Tensor, dtype: torch.dtype) -> Places:
        frequencies, factor = rope_frequencies(self.width, 10_000.0, RopeScaling(), 0)
        return Places(rope=rope_tables(queries_BT, frequencies.to(queries_BT.device), factor, dtype))


class Alibi(NoPositions):
    """Scores that fall with the distance."""

    def __init__(self, config: ComposedConfig):
        super().__init__(config)
        self.H = config.num_attention_heads

    def places(self, queries_BT: Tensor, keys_B1S: Tensor, dtype: torch.dtype) -> Places:
        return Places(bias=alibi_bias(alibi_slopes(self.H).to(queries_BT.device), queries_BT, keys_B1S))


class Relative(NoPositions):
    """A learned number per distance and head, shared by the layers (T5)."""

    def __init__(self, config: ComposedConfig):
        super().__init__(config)
        self.relative_bias = RelativeBias(32, 128, False, config.num_attention_heads)

    def places(self, queries_BT: Tensor, keys_B1S: Tensor, dtype: torch.dtype) -> Places:
        return Places(bias=self.relative_bias(queries_BT, keys_B1S))


POSITIONS: dict[str, type[NoPositions]] = {
    "none": NoPositions,
    "sinusoidal": Sinusoidal,
    "learned": Learned,
    "rope": Rotary,
    "alibi": Alibi,
    "relative": Relative,
}
