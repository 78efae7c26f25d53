"""Topic 42: adaptive softmax. The law that it rests on, what it saves by vocabulary, and what it costs in loss.

The text is the reference of the Python language, which comes with every interpreter. Vocabularies beyond its own are those of
generated text: words by Zipf's law with the exponent that the reference has, half of them named by the word before.

Shapes: B rows, N positions, T positions of a row, D model width, V vocabulary.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from cutaway.data.batch import Batch
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.timing import fastest_ms
from cutaway.labs.word_frequencies import Text, coverage, reference_text, zipf_fit, zipf_text
from cutaway.models.families import make_model
from cutaway.nn.adaptive_softmax import plan_clusters
from cutaway.train.memory import static_memory
from cutaway.train.objectives import PLAIN, causal_lm, token_loss
from cutaway.train.parameters import count_parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, LENGTH, ROWS = 64, 32, 16
HEADS = ("full", "adaptive")


@one_thread()
def measure(setting: Setting) -> Numbers:
    larger, sizes = (8_000, (4_000, 16_000, 64_000)) if setting.quick else (50_000, (4_000, 50_000, 200_000, 500_000))
    steps = 60 if setting.quick else 400
    reference = reference_text()
    exponent, fitness, ranks, frequencies = zipf_fit(reference)
    learned = [reference, zipf_text(larger, exponent, setting.seed)]
    costly = [zipf_text(size, exponent, setting.seed) for size in sizes]
    numbers: dict[str, Any] = {
        "zipf_exponent": exponent,
        "zipf_r2": fitness,
        "ranks": ranks,
        "frequencies": frequencies,
        "top_tenth_share": coverage(reference, 0.1),
        "learned_vocabularies": [text.vocabulary for text in learned],
        "vocabularies": list(sizes),
        "parameters_tied": [count_parameters(decoder(text, "tied"))["all"] for text in costly],
    }
    for head in HEADS:
        losses = [trained(text, head, steps, setting.seed) for text in learned]
        costs = [cost(text, head) for text in costly]
        for place, name in enumerate(("loss", "frequent_loss", "rare_loss")):
            numbers[f"{name}_{head}_nats"] = [of_text[place] for of_text in losses]
        for place, name in enumerate(("step_{}_ms", "next_word_{}_ms", "memory_{}_mb", "parameters_{}")):
            numbers[name.format(head)] = [of_text[place] for of_text in costs]
    return numbers


def decoder(text: Text, head: str, seed: int = 0) -> Any:
    """One layer and an output head; the clusters are planned from the text."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": text.vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 1,
    }
    more = {"adaptive": plan_clusters(text.counts, WIDTH).model_dump()} if head == "adaptive" else {}
    return make_model({"model_type": "composed", **shape, "max_position_embeddings": LENGTH, "head": head, **more})


def trained(text: Text, head: str, steps: int, seed: int) -> tuple[float, float, float]:
    """Held-out loss after training, in nats per word: of all, of the shortlist's words, of the others."""
    model = decoder(text, head, seed)
    fit(model, causal_lm, windows(text.training, seed), steps, lr=3e-3)
    shortlist = plan_clusters(text.counts, WIDTH).cutoffs[0]
    is_frequent = np.zeros(text.vocabulary, bool)
    is_frequent[np.argsort(-text.counts, kind="stable")[:shortlist]] = True
    losses, frequent = [], []
    with torch.inference_mode():
        for batch, _ in zip(windows(text.held_out, seed), range(8), strict=False):
            logits_NV, targets_N = model.logits(model(batch.ids_BT).flatten(0, 1)), batch.targets_BT.flatten()
            losses.append(F.cross_entropy(logits_NV, targets_N, reduction="none"))
            frequent.append(torch.from_numpy(is_frequent)[targets_N])
    loss_N, frequent_N = torch.cat(losses), torch.cat(frequent)
    return float(loss_N.mean()), float(loss_N[frequent_N].mean()), float(loss_N[~frequent_N].mean())


def windows(ids: np.ndarray, seed: int) -> Iterator[Batch]:
    """Pieces of a text, from anywhere."""
    generator = np.random.default_rng(seed)
    positions_BT = torch.arange(LENGTH).expand(ROWS, LENGTH)
    while True:
        starts = generator.integers(len(ids) - LENGTH, size=(ROWS, 1))
        rows = torch.from_numpy(ids[starts + np.arange(LENGTH + 1)])
        yield Batch(rows[:, :-1], rows[:, 1:], positions_BT, torch.ones_like(positions_BT))


