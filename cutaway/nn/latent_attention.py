"""Multi-head latent attention (DeepSeek-AI 2024, section 2.1): what is cached is one narrow vector per token, for all heads.

Keys and values are made from the latent c by up-projections. Rotary positions cannot pass through those, so they get a part of
their own: a narrow key that all heads share, beside the keys from c.

Shapes: B batch, T query positions, S key positions, D model width, H heads, K head width, C latent width, R rotary width.
"""

import torch
from torch import Tensor, nn

from cutaway.nn.attention import Attend
from cutaway.nn.cache import KVCache
from cutaway.nn.norm import RMSNorm
from cutaway.nn.rope import apply_rope


class LatentAttention(nn.Module):
    """A causal attention layer.

    Args:
        D, H, K, C: see above.
        R: rotary width; 0 where positions come in elsewhere.
        backend: of the attention step.

    Deviation from the paper: queries are not compressed, and the up-projections are computed for all cached tokens at every
    step instead of being absorbed into those of the queries and the output, which is the same function.
    """

    def __init__(self, D: int, H: int, K: int, C: int, R: int, backend: str):
        super().__init__()
        self.H, self.K, self.R = H, K, R
        self.q_proj = nn.Linear(D, H * (K + R), bias=False)
        self.down_proj = nn.Linear(D, C, bias=False)
        self.latent_norm = RMSNorm(C, 1e-6)
        self.k_up_proj = nn.Linear(C, H * K, bias=False)
        self.v_up_proj = nn.Linear(C, H * K, bias=False)
        self.k_rope_proj = nn.Linear(D, R, bias=False) if R else None
        self.o_proj = nn.Linear(H * K, D, bias=False)
        self.attend = Attend((K + R) ** -0.5, backend)

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        bias: Tensor | None,
        mask: Tensor | None,
        cache: KVCache | None,
        layer: int,
    ) -> Tensor:
        B, T, _ = x_BTD.shape
        q_BHTK = self.q_proj(x_BTD).view(B, T, self.H, self.K + self.R).transpose(1, 2)
        c_B1SC = self.latent_norm(self.down_proj(x_BTD))[:, None]
        r_B1SR = x_BTD.new_zeros(B, 1, T, 0)
        if self.k_rope_proj is not None and rope is not None:
            plain, turned = q_BHTK.split([self.K, self.R], -1)
            q_BHTK = torch.cat((plain, apply_rope(turned, *rope)), -1)
            r_B1SR = apply_rope(self.k_rope_proj(x_BTD)[:, None], *rope)
        if cache is not None:
            c_B1SC, r_B1SR = cache.write(layer, c_B1SC, r_B1SR)
        S = c_B1SC.shape[2]
        k_BHSK = self.k_up_proj(c_B1SC[:, 0]).view(B, S, self.H, self.K).transpose(1, 2)
        v_BHSK = self.v_up_proj(c_B1SC[:, 0]).view(B, S, self.H, self.K).transpose(1, 2)
        k_BHSK = torch.cat((k_BHSK, r_B1SR.expand(B, self.H, S, self.R)), -1)
        out_BHTK = self.attend(q_BHTK, k_BHSK, v_BHSK, mask, bias)
        return self.o_proj(out_BHTK.transpose(1, 2).reshape(B, T, self.H * self.K))
