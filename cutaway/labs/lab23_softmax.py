"""Topic 23: softmax in attention. Rows sum to one, large scores do not overflow, and tiles give the same as whole rows.

B batch, H heads, T query positions, S key positions, K head width.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.nn.attention import attend_reference, attend_tiled, attention_scores, attention_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T, K = 96, 32
SPREADS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
TILES = (1, 7, 32, 96)


def measure(setting: Setting) -> Numbers:
    generator = torch.Generator().manual_seed(setting.seed)
    q, k, v = torch.randn(3, 1, 4, T, K, generator=generator)
    scale, allowed = K**-0.5, torch.ones(T, T, dtype=torch.bool)
    rows = attention_weights(q, k, allowed, scale)
    order = attention_scores(q, k, scale)
    naive_finite, stable_finite, largest, tiled_error, bfloat16_error = [], [], [], [], []
    for spread in SPREADS:
        scores = order * spread
        naive = scores.exp() / scores.exp().sum(-1, keepdim=True)
        stable = attention_weights(q, k, allowed, scale * spread)
        exact = scores.double().softmax(-1)
        naive_finite.append(_share_finite(naive))
        stable_finite.append(_share_finite(stable))
        largest.append(stable.amax(-1).mean().item())
        bfloat16_error.append((scores.bfloat16().softmax(-1).double() - exact).abs().max().item())
        whole = attend_reference(q, k, v, allowed, scale * spread)
        tiled_error.append(
            max((attend_tiled(q, k, v, allowed, scale * spread, tile) - whole).abs().max().item() for tile in TILES)
        )
    return {
        "row_sum_error": (rows.sum(-1) - 1).abs().max().item(),
        "smallest_weight": rows.min().item(),
        "order_kept": bool((rows.argsort(-1) == order.argsort(-1)).float().mean() > 0.999),
        "spreads": list(SPREADS),
        "naive_finite_share": naive_finite,
        "stable_finite_share": stable_finite,
        "largest_weight": largest,
        "tiled_error": tiled_error,
        "bfloat16_error": bfloat16_error,
    }


def _share_finite(x: Tensor) -> float:
    return torch.isfinite(x).float().mean().item()


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    finite, largest, error = figure.subplots(1, 3)
    spreads = numbers["spreads"]
    finite.semilogx(spreads, numbers["naive_finite_share"], "o-", label="exp(s) / Σ exp(s)")
    finite.semilogx(spreads, numbers["stable_finite_share"], "s--", label="maximum subtracted")
    finite.set(xlabel="standard deviation of scores", ylabel="share of finite weights", title="overflow, float32")
    finite.legend(fontsize=7)
    largest.semilogx(spreads, numbers["largest_weight"], "o-")
    largest.set(xlabel="standard deviation of scores", ylabel="mean largest weight", title=f"saturation, {T} keys")
    error.loglog(spreads, numbers["tiled_error"], "o-", label="tiled against whole, float32")
    error.loglog(spreads, numbers["bfloat16_error"], "s--", label="bfloat16 scores against float64")
    error.set(xlabel="standard deviation of scores", ylabel="largest difference", title="what the arithmetic costs")
    error.legend(fontsize=7)
    return figure


LAB = Lab(
    id=23,
    title=Bilingual("Softmax in attention", "注意力中的 softmax"),
    claim=Bilingual(
        "Softmax turns attention scores into non-negative weights that sum to one and keep the order of the scores.",
        "softmax 把注意力分数变成非负、和为一且保持分数次序的权重。",
    ),
    fixed=Bilingual(
        "The same queries, keys and values throughout; only the spread of the scores and the arithmetic change.",
        "查询、键和值始终相同；只改变分数的离散程度和计算方式。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "distribution",
            Bilingual(
                "every row of weights is non-negative and sums to one within 1e-5.",
                "每一行权重非负，且和为一，误差不超过 1e-5。",
            ),
            lambda n: n["row_sum_error"] < 1e-5 and n["smallest_weight"] >= 0,
        ),
        Claim(
            "order",
            Bilingual("a higher score always gets the larger weight.", "分数越高，权重越大。"),
            lambda n: n["order_kept"],
        ),
        Claim(
            "stable",
            Bilingual(
                "with the row's maximum subtracted, scores with a standard deviation of 300 still give finite weights.",
                "减去每行的最大值后，标准差为 300 的分数仍给出有限的权重。",
            ),
            lambda n: min(n["stable_finite_share"]) == 1.0,
        ),
        Claim(
            "tiled",
            Bilingual(
                "the online softmax over tiles of any size equals the direct one within 1e-3.",
                "无论分块大小，在线 softmax 与直接计算相差不超过 1e-3。",
            ),
            lambda n: max(n["tiled_error"]) < 1e-3,
        ),
        Limit(
            "overflow",
            Bilingual(
                "the formula taken literally overflows in float32 when scores are large.",
                "照公式直接计算，分数较大时会在 float32 中溢出。",
            ),
            lambda n: min(n["naive_finite_share"]) < 1.0,
        ),
        Limit(
            "saturation",
            Bilingual(
                "when scores spread widely one key takes more than 0.95 of the weight: the choice is nearly hard.",
                "分数差距很大时，一个键占去 0.95 以上的权重，几乎成了硬选择。",
            ),
            lambda n: n["largest_weight"][-1] > 0.95,
        ),
    ),
    measure=measure,
    draw=draw,
)