def cost(text: Text, head: str) -> tuple[float, float, float, int]:
    """What a head takes.

    Returns:
        Milliseconds for the loss and all gradients of a batch, and for the probabilities of one next word; megabytes of weights,
        gradients and optimiser; parameters of the whole model.
    """
    model = decoder(text, head)
    h_BTD = torch.randn(ROWS, LENGTH, WIDTH, requires_grad=True)
    targets_BT = next(windows(text.training, seed=0)).targets_BT

    def step() -> None:
        token_loss(model, h_BTD, targets_BT, PLAIN)[0].backward()

    def next_word() -> None:
        with torch.inference_mode():
            model.logits(h_BTD[0, 0])

    memory = static_memory(model.output)
    held = memory.weights + memory.gradients + memory.optimiser
    step_ms, next_word_ms = fastest_ms(step, next_word, times=3)
    return step_ms, next_word_ms, held / 1e6, count_parameters(model)["all"]


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    law, speed, memory, loss = figure.subplots(1, 4)
    ranks, frequencies = np.array(numbers["ranks"], float), np.array(numbers["frequencies"])
    exponent = numbers["zipf_exponent"]
    line = np.exp(np.log(frequencies).mean() + exponent * (np.log(ranks).mean() - np.log(ranks)))
    law.loglog(ranks, frequencies, "o", markersize=3, label="the Python reference")
    law.loglog(ranks, line, label=f"rank to the power of −{exponent:.2f}")
    law.set(xlabel="rank", ylabel="share of the text", title="Zipf's law")
    law.legend(fontsize=7)
    sizes = numbers["vocabularies"]
    for head, colour in zip(HEADS, ("tab:blue", "tab:orange"), strict=True):
        speed.loglog(sizes, numbers[f"step_{head}_ms"], "o-", color=colour, label=head)
        speed.loglog(sizes, numbers[f"next_word_{head}_ms"], "o--", color=colour)
        memory.loglog(sizes, numbers[f"memory_{head}_mb"], "o-", color=colour, label=head)
    for axes, unit, title in (
        (speed, "ms", "training (dashed: one next word)"),
        (memory, "MB", "weights, gradients, optimiser"),
    ):
        axes.minorticks_off()
        axes.set_xticks(sizes, [f"{size / 1000:g}k" for size in sizes])
        axes.set(xlabel="vocabulary", ylabel=unit, title=title)
        axes.legend(fontsize=7)
    places = np.arange(3)
    for number, head in enumerate(HEADS):
        of_reference = [numbers[f"{name}_{head}_nats"][0] for name in ("loss", "frequent_loss", "rare_loss")]
        loss.bar(places + 0.4 * number - 0.2, of_reference, 0.4, label=head)
    loss.set_xticks(places, ["all", "shortlist", "other words"])
    loss.set(ylabel="held-out loss (nats)", title="after equal training")
    loss.legend(fontsize=7)
    return figure


def _gains(numbers: Mapping, name: str) -> list[float]:
    """How many times less the adaptive head takes, by vocabulary."""
    full, adaptive = numbers[name.format("full")], numbers[name.format("adaptive")]
    return [of_full / of_adaptive for of_full, of_adaptive in zip(full, adaptive, strict=True)]


LAB = Lab(
    id=42,
    title=Bilingual("Adaptive softmax", "自适应 softmax"),
    claim=Bilingual(
        "Word frequencies follow Zipf's law, so an output layer that gives most of its work to the frequent words and narrower "
        "clusters to the rare ones makes training and inference much faster and predicts as well.",
        "词频服从齐夫定律，因此输出层把大部分计算用于高频词、给低频词更窄的簇，训练和推理都显著加快，而效果不变。",
    ),
    fixed=Bilingual(
        "Text, trunk, width, steps, learning rate and seeds are equal; only the output head differs, and it is not tied.",
        "文本、主干、宽度、步数、学习率和随机种子相同；只有输出层不同，且不与嵌入共享。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "zipf",
            Bilingual(
                "a real text follows Zipf's law (R² above 0.95), and a tenth of its words makes up three quarters of it",
                "真实文本服从齐夫定律（R² 高于 0.95），十分之一的词占全文四分之三以上",
            ),
            lambda n: n["zipf_r2"] > 0.95 and 0.7 < n["zipf_exponent"] < 1.5 and n["top_tenth_share"] > 0.75,
        ),
        Claim(
            "training time",
            Bilingual(
                "with the largest vocabulary, loss and gradients of the head take less than a fifth of the time",
                "在最大的词表上，输出层的损失与梯度用时不到五分之一",
            ),
            lambda n: _gains(n, "step_{}_ms")[-1] > 5,
        ),
        Claim(
            "memory",
            Bilingual(
                "the head's weights, gradients and optimiser take less than a quarter of the memory",
                "输出层的权重、梯度和优化器占用的内存不到四分之一",
            ),
            lambda n: min(_gains(n, "memory_{}_mb")) > 4,
        ),
        Claim(
            "loss",
            Bilingual(
                "after equally many steps held-out loss is no more than 0.1 nats above that of the full softmax",
                "步数相同时，留出损失最多比完整 softmax 高 0.1 奈特",
            ),
            lambda n: all(
                adaptive < full + 0.1
                for full, adaptive in zip(n["loss_full_nats"], n["loss_adaptive_nats"], strict=True)
            ),
        ),
        Limit(
            "inference",
            Bilingual(
                "who writes needs the probabilities of all words: with the smallest vocabulary the gain in time is less than a "
                "third of that in training",
                "生成时需要所有词的概率：在最小的词表上，省下的时间不到训练时的三分之一",
            ),
            lambda n: _gains(n, "next_word_{}_ms")[0] < _gains(n, "step_{}_ms")[0] / 3,
        ),
        Limit(
            "rare words",
            Bilingual("words outside the shortlist are predicted worse", "短表之外的词预测得更差"),
            lambda n: sum(n["rare_loss_adaptive_nats"]) > sum(n["rare_loss_full_nats"]) + 0.05,
        ),
        Limit(
            "tied",
            Bilingual(
                "a full softmax that shares its matrix with the embedding, as in many models, has fewer parameters still",
                "许多模型让完整 softmax 与嵌入共享矩阵，参数还要更少",
            ),
            lambda n: all(
                tied < adaptive for tied, adaptive in zip(n["parameters_tied"], n["parameters_adaptive"], strict=True)
            ),
        ),
    ),
    measure=measure,
    draw=draw,
)
