"""Topic 43: vanishing gradients. By distance in time, by depth, and what it takes to learn: residual connections and norms.

Shapes: T positions, L layers, D model width, V vocabulary.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.data.batch import Batch
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.lens.gradient_norms import gradient_norms
from cutaway.lens.hooks import capture, name_of
from cutaway.models.decoder import Decoder
from cutaway.models.families import make_model
from cutaway.train.objectives import causal_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOCAB, WIDTH, CONTEXT = 32, 32, 48
DEPTH, TRAINED_DEPTH = 12, 8
VARIANTS: dict[str, dict[str, Any]] = {
    "pre-norm": {},
    "post-norm": {"norm_place": "post"},
    "no residual": {"residual": False},
    "no norm": {"norm": "none"},
    "neither": {"norm": "none", "residual": False},
}
CELLS = ("gru", "lstm")
SMALL = 0.02  # std of the first weights, as in GPT-2: a sub-layer begins as nearly nothing
KEEPING = WIDTH**-0.5  # and the one with which a linear layer keeps the size of what it reads
DISTANCES = (1, 2, 4, 8, 16, 32)
GUESSING = math.log(VOCAB)
NOISE = 0.1  # share of tokens that follow no rule
RATE, HIGH_RATE = 1e-2, 6e-2


@one_thread()
def measure(setting: Setting) -> Numbers:
    steps, texts = (50, 4) if setting.quick else (300, 32)
    generator = torch.Generator().manual_seed(setting.seed)
    ids_NT = torch.randint(VOCAB, (texts, CONTEXT), generator=generator)
    deep = {
        std: {name: transformer(setting.seed, std, **change) for name, change in VARIANTS.items()}
        for std in (SMALL, KEEPING)
    }
    readers = {cell: recurrent(setting.seed, cell) for cell in CELLS}
    readers |= {name: deep[KEEPING][name] for name in ("pre-norm", "post-norm", "no residual")}
    return {
        "variants": list(VARIANTS),
        "by_layer_small": [by_layer(model, ids_NT) for model in deep[SMALL].values()],
        "by_layer_keeping": [by_layer(model, ids_NT) for model in deep[KEEPING].values()],
        "alike": [alike(model, ids_NT) for model in deep[SMALL].values()],
        "readers": list(readers),
        "distances": list(DISTANCES),
        "by_distance": [by_distance(model, ids_NT) for model in readers.values()],
        "loss_nats": [learned(change, steps, RATE, setting.seed) for change in VARIANTS.values()],
        "loss_high_rate_nats": [
            learned(VARIANTS[name], steps, HIGH_RATE, setting.seed) for name in ("pre-norm", "post-norm")
        ],
    }


def transformer(seed: int, std: float, depth: int = DEPTH, **change: Any) -> Any:
    """The parts of the original Transformer's decoder, pre-norm, with one of them changed."""
    torch.manual_seed(seed)
    shape = {"vocab_size": VOCAB, "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": depth}
    parts = {"activation": "relu", "norm": "layer", "initializer_range": std, "max_position_embeddings": CONTEXT}
    return make_model({"model_type": "composed", **shape, **parts, **change})


def recurrent(seed: int, cell: str) -> Any:
    """A recurrent decoder of the same width."""
    torch.manual_seed(seed)
    shape = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_layers": 2, "cell": cell, "attention_score": "none"}
    return make_model({"model_type": "rnn_seq2seq", **shape})


def by_layer(model: Any, ids_NT: Tensor) -> list[float]:
    """log₁₀ of the gradient's norm at the output of each layer, over that at the last; the mean over texts.

    In float64: what vanishes is too small for float32.
    """
    norms = [gradient_norms(model.double(), ids_NT[row : row + 1]).stream_LT.norm(dim=1) for row in range(len(ids_NT))]
    return torch.stack([(norm_L / norm_L[-1]).log10() for norm_L in norms]).mean(0).tolist()


def by_distance(model: Any, ids_NT: Tensor) -> list[float]:
    """log₁₀ of the gradient of the last position's loss by the token `DISTANCES` before, over that by the token just before."""
    model.double()
    with capture(model, [name_of(model, model.embedding)]) as calls:
        h_NTD = model(ids_NT) if isinstance(model, Decoder) else model(ids_NT, model.encode(ids_NT[:, :1]))
        read_NTD = next(iter(calls.values())).output
    losses_N = F.cross_entropy(model.logits(h_NTD[:, -1]), ids_NT[:, 0], reduction="sum")
    (grad_NTD,) = torch.autograd.grad(losses_N, read_NTD)
    norms = grad_NTD.norm(dim=-1).log10().mean(0).flip(0)
    return [float(norms[distance] - norms[1]) for distance in DISTANCES]


@torch.no_grad()
def alike(model: Any, ids_NT: Tensor) -> float:
    """Mean cosine between the final states at different positions of a text: 1 when nothing tells them apart."""
    h_NTD = F.normalize(model.double()(ids_NT), dim=-1)
    cosines_NTT = h_NTD @ h_NTD.mT
    T = ids_NT.shape[1]
    return float((cosines_NTT.sum((1, 2)) - T).mean() / (T * (T - 1)))


def learned(change: dict[str, Any], steps: int, rate: float, seed: int) -> float:
    """The loss at the end of a short training; guessing has ln V."""
    losses = fit(transformer(seed, SMALL, TRAINED_DEPTH, **change), causal_lm, texts_with_a_rule(seed), steps, rate)
    return sum(losses[-5:]) / 5


