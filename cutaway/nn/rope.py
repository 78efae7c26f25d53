"""Rotary positions (Su et al. 2021) and the ways to run a model past its training length.

Pairs (x_i, x_{i+K/2}) of a head are rotated by position · frequency_i, so that q · k depends on the distance alone. The
half-split pairing is the one of Hugging Face checkpoints. K head width, T positions.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from cutaway.core.config import Config


class RopeScaling(Config):
    """How frequencies change beyond the trained length; the field names are those of `config.json`.

    linear: every frequency / factor (Chen et al. 2023). dynamic: a larger base, from the length (NTK-aware).
    yarn: high frequencies stay, low ones are interpolated, and scores get a temperature (Peng et al. 2023).
    llama3: as yarn's split, by wavelength, without the temperature.
    """

    rope_type: Literal["default", "linear", "dynamic", "yarn", "llama3"] = "default"
    factor: float = Field(1.0, ge=1.0)
    original_max_position_embeddings: int | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def to_hf(self) -> dict[str, Any]:
        """The fields that `config.json` holds for this kind."""
        needed = {
            "default": (),
            "linear": ("factor",),
            "dynamic": ("factor", "original_max_position_embeddings"),
            "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
            "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "truncate"),
        }[self.rope_type]
        optional = ("attention_factor", "mscale", "mscale_all_dim") if self.rope_type == "yarn" else ()
        kept = {name: getattr(self, name) for name in (*needed, *optional)}
        return {"rope_type": self.rope_type, **{name: value for name, value in kept.items() if value is not None}}


def rope_frequencies(K: int, theta: float, scaling: RopeScaling, context: int, length: int = 0) -> tuple[Tensor, float]:
    """The K/2 angular frequencies (radians per position), and the factor for cos and sin (1 but for yarn).

    Args:
        theta: the base.
        context: the context of the configuration (the trained one, where `scaling` does not name it).
        length: positions in use; only `dynamic` looks at it.
    """
    index = torch.arange(0, K, 2, dtype=torch.float32)
    plain = theta ** (-index / K)
    trained = scaling.original_max_position_embeddings or context
    match scaling.rope_type:
        case "default":
            return plain, 1.0
        case "linear":
            return plain / scaling.factor, 1.0
        case "dynamic":
            grown = scaling.factor * max(length, trained) / trained - (scaling.factor - 1)
            power = K / (K - 2) if K > 2 else 0.0  # a single pair turns by 1 per position, whatever the base
            return (theta * grown**power) ** (-index / K), 1.0
        case "llama3":
            wavelength = 2 * math.pi / plain
            low, high = scaling.low_freq_factor, scaling.high_freq_factor
            keep = ((trained / wavelength - low) / (high - low)).clamp(0, 1)
            return plain * keep + plain / scaling.factor * (1 - keep), 1.0
        case "yarn":
            return _yarn(K, theta, scaling, plain, trained)


def _yarn(K: int, theta: float, scaling: RopeScaling, plain: Tensor, trained: int) -> tuple[Tensor, float]:
    def dimension(rotations: float) -> float:
        """Which pair turns `rotations` times over the trained length."""
        return K * math.log(trained / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    first, last = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, K - 1)
    ramp = ((torch.arange(K // 2, dtype=torch.float32) - first) / max(last - first, 0.001)).clamp(0, 1)
    frequencies = plain * (1 - ramp) + plain / scaling.factor * ramp

    def temperature(mscale: float) -> float:
        return 1.0 if scaling.factor <= 1 else 0.1 * mscale * math.log(scaling.factor) + 1.0

    if scaling.attention_factor is not None:
        return frequencies, scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return frequencies, temperature(scaling.mscale) / temperature(scaling.mscale_all_dim)
    return frequencies, temperature(1.0)


def rope_tables(positions: Tensor, frequencies: Tensor, factor: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin for integer `positions` (any shape …): … × K, computed in float32."""
    angles = positions.float()[..., None] * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return (angles.cos() * factor).to(dtype), (angles.sin() * factor).to(dtype)


def apply_rope(x_BHTK: Tensor, cos_BTK: Tensor, sin_BTK: Tensor) -> Tensor:
    """Rotate queries or keys."""
    half = x_BHTK.shape[-1] // 2
    turned = torch.cat((-x_BHTK[..., half:], x_BHTK[..., :half]), dim=-1)
    return x_BHTK * cos_BTK[:, None] + turned * sin_BTK[:, None]
