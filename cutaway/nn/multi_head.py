"""Multi-head attention with its projections, to a sequence itself or to another one (Vaswani et al. 2017, section 3.2.2).

Shapes: B batch, T query positions, S key positions, D model width, H heads, K head width.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from cutaway.nn.attention import Attend
from cutaway.nn.cache import KVCache

MemoryKeys = dict[int, tuple[Tensor, Tensor]]  # layer to the keys and values of a memory, B × H × S × K each


@dataclass(frozen=True)
class Memory:
    """A sequence that another one reads.

    Args:
        states_BSD: what is read.
        mask: true where there is something to read, B × 1 × 1 × S.
        known: keys and values of the layers that have read it before; each layer adds its own. None: nothing is kept.
    """

    states_BSD: Tensor
    mask: Tensor
    known: MemoryKeys | None = None

    def keys_values(self, layer: int, project: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """B × H × S × K each: what `layer` makes of the states, or made of them before."""
        known = {} if self.known is None else self.known
        if layer not in known:
            known[layer] = project(self.states_BSD)
        return known[layer]


class MultiHead(nn.Module):
    """The projections q, k, v and o around one attention step.

    Args:
        D, H, K: widths; H · K need not be D.
        bias: whether the projections have biases.
        scale: what scores are multiplied by.
        backend: how attention is computed (`nn.attention.BACKENDS`).
    """

    def __init__(self, D: int, H: int, K: int, *, bias: bool, scale: float, backend: str):
        super().__init__()
        self.H, self.K = H, K
        self.q, self.k, self.v = (nn.Linear(D, H * K, bias=bias) for _ in range(3))
        self.o = nn.Linear(H * K, D, bias=bias)
        self.attend = Attend(scale, backend)

    def keys_values(self, x_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """B × H × S × K each."""
        return self._heads(self.k(x_BSD)), self._heads(self.v(x_BSD))

    def read(
        self, x_BTD: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask: Tensor | None, bias: Tensor | None = None
    ) -> Tensor:
        """What the queries of `x` take from the keys and values: B × T × D."""
        out_BHTK = self.attend(self._heads(self.q(x_BTD)), k_BHSK, v_BHSK, mask, bias)
        return self.o(out_BHTK.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.H, self.K)).transpose(1, 2)


class SelfAttention(MultiHead):
    """A sequence attends to itself; with a cache, to what came before it too."""

    def forward(
        self,
        x_BTD: Tensor,
        mask: Tensor | None,
        bias: Tensor | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        k, v = self.keys_values(x_BTD)
        if cache is not None:
            k, v = cache.write(layer, k, v)
        return self.read(x_BTD, k, v, mask, bias)


class CrossAttention(MultiHead):
    """A sequence attends to another one."""

    def forward(self, x_BTD: Tensor, memory: Memory, layer: int = 0) -> Tensor:
        return self.read(x_BTD, *memory.keys_values(layer, self.keys_values), memory.mask)
