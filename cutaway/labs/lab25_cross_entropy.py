"""Topic 25: cross-entropy. Its gradient, its force when a model is confidently wrong, how fast it teaches, what it costs.

N positions, D model width, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.labs.contract import Bilingual, Claim, Lab, Numbers, Setting
from cutaway.loss.language_modelling import cross_entropy, linear_cross_entropy
from cutaway.models.llama import Llama, LlamaConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOCAB, LENGTH, ROWS, HELD_OUT_ROWS = 48, 16, 12, 200
RATES = (1e-3, 3e-3, 1e-2)


def measure(setting: Setting) -> Numbers:
    torch.manual_seed(setting.seed)
    margins = [float(margin) for margin in range(0, 21, 2)]
    cross, squared = (_force(loss, margins) for loss in (cross_entropy, squared_error))
    steps = 60 if setting.quick else 400
    curves = {
        name: _best_curve(loss, steps, setting.seed) for name, loss in (("ce", cross_entropy), ("se", squared_error))
    }
    whole, fused, loss_gap = _memory()
    return {
        "gradient_error": _gradient_error(),
        "margins": margins,
        "force_cross_entropy": cross,
        "force_squared_error": squared,
        "curve_cross_entropy_nats": curves["ce"],
        "curve_squared_error_nats": curves["se"],
        "final_cross_entropy_nats": curves["ce"][-1],
        "final_squared_error_nats": curves["se"][-1],
        "kept_whole_mb": whole,
        "kept_fused_mb": fused,
        "fused_relative_gap": loss_gap,
    }


def squared_error(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Σ |softmax(logits) − onehot(target)|², the alternative."""
    return (logits_NV.softmax(-1) - F.one_hot(targets_N, logits_NV.shape[-1])).square().sum()


def _gradient_error() -> float:
    """The largest distance between autograd's derivative by the logits and p − y."""
    logits = torch.randn(64, VOCAB, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, VOCAB, (64,))
    (grad,) = torch.autograd.grad(cross_entropy(logits, targets), logits)
    expected = logits.detach().softmax(-1) - F.one_hot(targets, VOCAB)
    return (grad - expected).abs().max().item()


