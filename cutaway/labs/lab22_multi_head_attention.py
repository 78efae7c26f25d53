"""Topic 22: multi-head attention. One head against several, heads taken out one at a time, and heads that share keys and values.

All models have a single layer, so that no later layer can do what a head leaves undone.

Shapes: B rows, H heads, T positions, S key positions.
"""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from cutaway.data.batch import Batch
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.lagged_tokens import LaggedTokens
from cutaway.lens.attention import attention_maps
from cutaway.models.families import make_model
from cutaway.train.held_out import held_out_loss
from cutaway.train.objectives import causal_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, LENGTH = 32, 24
NEAR, FAR = 2, 4  # distances of the two tokens that decide the next one
MHA = {"num_attention_heads": 4, "num_key_value_heads": 4}
KINDS: dict[str, dict[str, Any]] = {
    "MHA": MHA,
    "GQA": {**MHA, "num_key_value_heads": 2},
    "MQA": {**MHA, "num_key_value_heads": 1},
    "MLA": {**MHA, "attention": "latent", "latent_size": 16, "rotary_size": 4},
}


@one_thread()
def measure(setting: Setting) -> Numbers:
    source = LaggedTokens(setting.seed, NEAR, FAR)
    held_out = source.batch(128, LENGTH, torch.Generator().manual_seed(setting.seed + 1000))
    counts = [1, 4, 16] if setting.quick else [1, 2, 4, 8, 16]
    by_count = [trained({"num_attention_heads": H, "num_key_value_heads": H}, source, setting) for H in counts]
    mha = by_count[counts.index(4)]
    by_kind = [mha, *(trained(choice, source, setting) for kind, choice in KINDS.items() if kind != "MHA")]
    nats = held_out_loss(mha, causal_lm, [held_out])
    looks_near, looks_far = weight_at(mha, held_out, NEAR), weight_at(mha, held_out, FAR)
    return {
        "floor_nats": source.floor,
        "heads": counts,
        "nats_by_heads": [held_out_loss(model, causal_lm, [held_out]) for model in by_count],
        "kinds": list(KINDS),
        "parameters": [parameters(model) for model in by_kind],
        "nats_by_kind": [held_out_loss(model, causal_lm, [held_out]) for model in by_kind],
        "cache_bytes_per_token": [model.new_cache(1, 1).nbytes for model in by_kind],
        "looks_near": looks_near,
        "looks_far": looks_far,
        "apart": apart(mha, held_out),
        "apart_untrained": apart(shaped(MHA, 2 * WIDTH), held_out),
        "cost_of_removal_nats": [ablated(mha, head, held_out) - nats for head in range(4)],
    }


