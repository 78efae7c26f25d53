"""Topic 37: mixture of experts. What more parameters at the same work per token are worth, and which expert gets which tokens.

The text is in eight small languages (`many_languages`). In the main task all use the same words, so a word does not tell its
language; in the other task each has words of its own.

Shapes: T positions, N tokens, E experts, K experts per token, Z languages, V words of a language.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.data.batch import Batch
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.many_languages import LANGUAGES, LENGTH, ROWS, Task, floor, make_task
from cutaway.models.families import make_model
from cutaway.nn.experts import Routing, expert_layers, load
from cutaway.train.objectives import LossConfig, causal_lm
from cutaway.train.parameters import count_parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, EXPERTS, CHOSEN, HIDDEN = 16, 16, 2, 8  # hidden units are those of one expert
ROUTER_WORTH = 6  # hidden units that cost no less than the router
DENSE = {"intermediate_size": CHOSEN * HIDDEN + ROUTER_WORTH}
WIDE = {"intermediate_size": EXPERTS * HIDDEN}
SPARSE = {"num_experts": EXPERTS, "num_experts_per_tok": CHOSEN, "intermediate_size": HIDDEN}
BALANCE = 0.05  # weight of the balance loss
MODELS: dict[str, tuple[dict[str, int], float]] = {
    "dense": (DENSE, 0.0),
    "experts": (SPARSE, BALANCE),
    "experts, no balance": (SPARSE, 0.0),
    "dense, all parameters": (WIDE, 0.0),
}


@one_thread()
def measure(setting: Setting) -> Numbers:
    steps = 300 if setting.quick else 1500
    task, apart = make_task(setting.seed), make_task(setting.seed, own_words=True)
    batches = [task.batch(number) for number in range(steps)]
    models, step_ms = {}, []
    for name, (feed_forward, balance) in MODELS.items():
        started = time.monotonic()
        models[name] = trained(task, batches, feed_forward, balance)
        step_ms.append(1000 * (time.monotonic() - started) / steps)
    sizes = [count_parameters(model) for model in models.values()]
    own = trained(apart, [apart.batch(number) for number in range(steps // 2)], SPARSE, BALANCE)
    language_bits, word_bits = knowledge(models["experts"], task)
    own_language_bits, own_word_bits = knowledge(own, apart)
    return {
        "models": list(models),
        "active_parameters": [size["active"] for size in sizes],
        "all_parameters": [size["all"] for size in sizes],
        "step_ms": step_ms,
        "loss_nats": [held_out(model, task) for model in models.values()],
        "floor_nats": floor(),
        "load_balanced": loads(models["experts"], task),
        "load_unbalanced": loads(models["experts, no balance"], task),
        "language_bits": language_bits,
        "word_bits": word_bits,
        "own_words_language_bits": own_language_bits,
        "own_words_word_bits": own_word_bits,
    }


def trained(task: Task, batches: Sequence[Batch], feed_forward: Mapping[str, int], balance: float) -> Any:
    """A small decoder that has learned the task."""
    torch.manual_seed(task.seed)
    shape = {
        "vocab_size": task.vocabulary,
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "max_position_embeddings": LENGTH,
    }
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head": "full", "initializer_range": WIDTH**-0.5}
    model = make_model({"model_type": "composed", **shape, **heads, **feed_forward})
    fit(model, partial(causal_lm, config=LossConfig(balance=balance)), batches, len(batches), lr=2e-2)
    return model


def held_out_batches(task: Task) -> Iterator[Batch]:
    """Text that no model has read."""
    return (task.batch(number) for number in range(-8, 0))


@torch.inference_mode()
def held_out(model: Any, task: Task) -> float:
    """Loss in nats per word."""
    found = [causal_lm(model, batch) for batch in held_out_batches(task)]
    return float(sum(loss for loss, _, _ in found)) / sum(n for _, n, _ in found)


def routings(model: Any, task: Task) -> Iterator[tuple[Batch, Routing]]:
    """Where the tokens of the held-out batches go."""
    (layer,) = expert_layers(model).values()
    for batch in held_out_batches(task):
        causal_lm(model, batch)
        assert layer.routing is not None
        yield batch, layer.routing


@torch.inference_mode()
def loads(model: Any, task: Task) -> list[float]:
    """What each expert got over its even share, largest first."""
    share_E = torch.stack([load(routing) for _, routing in routings(model, task)]).mean(0)
    return (EXPERTS * share_E).sort(descending=True).values.tolist()


@torch.inference_mode()
def knowledge(model: Any, task: Task) -> tuple[float, float]:
    """What a token's expert tells about its language, and about the word it is: mutual information in bits."""
    counts_EZV = torch.zeros(EXPERTS, LANGUAGES, task.vocabulary)
    for batch, routing in routings(model, task):
        words_BT = batch.ids_BT[:, 1:]  # the first token names the language
        language_BT = task.language(batch)[:, None].expand_as(words_BT)
        for experts_N in routing.experts_NK.T:
            experts_BT = experts_N.view(ROWS, LENGTH)[:, 1:]
            counts_EZV.index_put_((experts_BT, language_BT, words_BT), torch.ones(()), accumulate=True)
    return mutual_information(counts_EZV.sum(2)), mutual_information(counts_EZV.sum(1))


