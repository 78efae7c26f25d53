"""Feed-forward layers. D model width, F hidden width."""

from torch import Tensor, nn
from torch.nn import functional


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)), Shazeer 2020; the names are the Llama checkpoint's."""

    def __init__(self, D: int, F: int, bias: bool = False):
        super().__init__()
        self.gate_proj = nn.Linear(D, F, bias=bias)
        self.up_proj = nn.Linear(D, F, bias=bias)
        self.down_proj = nn.Linear(F, D, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
