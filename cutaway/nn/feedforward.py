"""Feed-forward layers. D model width, F hidden width. The names of their parts are the Llama checkpoint's."""

from torch import Tensor, nn

from cutaway.nn.activation import ACTIVATIONS


class FeedForward(nn.Module):
    """down(f(up(x)))."""

    def __init__(self, D: int, F: int, activation: str, bias: bool = False):
        super().__init__()
        self.f = ACTIVATIONS[activation]
        self.up_proj = nn.Linear(D, F, bias=bias)
        self.down_proj = nn.Linear(F, D, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.f(self.up_proj(x)))


class GatedFeedForward(nn.Module):
    """down(f(gate(x)) · up(x)), Shazeer 2020; SwiGLU where f is SiLU."""

    def __init__(self, D: int, F: int, activation: str = "silu", bias: bool = False):
        super().__init__()
        self.f = ACTIVATIONS[activation]
        self.gate_proj = nn.Linear(D, F, bias=bias)
        self.up_proj = nn.Linear(D, F, bias=bias)
        self.down_proj = nn.Linear(F, D, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.f(self.gate_proj(x)) * self.up_proj(x))