def _force(loss: Callable[[Tensor, Tensor], Tensor], margins: list[float]) -> list[float]:
    """Norm of the gradient by two logits, when the wrong one leads by each margin."""
    norms = []
    for margin in margins:
        logits = torch.tensor([[0.0, margin]], dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(loss(logits, torch.tensor([0])), logits)
        norms.append(grad.norm().item())
    return norms


def _best_curve(loss: Callable[[Tensor, Tensor], Tensor], steps: int, seed: int) -> list[float]:
    """Held-out loss in nats while training on `loss`, with the learning rate that suits it best on another held-out text."""
    return min((_curve(loss, steps, seed, rate) for rate in RATES), key=lambda found: found[0])[1]


def _curve(loss: Callable[[Tensor, Tensor], Tensor], steps: int, seed: int, rate: float) -> tuple[float, list[float]]:
    """The last loss on the text that rates are picked on, and the losses on the one that is reported."""
    torch.manual_seed(seed)
    model = Llama(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            initializer_range=0.25,  # wrong with confidence at first, as after a change of domain
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    reported, curve = _text(10_000 + seed, HELD_OUT_ROWS), []
    for step in range(steps):
        read, wanted = _text(seed + step)
        (loss(model.logits(model(read)).flatten(0, 1), wanted.flatten()) / wanted.numel()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 5 == 4:
            curve.append(_held_out(model, *reported))
    return _held_out(model, *_text(20_000 + seed, HELD_OUT_ROWS)), curve


@torch.no_grad()
def _held_out(model: Llama, ids: Tensor, targets: Tensor) -> float:
    """Nats per token."""
    return cross_entropy(model.logits(model(ids)).flatten(0, 1), targets.flatten()).item() / targets.numel()


def _text(seed: int, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """Rows that count upwards in steps of one to three, and now and then say something else."""
    make = torch.Generator().manual_seed(seed)
    first, stride = torch.randint(0, VOCAB, (rows, 1), generator=make), torch.randint(1, 4, (rows, 1), generator=make)
    ids = (first + stride * torch.arange(LENGTH + 1)) % VOCAB
    noise = torch.randint(0, VOCAB, ids.shape, generator=make)
    ids = torch.where(torch.rand(ids.shape, generator=make) < 0.1, noise, ids)
    return ids[:, :-1], ids[:, 1:]


def _memory(n: int = 2048, d: int = 32, v: int = 8192) -> tuple[float, float, float]:
    """Megabytes kept from forward to backward: logits first, and fused with the output head; and how far the losses differ."""
    h = torch.randn(n, d, requires_grad=True)
    weight = (torch.randn(v, d) * 0.1).requires_grad_()
    targets = torch.randint(0, v, (n,))
    whole, a = _kept(lambda: cross_entropy(F.linear(h, weight), targets))
    fused, b = _kept(lambda: linear_cross_entropy(h, weight, None, targets))
    return whole / 1e6, fused / 1e6, abs(a - b) / a


def _kept(run: Callable[[], Tensor]) -> tuple[int, float]:
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = run()
    return sum(kept.values()), loss.item()


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    force, speed, memory = figure.subplots(1, 3)
    force.semilogy(numbers["margins"], numbers["force_cross_entropy"], label="cross-entropy")
    force.semilogy(numbers["margins"], numbers["force_squared_error"], label="squared error")
    force.set(
        xlabel="logits by which the wrong token leads", ylabel="gradient norm", title="force when confidently wrong"
    )
    force.legend()
    steps = [5 * (i + 1) for i in range(len(numbers["curve_cross_entropy_nats"]))]
    speed.plot(steps, numbers["curve_cross_entropy_nats"], label="trained on cross-entropy")
    speed.plot(steps, numbers["curve_squared_error_nats"], label="trained on squared error")
    speed.axhline(math.log(VOCAB), color="grey", linestyle="--", label="guessing")
    speed.set(xlabel="step", ylabel="held-out loss (nats)", title="speed of learning")
    speed.legend(fontsize=7)
    memory.bar(["logits first", "fused with the head"], [numbers["kept_whole_mb"], numbers["kept_fused_mb"]])
    memory.set(ylabel="MB kept for backward", title="memory, 2,048 × 8,192")
    return figure


LAB = Lab(
    id=25,
    title=Bilingual("Cross-entropy", "交叉熵"),
    claim=Bilingual(
        "Cross-entropy compares the predicted distribution with the true token and punishes confident mistakes, "
        "which makes it the right loss for language modelling.",
        "交叉熵把预测分布与真实词元相比，并重罚自信的错误，因此适合作语言模型的损失。",
    ),
    fixed=Bilingual(
        "Model, first weights, data and steps are equal; each loss gets the best of three learning rates, picked on another "
        "held-out text than the one that is reported.",
        "模型、初始权重、数据和步数相同；每种损失各取三个学习率中最好的一个，所用的留出文本不是报告所用的那一份。",
    ),
    expected="supported",
    checks=(
        Claim(
            "gradient",
            Bilingual(
                "the gradient by the logits is p − y, the predicted minus the true distribution.",
                "对 logits 的梯度就是 p − y，即预测分布减去真实分布。",
            ),
            lambda n: n["gradient_error"] < 1e-12,
        ),
        Claim(
            "force",
            Bilingual(
                "when the wrong token leads by 10 logits, cross-entropy pulls a hundred times harder than squared error, "
                "whose gradient vanishes.",
                "当错误词元领先 10 个 logit 时，交叉熵的梯度比平方误差大一百倍以上，后者的梯度趋于消失。",
            ),
            lambda n: n["force_cross_entropy"][5] > 100 * n["force_squared_error"][5],
        ),
        Claim(
            "speed",
            Bilingual(
                "after equally many steps the model trained on cross-entropy predicts held-out text better.",
                "步数相同时，用交叉熵训练的模型对留出文本预测得更好。",
            ),
            lambda n: n["final_cross_entropy_nats"] < n["final_squared_error_nats"] - 0.1,
        ),
        Claim(
            "memory",
            Bilingual(
                "fused with the output head it gives the same loss and keeps less than a tenth of the memory.",
                "与输出层融合计算时损失相同，而保留的内存不到十分之一。",
            ),
            lambda n: n["kept_fused_mb"] < 0.1 * n["kept_whole_mb"] and n["fused_relative_gap"] < 1e-5,
        ),
    ),
    measure=measure,
    draw=draw,
)
