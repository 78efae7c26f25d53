"""Topic 32: the attention score, worked step by step for a real sentence and head; and what 1/√K is for.

B batch, H query heads, G key-value heads, T positions, K head width.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.labs.contract import Bilingual, Claim, Lab, Numbers, Setting
from cutaway.lens.hooks import capture, module_names
from cutaway.models.load import load
from cutaway.models.packaged import CHAT_MODEL
from cutaway.nn.attention import Attend, attend_sdpa, attention_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SENTENCE = "The small boat left the harbour before the storm."
LAYER, HEAD = 4, 0
WIDTHS = (4, 16, 64, 256, 1024)
KEYS = 64


def measure(setting: Setting) -> Numbers:
    loaded = load(setting.model or CHAT_MODEL, dtype="float32", device="cpu")
    ids = loaded.tokenizer.encode(SENTENCE)
    layer = min(LAYER, len(loaded.model.blocks) - 1)
    q, k, v, scale = attention_inputs(loaded.model, ids, layer)
    group = HEAD // (q.shape[1] // k.shape[1])
    steps = worked(q[0, HEAD, -1].tolist(), k[0, group].tolist(), v[0, group].tolist(), scale)
    fused = attend_sdpa(q, k, v, None, scale)[0, HEAD, -1]
    unscaled, scaled = (saturation(setting.seed, with_scale) for with_scale in (False, True))
    return {
        "tokens": [piece.text for piece in loaded.tokenizer.pieces(SENTENCE)],
        "dot_products": steps["dots"],
        "scores": steps["scores"],
        "weights": steps["weights"],
        "weight_error": _gap(steps["weights"], attention_weights(q, k, None, scale)[0, HEAD, -1]),
        "output_error": _gap(steps["output"], fused),
        "widths": list(WIDTHS),
        "largest_weight_unscaled": [largest for largest, _ in unscaled],
        "largest_weight_scaled": [largest for largest, _ in scaled],
        "gradient_unscaled": [gradient for _, gradient in unscaled],
        "gradient_scaled": [gradient for _, gradient in scaled],
    }


@torch.no_grad()
def attention_inputs(model: Any, ids: list[int], layer: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """q, k, v and the scale of one layer, as the model's own attention step gets them."""
    name = module_names(model, Attend)[layer]
    with capture(model, [name]) as calls:
        model(torch.tensor([ids]))
    q, k, v, *_ = calls[name].inputs
    return q, k, v, model.get_submodule(name).scale


def worked(q: list[float], keys: list[list[float]], values: list[list[float]], scale: float) -> dict[str, list[float]]:
    """The last position's attention in plain arithmetic: products, scale, softmax, weighted sum."""
    dots = [sum(a * b for a, b in zip(q, key, strict=True)) for key in keys]
    scores = [dot * scale for dot in dots]
    powers = [math.exp(score - max(scores)) for score in scores]
    weights = [power / sum(powers) for power in powers]
    output = [sum(w * x for w, x in zip(weights, column, strict=True)) for column in zip(*values, strict=True)]
    return {"dots": dots, "scores": scores, "weights": weights, "output": output}


def saturation(seed: int, with_scale: bool) -> list[tuple[float, float]]:
    """By width: the mean largest weight over random keys, and the mean norm of the softmax's derivative by the scores."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for K in WIDTHS:
        q, k = torch.randn(1, 1, 256, K, generator=generator), torch.randn(1, 1, KEYS, K, generator=generator)
        everything = torch.ones(256, KEYS, dtype=torch.bool)
        p = attention_weights(q, k, everything, K**-0.5 if with_scale else 1.0)[0, 0]
        jacobian = p.diag_embed() - p[:, :, None] * p[:, None]  # ∂ softmax / ∂ scores
        found.append((p.amax(-1).mean().item(), jacobian.flatten(1).norm(dim=1).mean().item()))
    return found


def _gap(ours: list[float], reference: Tensor) -> float:
    return (torch.tensor(ours) - reference).abs().max().item()


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    sentence, largest, gradient = figure.subplots(1, 3)
    sentence.barh(range(len(numbers["tokens"])), numbers["weights"])
    sentence.set_yticks(range(len(numbers["tokens"])), [repr(token) for token in numbers["tokens"]], fontsize=7)
    sentence.invert_yaxis()
    sentence.set(xlabel="weight", title="where the last token looks")
    for axes, name, label in ((largest, "largest_weight", "mean largest weight"), (gradient, "gradient", "norm")):
        axes.semilogx(numbers["widths"], numbers[f"{name}_unscaled"], "o-", label="q · k")
        axes.semilogx(numbers["widths"], numbers[f"{name}_scaled"], "s--", label="q · k / √K")
        axes.set(xlabel="width K", ylabel=label)
        axes.legend(fontsize=7)
    largest.set_title(f"saturation, {KEYS} keys")
    gradient.set_title("derivative of the weights by the scores")
    return figure


LAB = Lab(
    id=32,
    title=Bilingual("The attention score", "注意力分数"),
    claim=Bilingual(
        "An attention score is q · k / √K; softmax makes weights of the scores, and the scale keeps it from saturating.",
        "注意力分数等于 q · k / √K；softmax 把分数变成权重，而缩放使其不致饱和。",
    ),
    fixed=Bilingual(
        "One sentence, layer and head for the worked numbers; the same random vectors with and without the scale.",
        "逐步计算使用同一句子、同一层、同一头；有无缩放时使用相同的随机向量。",
    ),
    expected="supported",
    checks=(
        Claim(
            "weights",
            Bilingual(
                "weights worked out in plain arithmetic equal the model's to 1e-5.",
                "用普通算术逐步算出的权重与模型的相差不超过 1e-5。",
            ),
            lambda n: n["weight_error"] < 1e-5,
        ),
        Claim(
            "output",
            Bilingual(
                "and their weighted sum of values equals the fused kernel's output to 1e-4.",
                "由其加权求和的结果与融合内核的输出相差不超过 1e-4。",
            ),
            lambda n: n["output_error"] < 1e-4,
        ),
        Claim(
            "saturation",
            Bilingual(
                "without the scale, at width 1024 one of 64 keys takes over 0.9 of the weight; with it, less than 0.3.",
                "不缩放时，宽度 1024 下 64 个键中的一个占去 0.9 以上的权重；缩放后不到 0.3。",
            ),
            lambda n: n["largest_weight_unscaled"][-1] > 0.9 and n["largest_weight_scaled"][-1] < 0.3,
        ),
        Claim(
            "gradient",
            Bilingual(
                "without the scale the derivative of the weights vanishes as the width grows; with it, it does not change.",
                "不缩放时，权重的导数随宽度增大而消失；缩放后则保持不变。",
            ),
            lambda n: (
                n["gradient_unscaled"][-1] < 0.5 * max(n["gradient_unscaled"])
                and max(n["gradient_scaled"][1:]) < 1.25 * min(n["gradient_scaled"][1:])
            ),
        ),
    ),
    measure=measure,
    draw=draw,
    takes_model=True,
)
