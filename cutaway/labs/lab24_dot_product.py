"""Topic 24: the dot product as a measure of match. What angle, norm and width each do to it.

N vectors, K width.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.nn.attention import attention_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = (4, 16, 64, 256, 1024)
ANGLES = (0, 30, 60, 90, 120, 150, 180)


def measure(setting: Setting) -> Numbers:
    generator = torch.Generator().manual_seed(setting.seed)
    n = 256 if setting.quick else 1024
    raw, scaled = [], []
    for K in WIDTHS:
        q, k = torch.randn(2, 1, 1, n, K, generator=generator)
        raw.append(attention_scores(q, k, 1.0).var().item())
        scaled.append(attention_scores(q, k, K**-0.5).var().item())
    # Unit vectors at known angles from one query.
    keys = torch.tensor([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in ANGLES])
    by_angle = attention_scores(torch.tensor([[[[1.0, 0.0]]]]), keys[None, None], 1.0).flatten()
    return {
        "widths": list(WIDTHS),
        "variance": raw,
        "scaled_variance": scaled,
        "variance_per_width": [variance / K for variance, K in zip(raw, WIDTHS, strict=True)],
        "angles_degrees": list(ANGLES),
        "score_by_angle": by_angle.tolist(),
        "angle_error": max(
            abs(score - math.cos(math.radians(a))) for a, score in zip(ANGLES, by_angle.tolist(), strict=True)
        ),
        **_best_matches(generator, n),
    }


def _best_matches(generator: torch.Generator, n: int, K: int = 32) -> dict[str, float | list[float]]:
    """How often the best match by dot product is also the best by cosine, when the norms of keys differ more and more."""
    q, k = torch.randn(2, n, K, generator=generator)
    k = F.normalize(k, dim=-1)
    stretch = torch.randn(n, 1, generator=generator)
    spreads = [0.0, 0.25, 0.5, 1.0]
    cosine = (q @ k.T).argmax(-1)
    agreement, share_longest = [], []
    for spread in spreads:
        lengths = (spread * stretch).exp()
        best = (q @ (k * lengths).T).argmax(-1)
        agreement.append((best == cosine).float().mean().item())
        longest = lengths.flatten().topk(n // 10).indices
        share_longest.append(torch.isin(best, longest).float().mean().item())
    return {"norm_spreads": spreads, "agreement_with_cosine": agreement, "won_by_longest_tenth": share_longest}


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    width, angle, norm = figure.subplots(1, 3)
    width.loglog(numbers["widths"], numbers["variance"], "o-", label="q · k")
    width.loglog(numbers["widths"], numbers["scaled_variance"], "s--", label="q · k / √K")
    width.set(xlabel="width K", ylabel="variance of the score", title="width")
    width.legend()
    angle.plot(numbers["angles_degrees"], numbers["score_by_angle"], "o-")
    angle.axhline(0, color="grey", linewidth=0.8)
    angle.set(xlabel="angle (degrees)", ylabel="score of unit vectors", title="angle")
    norm.plot(numbers["norm_spreads"], numbers["agreement_with_cosine"], "o-", label="same best match as cosine")
    norm.plot(numbers["norm_spreads"], numbers["won_by_longest_tenth"], "s--", label="won by the longest tenth of keys")
    norm.set(xlabel="spread of log norms", ylabel="share of queries", title="norm", ylim=(0, 1.05))
    norm.legend(fontsize=7)
    return figure


LAB = Lab(
    id=24,
    title=Bilingual("The dot product", "点积"),
    claim=Bilingual(
        "The dot product of a query and a key says how well they match: the closer their directions, the higher the score.",
        "查询与键的点积表示两者的匹配程度：方向越接近，分数越高。",
    ),
    fixed=Bilingual(
        "Standard normal vectors; one of width, angle and norm changes at a time.",
        "使用标准正态向量；宽度、角度和范数每次只改变一个。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "angle",
            Bilingual(
                "for vectors of length one the score is the cosine of their angle.", "单位向量的分数等于夹角的余弦。"
            ),
            lambda n: n["angle_error"] < 1e-6,
        ),
        Claim(
            "width",
            Bilingual(
                "the variance of q · k is the width K, within a tenth.", "q · k 的方差等于宽度 K，误差不超过十分之一。"
            ),
            lambda n: all(abs(ratio - 1) < 0.1 for ratio in n["variance_per_width"][1:]),
        ),
        Claim(
            "scaled",
            Bilingual(
                "divided by √K it stays one at every width, within a tenth.",
                "除以 √K 后，任何宽度下方差都约为一，误差不超过十分之一。",
            ),
            lambda n: all(abs(variance - 1) < 0.1 for variance in n["scaled_variance"][1:]),
        ),
        Limit(
            "norm",
            Bilingual(
                "a dot product also carries the key's length: when lengths differ, the best match by dot product is often "
                "not the one by cosine.",
                "点积还包含键的长度：长度不同时，点积的最佳匹配往往不是余弦的最佳匹配。",
            ),
            lambda n: n["agreement_with_cosine"][0] == 1.0 and n["agreement_with_cosine"][-1] < 0.5,
        ),
    ),
    measure=measure,
    draw=draw,
)
