"""Topic 34: kinds of foundation models: a task for each through one interface, what they share, what training before is worth.

Each kind learns its task (`small_tasks`) from nothing. Then the answers get new names: the trained model and a fresh one see a
few examples of the renamed task, equally many.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.small_inputs import JUDGED, V
from cutaway.labs.small_tasks import KINDS, Kind
from cutaway.models.families import make_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, FEW = 64, 48  # rows of a step; examples of the renamed task
LR, AGAIN = 0.005, 40  # and steps on those few
PUBLISHED: dict[str, dict[str, Any]] = {
    "GPT-2": {"model_type": "gpt2"},
    "BERT base": {"model_type": "bert", "head": "masked"},
    "T5 small": {"model_type": "t5"},
    "ViT-B/16": {"model_type": "vit"},
    "Whisper small": {
        **{"model_type": "whisper", "d_model": 768, "encoder_layers": 12, "decoder_layers": 12},
        **{
            "encoder_attention_heads": 12,
            "decoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "decoder_ffn_dim": 3072,
        },
    },
    "CLIP ViT-B/32": {"model_type": "clip"},
}
"""As they were released; the families' defaults are most of it."""


@one_thread()
def measure(setting: Setting) -> Numbers:
    steps = 130 if setting.quick else 500
    scores: list[float] = []
    adapted: list[float] = []
    fresh: list[float] = []
    for kind in KINDS.values():
        generator = torch.Generator().manual_seed(setting.seed)
        model, names = drawn(kind, setting.seed), torch.arange(V)
        fit(model, kind.objective, (kind.draw(ROWS, generator, names) for _ in range(steps)), steps, LR)
        scores.append(score(kind, model, names))
        if kind.answers:
            new = torch.cat([torch.randperm(kind.answers, generator=generator), torch.arange(kind.answers, V)])
            few = kind.draw(FEW, generator, new)
            for learner, found in ((model, adapted), (drawn(kind, setting.seed), fresh)):
                fit(learner, kind.objective, [few] * AGAIN, AGAIN, LR)
                found.append(score(kind, learner, new))
    return {
        "kinds": list(KINDS),
        "right": scores,
        "chance": [kind.chance for kind in KINDS.values()],
        "renamed_kinds": [name for name, kind in KINDS.items() if kind.answers],
        "renamed_trained": adapted,
        "renamed_fresh": fresh,
        "published": list(PUBLISHED),
        "share_in_blocks": [share_in_blocks(shape) for shape in PUBLISHED.values()],
    }


def drawn(kind: Kind, seed: int) -> Any:
    """A fresh model; the same for the same seed."""
    torch.manual_seed(seed)
    return make_model(kind.shape)


@torch.inference_mode()
def score(kind: Kind, model: Any, names: Tensor) -> float:
    """The share of answers that are right, on what was not learned from."""
    return float(kind.right(model, kind.draw(JUDGED, torch.Generator().manual_seed(99_999), names)).float().mean())


def share_in_blocks(shape: dict[str, Any]) -> float:
    """The share of a model's parameters that stand in its transformer blocks; the rest reads and writes the modality."""
    with torch.device("meta"):
        model: Any = make_model(shape)
    blocks = [*model.blocks, *getattr(model, "encoder_blocks", [])]
    inside = sum(weight.numel() for block in blocks for weight in block.parameters())
    return inside / sum(weight.numel() for weight in model.parameters())


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    tasks, renamed, blocks = figure.subplots(1, 3)
    tasks.barh(numbers["kinds"], numbers["right"])
    tasks.plot(numbers["chance"], numbers["kinds"], "k|", ms=14, label="guessing")
    tasks.set(xlabel="right answers", title="one interface, six kinds", xlim=(0, 1))
    tasks.invert_yaxis()
    tasks.legend()
    places = torch.arange(len(numbers["renamed_kinds"])).numpy()
    renamed.bar(places - 0.2, numbers["renamed_trained"], 0.4, label="trained before")
    renamed.bar(places + 0.2, numbers["renamed_fresh"], 0.4, label="fresh")
    names = [name.replace(", ", "\n").replace(" and ", "\nand ") for name in numbers["renamed_kinds"]]
    renamed.set_xticks(places, names, fontsize=7)
    renamed.set(ylabel="right answers", title=f"new names, {FEW} examples", ylim=(0, 1.15))
    renamed.legend(ncols=2, loc="upper center", fontsize=8)
    blocks.barh(numbers["published"], numbers["share_in_blocks"])
    blocks.set(xlabel="share of the parameters", title="in transformer blocks", xlim=(0, 1))
    blocks.invert_yaxis()
    return figure


def mean_gain(numbers: Mapping) -> float:
    """How much more the models that were trained before have right, mean over kinds."""
    gains = [a - b for a, b in zip(numbers["renamed_trained"], numbers["renamed_fresh"], strict=True)]
    return sum(gains) / len(gains)


LAB = Lab(
    id=34,
    title=Bilingual("Kinds of foundation models", "基础模型的种类"),
    claim=Bilingual(
        "There are foundation models of language, vision, sound and several modalities at once; each is trained broadly and then "
        "adapts to new tasks.",
        "基础模型有语言、视觉、音频和多模态等种类；它们先做广泛的训练，再适应新任务。",
    ),
    fixed=Bilingual(
        "One interface, the same steps, rows and learning rate. The renamed task: the same 48 examples and 40 steps, from the "
        "trained weights or from fresh ones.",
        "同一接口，步数、批大小和学习率相同。改名后的任务：同样的 48 个样本、40 步，从训练过的或全新的权重开始。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "every kind works",
            Bilingual(
                "Each of six kinds answers more than three times as often right as guessing, on what it has not seen.",
                "六种模型在没见过的输入上，正确率都超过猜测的三倍。",
            ),
            lambda n: all(right > 3 * chance for right, chance in zip(n["right"], n["chance"], strict=True)),
        ),
        Claim(
            "training carries over",
            Bilingual(
                "With new names for the answers, models that were trained before have more right than fresh ones: "
                "in the mean by 5 points.",
                "答案改名之后，训练过的模型比全新的模型答对更多，平均多 5 个百分点以上。",
            ),
            lambda n: mean_gain(n) > 0.05,
        ),
        Limit(
            "one block",
            Bilingual(
                "The kinds differ at their ends: in six published models of all kinds two thirds of the parameters and more are "
                "transformer blocks.",
                "各种类的区别在两端：六个已发表的各类模型中，三分之二以上的参数都是 Transformer 块。",
            ),
            lambda n: min(n["share_in_blocks"]) > 2 / 3,
        ),
        Limit(
            "unevenly",
            Bilingual(
                "Adaptation is no matter of course: after so few examples a renamed task is never back at the score of "
                "the old one.",
                "适应并非理所当然：样本这么少时，改名后的任务没有一个回到原来的正确率。",
            ),
            lambda n: all(
                again < n["right"][n["kinds"].index(kind)]
                for kind, again in zip(n["renamed_kinds"], n["renamed_trained"], strict=True)
            ),
        ),
    ),
    measure=measure,
    draw=draw,
)