def texts_with_a_rule(seed: int, rows: int = 8, length: int = 32) -> Iterator[Batch]:
    """Each token names the next one, but for a little noise: easy, if the tokens reach the output."""
    generator = torch.Generator().manual_seed(seed)
    next_V = torch.randperm(VOCAB, generator=generator)
    while True:
        noise = torch.randint(VOCAB, (rows, length + 1), generator=generator)
        kept = torch.rand(rows, length + 1, generator=generator) > NOISE
        columns = [noise[:, 0]]
        for place in range(1, length + 1):
            columns.append(torch.where(kept[:, place], next_V[columns[-1]], noise[:, place]))
        ids = torch.stack(columns, 1)
        positions = torch.arange(length).expand(rows, length)
        yield Batch(ids[:, :-1], ids[:, 1:], positions, torch.ones_like(positions))


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    time, small, keeping, loss = figure.subplots(1, 4)
    for name, curve in zip(numbers["readers"], numbers["by_distance"], strict=True):
        time.plot(numbers["distances"], curve, "o-", label=name)
    time.set(xlabel="tokens back", ylabel="log₁₀ gradient norm", title="by distance, before training")
    time.legend(fontsize=7)
    for axes, key, title in ((small, "small", "small weights"), (keeping, "keeping", "size-keeping weights")):
        for name, curve in zip(numbers["variants"], numbers[f"by_layer_{key}"], strict=True):
            axes.plot(range(1, len(curve) + 1), curve, label=name)
        axes.set(xlabel="layer", ylabel="log₁₀ gradient norm", title=f"by depth, {title}")
        axes.locator_params(axis="x", integer=True)
    small.set_ylim(bottom=-30)
    small.legend(fontsize=7)
    loss.bar(numbers["variants"], numbers["loss_nats"])
    loss.axhline(GUESSING, color="grey", linestyle="--", label="guessing")
    loss.set(ylabel="loss (nats)", title="after training")
    loss.tick_params(axis="x", rotation=40)
    loss.legend(fontsize=7)
    return figure


def _of(numbers: Mapping, key: str, name: str) -> Any:
    """The entry of `key` for a variant or reader."""
    return numbers[key][numbers["readers" if key == "by_distance" else "variants"].index(name)]


LAB = Lab(
    id=43,
    title=Bilingual("Vanishing gradients", "梯度消失"),
    claim=Bilingual(
        "In recurrent networks gradients vanish with distance; the Transformer avoids it by attention, which links any two "
        "tokens directly, by residual connections, and by layer normalisation after each sub-layer.",
        "循环网络的梯度随距离消失；Transformer 靠三点避免：注意力直接连接任意两个词元、残差连接、每个子层之后的层归一化。",
    ),
    fixed=Bilingual(
        "Width, texts and seeds are equal everywhere; of the transformers depth, shape, steps and learning rate too, and "
        "one part changes at a time.",
        "宽度、文本和随机种子处处相同；各 Transformer 的深度、形状、步数和学习率也相同，每次只改一个部件。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "distance",
            Bilingual(
                "32 tokens back, the gradient of GRU and LSTM has fallen more than a thousandfold, that of the transformer "
                "less than tenfold",
                "回看 32 个词元时，GRU 和 LSTM 的梯度降到千分之一以下，Transformer 的下降不到十倍",
            ),
            lambda n: (
                all(_of(n, "by_distance", cell)[-1] < -3 for cell in CELLS)
                and _of(n, "by_distance", "pre-norm")[-1] > -1
            ),
        ),
        Claim(
            "residual",
            Bilingual(
                "through twelve layers with neither norm nor residual connections the gradient vanishes (below 1e-10); residual "
                "connections alone keep it",
                "没有归一化也没有残差时，梯度穿过十二层后消失（低于 1e-10）；仅有残差连接就能保住它",
            ),
            lambda n: (
                _of(n, "by_layer_small", "neither")[0] < -10 and abs(_of(n, "by_layer_small", "no norm")[0]) < 0.5
            ),
        ),
        Claim(
            "norm",
            Bilingual(
                "with larger weights and residual connections alone the gradient explodes (a hundredfold and more); norms "
                "hold it within a factor of ten",
                "权重较大时，只有残差而没有归一化，梯度爆炸（百倍以上）；归一化使它保持在十倍以内",
            ),
            lambda n: (
                _of(n, "by_layer_keeping", "no norm")[0] > 2 and abs(_of(n, "by_layer_keeping", "pre-norm")[0]) < 1
            ),
        ),
        Claim(
            "learns",
            Bilingual(
                "with both the model learns; without residual connections it stays at guessing",
                "两者都有时模型学得会；没有残差连接时停在随机猜测的水平",
            ),
            lambda n: (
                all(_of(n, "loss_nats", name) < GUESSING - 1 for name in ("pre-norm", "post-norm"))
                and all(_of(n, "loss_nats", name) > GUESSING - 0.2 for name in ("no residual", "neither"))
            ),
        ),
        Limit(
            "size is not use",
            Bilingual(
                "norms without residual connections keep the gradient's size and yet nothing is learned: in the last layer all "
                "positions look alike; a short path and a healthy gradient are not enough",
                "只有归一化没有残差时，梯度大小正常却什么也学不到：最后一层各位置几乎相同；路径短、梯度正常并不足够",
            ),
            lambda n: _of(n, "by_layer_small", "no residual")[0] > -2 and _of(n, "alike", "no residual") > 0.9,
        ),
        Limit(
            "place of the norm",
            Bilingual(
                "after each sub-layer is the original, post-norm; modern models norm before it, and at a high learning "
                "rate only these still learn",
                "在子层之后归一化是最初的后置做法；现代模型在子层之前归一化，学习率较高时只有后者仍能学习",
            ),
            lambda n: n["loss_high_rate_nats"][0] < n["loss_high_rate_nats"][1] - 0.5,
        ),
    ),
    measure=measure,
    draw=draw,
)
