"""Lab 2, attention: heads of named kinds in a trained model, found by score; the fused kernel against the equation.

Shapes: L layers, H heads, T positions.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting, own_data
from cutaway.lens.attention import attention_maps, head_scores
from cutaway.lens.hooks import capture, module_names
from cutaway.models.load import load
from cutaway.models.packaged import CHAT_MODEL
from cutaway.nn.attention import Attend, attend_reference, attend_sdpa
from cutaway.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("previous", "induction", "delimiter", "copy")
SHOWN, SEEN = 40, 120  # queries of a map that are drawn, the last ones, and keys


def measure(setting: Setting) -> Numbers:
    loaded = load(setting.model or CHAT_MODEL, dtype="float32")
    model, tokenizer = loaded.model, loaded.tokenizer
    text = tokenizer.encode(own_data("harbour.txt").read_text())[: 100 if setting.quick else model.context]
    generator = torch.Generator().manual_seed(setting.seed)
    half = torch.randint(tokenizer.vocab_size, (50,), generator=generator).tolist()
    delimiters = delimiter_ids(tokenizer, text)
    numbers: dict = {}
    # Induction is asked of random tokens said twice, where nothing but the repetition helps; the rest of prose.
    for ids, kinds in ((text, ("previous", "delimiter", "copy", "first")), ([*half, *half], ("induction",))):
        maps_LHTT = attention_maps(model, torch.tensor([ids]))[:, 0]
        found, chance = head_scores(maps_LHTT, ids, delimiters), head_scores(uniform(len(ids)), ids, delimiters)
        for kind in kinds:
            scores_LH = found[kind]
            layer, head = divmod(int(scores_LH.argmax()), scores_LH.shape[1])
            numbers |= {
                f"{kind}_best": float(scores_LH.max()),
                f"{kind}_mean": float(scores_LH.mean()),
                f"{kind}_uniform": float(chance[kind]),
                f"{kind}_layer": layer + 1,
                f"{kind}_head": head,
                f"{kind}_map": maps_LHTT[layer, head, -SHOWN:, -SEEN:].tolist(),
            }
    return {**numbers, "fused_difference": fused_difference(model, text)}


def delimiter_ids(tokenizer: Tokenizer, ids: list[int]) -> set[int]:
    """Those of the ids that are punctuation or line ends."""
    return {id for id in ids if not any(char.isalnum() for char in tokenizer.token_text(id))}


def uniform(T: int) -> Tensor:
    """A head that looks at everything alike: the score that chance gives."""
    weights = torch.ones(T, T).tril()
    return (weights / weights.sum(-1, keepdim=True))[None, None]


@torch.inference_mode()
def fused_difference(model: Any, ids: list[int]) -> float:
    """The largest difference between the fused kernel and the equation, over all layers, on the model's own inputs."""
    names = module_names(model, Attend)
    with capture(model, names) as calls:
        model(torch.tensor([ids]))
    differences = []
    for name in names:
        q, k, v, mask, *_ = calls[name].inputs
        scale = model.get_submodule(name).scale
        differences.append(attend_sdpa(q, k, v, mask, scale) - attend_reference(q, k, v, mask, scale))
    return max(float(difference.abs().max()) for difference in differences)


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    for axes, kind in zip(figure.subplots(2, 2).flat, KINDS, strict=True):
        weights = numbers[f"{kind}_map"]
        axes.imshow(weights, cmap="viridis", vmin=0, aspect="auto")
        axes.set(
            title=f"{kind}: layer {numbers[f'{kind}_layer']:g}, head {numbers[f'{kind}_head']:g}, "
            f"score {numbers[f'{kind}_best']:.2f} (chance {numbers[f'{kind}_uniform']:.2f})",
            xlabel=f"key, of the last {len(weights[0])}",
            ylabel=f"query, of the last {len(weights)}",
        )
        axes.title.set_fontsize(9)
    return figure


LAB = Lab(
    id=2,
    title=Bilingual("Attention", "注意力"),
    claim=Bilingual(
        "Attention lets every token draw on those that matter to it, near or far, and heads learn different relations.",
        "注意力让每个词元从与它相关的词元（无论远近）取信息，不同的头学到不同的关系。",
    ),
    fixed=Bilingual(
        "One trained model, the same text for all heads; chance is a head that looks at all earlier tokens alike.",
        "同一个训练好的模型，所有头读同一段文本；随机水平指平均看所有先前词元的头。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "previous",
            Bilingual(
                "a head puts most of its weight on the token just before", "有一个头把大部分权重放在前一个词元上"
            ),
            lambda n: n["previous_best"] > 0.5 and n["previous_best"] > 5 * n["previous_uniform"],
        ),
        Claim(
            "induction",
            Bilingual(
                "a head finds the earlier occurrence of a token and looks at what followed it",
                "有一个头能找到同一词元先前出现的位置，并看它后面的词元",
            ),
            lambda n: n["induction_best"] > 0.3 and n["induction_best"] > 5 * n["induction_uniform"],
        ),
        Claim(
            "delimiter",
            Bilingual("a head prefers punctuation and line ends", "有一个头偏好标点和换行"),
            lambda n: n["delimiter_best"] > 2 * n["delimiter_uniform"],
        ),
        Claim(
            "copy",
            Bilingual(
                "a head looks 16 or more tokens back at the very token that comes next",
                "有一个头能回看 16 个以上词元之前、恰好是接下来要写的那个词元",
            ),
            lambda n: n["copy_best"] > 5 * n["copy_uniform"],
        ),
        Claim(
            "different heads",
            Bilingual("these are at least three different heads", "它们至少是三个不同的头"),
            lambda n: len({(n[f"{kind}_layer"], n[f"{kind}_head"]) for kind in KINDS}) >= 3,
        ),
        Claim(
            "fused",
            Bilingual(
                "the fused kernel gives what the equation gives (within 1e-4)", "融合核与公式的结果一致（1e-4 以内）"
            ),
            lambda n: n["fused_difference"] < 1e-4,
        ),
        Limit(
            "sink",
            Bilingual(
                "over a quarter of all weight rests on the first token, whatever it is: weight is not importance",
                "超过四分之一的权重停在第一个词元上，无论它是什么：权重不等于重要性",
            ),
            lambda n: n["first_mean"] > 0.25,
        ),
    ),
    measure=measure,
    draw=draw,
    takes_model=True,
)