def trained(choice: dict[str, Any], source: LaggedTokens, setting: Setting) -> Any:
    """A decoder of one layer; what its attention saves in parameters, its feed-forward layer gets."""
    torch.manual_seed(setting.seed)
    spare = parameters(shaped(MHA, 2 * WIDTH)) - parameters(shaped(choice, 2 * WIDTH))
    model = shaped(choice, 2 * WIDTH + spare // (3 * WIDTH))  # a gated unit has three weights per channel
    fit(model, causal_lm, source.batches(16, LENGTH, setting.seed), 250 if setting.quick else 1500, lr=1e-2)
    return model


def shaped(choice: dict[str, Any], units: int) -> Any:
    """A fresh model."""
    shape = {
        "model_type": "composed",
        "vocab_size": LaggedTokens.V,
        "hidden_size": WIDTH,
        "intermediate_size": units,
        "num_hidden_layers": 1,
        "max_position_embeddings": LENGTH,
        "initializer_range": 0.2,
    }
    return make_model({**shape, **choice})


def parameters(model: Any) -> int:
    """How many."""
    return sum(parameter.numel() for parameter in model.parameters())


def weight_at(model: Any, batch: Batch, distance: int) -> list[float]:
    """Per head: the mean weight on the token that stands `distance` before the predicted one."""
    maps_BHTS = attention_maps(model, batch.ids_BT)[0]
    back = distance - 1  # from the query, which stands one before what it predicts
    return maps_BHTS.diagonal(-back, 2, 3)[..., FAR:].mean((0, 2)).tolist()


def apart(model: Any, batch: Batch) -> float:
    """Which share of its weight a head puts on other tokens than another head does, mean over pairs of heads and queries."""
    maps_HBTS = attention_maps(model, batch.ids_BT)[0][..., FAR:, :].transpose(0, 1)
    pairs = itertools.combinations(maps_HBTS, 2)
    return torch.stack([(one - other).abs().sum(-1).mean() / 2 for one, other in pairs]).mean().item()


def ablated(model: Any, head: int, batch: Batch) -> float:
    """The loss without one head."""
    with without(model, head):
        return held_out_loss(model, causal_lm, [batch])


@contextmanager
def without(model: Any, head: int) -> Iterator[None]:
    """The model with one head's output cut off: the columns of the output projection that read it are 0 for as long."""
    attention = model.blocks[0].attention
    columns = attention.o_proj.weight.data[:, head * attention.K : (head + 1) * attention.K]
    kept = columns.clone()
    columns.zero_()
    try:
        yield
    finally:
        columns.copy_(kept)


def of_heads(numbers: Mapping, H: int) -> float:
    """The loss with H heads."""
    return numbers["nats_by_heads"][numbers["heads"].index(H)]


def of_kind(numbers: Mapping, name: str, kind: str) -> float:
    """A number of one kind of attention."""
    return numbers[name][numbers["kinds"].index(kind)]


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot(numbers["heads"], numbers["nats_by_heads"], "o-")
    left.axhline(numbers["floor_nats"], color="grey", linestyle="--", label="lowest possible")
    left.set_xscale("log", base=2)
    left.set_xticks(numbers["heads"], [f"{H:g}" for H in numbers["heads"]])
    left.set(title=f"width {WIDTH} cut into heads", xlabel="heads", ylabel="loss (nats per token)", ylim=(0, None))
    left.legend()
    heads = range(4)
    for offset, (name, label) in zip(
        (-0.27, 0, 0.27),
        (
            ("looks_near", f"weight {NEAR} back"),
            ("looks_far", f"weight {FAR} back"),
            ("cost_of_removal_nats", "cost (nats)"),
        ),
        strict=True,
    ):
        middle.bar([head + offset for head in heads], numbers[name], 0.27, label=label)
    middle.set(title="each of four heads, and its removal", xlabel="head")
    middle.set_xticks(heads)
    middle.legend(fontsize=7)
    for kind, bytes_, nats in zip(
        numbers["kinds"], numbers["cache_bytes_per_token"], numbers["nats_by_kind"], strict=True
    ):
        right.plot(bytes_, nats, "o", label=kind)
    right.set(
        title="four query heads, equal parameters", xlabel="cache (bytes per token)", ylabel="loss (nats per token)"
    )
    right.set(xlim=(0, None), ylim=(0, 1.2 * max(numbers["nats_by_kind"])))
    right.legend(loc="lower right")
    return figure


LAB = Lab(
    id=22,
    title=Bilingual("Multi-head attention", "多头注意力"),
    claim=Bilingual(
        "Several heads, each in a narrower space of its own, see the input from different angles at once, and so the model "
        "learns what one head cannot.",
        "多个头各在自己更窄的子空间里，同时从不同角度看输入，因此模型能学到单个头学不到的东西。",
    ),
    fixed=Bilingual(
        "The same width, one layer, the same rows, steps and learning rate. Numbers of heads: equal parameters by nature. Kinds "
        "of attention: equal parameters within 2 %, since what the keys and values save goes to the feed-forward layer.",
        "宽度相同，均为一层，数据、步数、学习率相同。头数不同时参数天然相等；注意力种类不同时参数相差不超过 2%，"
        "键值省下的参数加到前馈层。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "several beat one",
            Bilingual(
                "where the next token follows from two others, four heads of width 8 come more than 0.3 nats below one of "
                "width 32.",
                "当下一个词元由另外两个词元决定时，四个宽 8 的头比一个宽 32 的头损失低 0.3 奈特以上。",
            ),
            lambda n: of_heads(n, 1) - of_heads(n, 4) > 0.3,
        ),
        Claim(
            "different angles",
            Bilingual(
                "two heads put more than 60 % of their weight on different tokens, on average over pairs, and more than "
                "before training.",
                "平均而言，任意两个头有 60% 以上的权重放在不同的词元上，且多于训练之前。",
            ),
            lambda n: n["apart"] > max(0.6, n["apart_untrained"]),
        ),
        Claim(
            "heads matter",
            Bilingual(
                "taking out a single head of the trained model costs up to more than 0.3 nats.",
                "从训练好的模型中去掉一个头，损失最多上升 0.3 奈特以上。",
            ),
            lambda n: max(n["cost_of_removal_nats"]) > 0.3,
        ),
        Limit(
            "returns diminish",
            Bilingual(
                "from four heads to sixteen the loss falls by less than a third of what it fell from one to four.",
                "头数从四增加到十六，损失的下降不到从一到四时的三分之一。",
            ),
            lambda n: of_heads(n, 4) - of_heads(n, 16) < (of_heads(n, 1) - of_heads(n, 4)) / 3,
        ),
        Limit(
            "angles are those of the queries",
            Bilingual(
                "heads that share keys and values (GQA, MQA) still come more than 0.15 nats below the single head, with half and "
                "a quarter of its cache.",
                "共享键和值的头（GQA、MQA）只用一半和四分之一的缓存，损失仍比单头低 0.15 奈特以上。",
            ),
            lambda n: (
                max(of_kind(n, "nats_by_kind", kind) for kind in ("GQA", "MQA")) < of_heads(n, 1) - 0.15
                and [of_kind(n, "cache_bytes_per_token", kind) for kind in ("MHA", "GQA", "MQA")] == [256, 128, 64]
            ),
        ),
    ),
    measure=measure,
    draw=draw,
)