def mutual_information(counts_XY: Tensor) -> float:
    """In bits, of two variables that were counted together."""
    p_XY = counts_XY.double() / counts_XY.sum()
    apart_XY = p_XY.sum(1, keepdim=True) * p_XY.sum(0, keepdim=True)
    seen = p_XY > 0
    return float((p_XY[seen] * (p_XY[seen] / apart_XY[seen]).log2()).sum())


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, shares, told = figure.subplots(1, 3)
    loss.bar(numbers["models"], numbers["loss_nats"])
    loss.axhline(numbers["floor_nats"], color="grey", linestyle="--", label="who knows the rules")
    loss.set(ylabel="held-out loss (nats)", title="loss at equal active parameters")
    loss.set_xticks(
        range(len(numbers["models"])), [name.replace(", ", ",\n") for name in numbers["models"]], fontsize=7
    )
    loss.legend(fontsize=7)
    for name in ("balanced", "unbalanced"):
        shares.plot(range(1, EXPERTS + 1), numbers[f"load_{name}"], "o-", label=name)
    shares.axhline(1, color="grey", linestyle="--")
    shares.set(xlabel="expert, by load", ylabel="load over an even share", title="load by expert")
    shares.locator_params(axis="x", integer=True)
    shares.legend()
    places = torch.arange(2)
    told.bar(places - 0.2, [numbers["language_bits"], numbers["own_words_language_bits"]], 0.4, label="the language")
    told.bar(places + 0.2, [numbers["word_bits"], numbers["own_words_word_bits"]], 0.4, label="the word")
    told.set_xticks([0, 1], ["shared words", "own words"])
    told.set(ylabel="bits", title="what the expert tells about")
    told.legend()
    return figure


def _loss(numbers: Mapping, name: str) -> float:
    return numbers["loss_nats"][numbers["models"].index(name)]


LAB = Lab(
    id=37,
    title=Bilingual("Mixture of experts", "专家混合（MoE）"),
    claim=Bilingual(
        "A layer of many experts, of which each token passes only a few, gives a model more parameters and better results at the "
        "same work per token; experts specialise, for example by language.",
        "一层包含许多专家，每个词元只经过少数几个，模型因此在每词元计算量不变时拥有更多参数、效果更好；专家会特化，例如按语言。",
    ),
    fixed=Bilingual(
        "Text, steps, seeds and active parameters per token are equal; the dense model also gets what the router costs.",
        "文本、步数、随机种子和每词元激活的参数量相同；路由器的开销也折算给稠密模型。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "equal work",
            Bilingual(
                "a token goes through no more parameters than in the dense model, while there are over twice as many",
                "每个词元经过的参数不多于稠密模型，而参数总量是它的两倍以上",
            ),
            lambda n: (
                n["active_parameters"][1] <= n["active_parameters"][0]
                and n["all_parameters"][1] > 2 * n["all_parameters"][0]
            ),
        ),
        Claim(
            "better",
            Bilingual("and yet predicts held-out text better", "而对留出文本预测得更好"),
            lambda n: _loss(n, "experts") < _loss(n, "dense") - 0.03,
        ),
        Claim(
            "balance",
            Bilingual(
                "without the balance loss the busiest expert gets over 1.4 times its share, with it less",
                "没有均衡损失时，最忙的专家拿到应得份额的 1.4 倍以上；有它时不到 1.4 倍",
            ),
            lambda n: n["load_balanced"][0] < 1.4 < n["load_unbalanced"][0],
        ),
        Claim(
            "specialised",
            Bilingual(
                "which expert a token went to tells much about the token", "词元去了哪个专家，能说明这个词元的许多信息"
            ),
            lambda n: n["word_bits"] > 0.5,
        ),
        Limit(
            "not by language",
            Bilingual(
                "experts divide the words rather than the languages: the expert says much less about a token's language than "
                "about its word, even where each language has words of its own",
                "专家分的主要是词而不是语言：即使各语言用各自的词，专家透露的语言信息也远少于词的信息",
            ),
            lambda n: (
                n["language_bits"] < 0.33 * n["word_bits"]
                and n["own_words_language_bits"] < 0.5 * n["own_words_word_bits"]
            ),
        ),
        Limit(
            "memory",
            Bilingual(
                "all experts have to be in memory, whichever a token passes",
                "无论词元经过哪些专家，所有专家都要放在内存里",
            ),
            lambda n: n["all_parameters"][1] > 1.5 * n["active_parameters"][1],
        ),
    ),
    measure=measure,
    draw=draw,
)
