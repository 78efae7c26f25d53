"""Topic 30: ReLU and its relatives: the derivative at 0, gradients through 50 layers, zeros, dead units, time.

Sigmoid and tanh, which the claim compares with and no family of ours uses, take ReLU's place in its own layer.

Shapes: L layers, N vectors, D model width, F hidden units.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.lagged_tokens import LaggedTokens
from cutaway.labs.timing import fastest_ms
from cutaway.lens.activations import activations
from cutaway.lens.gradient_norms import gradient_norms
from cutaway.lens.hooks import capture
from cutaway.lens.units import unit_activity
from cutaway.models.composed import Composed, ComposedConfig, dense, make_norm
from cutaway.nn.activation import ACTIVATIONS
from cutaway.nn.feedforward import FeedForward
from cutaway.train.held_out import held_out_loss
from cutaway.train.objectives import causal_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = ("relu", "gelu", "silu", "swiglu", "relu2")
SATURATING: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}
COMPARED = (*OURS, *SATURATING)
KERNELS = {**{name: ACTIVATIONS[name] for name in OURS if name in ACTIVATIONS}, **SATURATING}
DEPTH, D, F = 50, 64, 128
LENGTH = 32
CALM, HARSH = 1e-2, 1e-1  # learning rates


@one_thread()
def measure(setting: Setting) -> Numbers:
    torch.manual_seed(setting.seed)
    trained = {name: learned(name, setting, CALM) for name in OURS}
    harsh = {name: learned(name, setting, HARSH) for name in ("relu", "gelu")}
    return {
        "compared": list(COMPARED),
        "ours": list(OURS),
        "derivative": derivatives(ACTIVATIONS["relu"], (-2.0, -1e-30, 1e-30, 2.0)),
        **{f"derivative_at_0_{name}": derivatives(f, (0.0,))[0] for name, f in same_function().items()},
        "stack": [through_stack(name, norm="rms", gain=1.0) for name in COMPARED],
        "transformer": [through_transformer(name) for name in COMPARED],
        "stack_without_norm": through_stack("relu", norm="none", gain=1.0),
        "stack_without_norm_doubled": through_stack("relu", norm="none", gain=2.0),
        **{name: [run[name] for run in trained.values()] for name in ("nats", "zeros", "dead")},
        "dead_harsh": [run["dead"] for run in harsh.values()],
        "kernels": list(KERNELS),
        "kernel_ms": kernel_times(),
    }


def same_function() -> dict[str, Callable[[Tensor], Tensor]]:
    """max(0, x) as the framework offers it, and the smooth relatives."""
    return {
        "relu": ACTIVATIONS["relu"],
        "clamp": lambda x: x.clamp(min=0),
        "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
        "gelu": ACTIVATIONS["gelu"],
        "silu": ACTIVATIONS["silu"],
        "relu2": ACTIVATIONS["relu2"],
    }


def derivatives(f: Callable[[Tensor], Tensor], points: tuple[float, ...]) -> list[float]:
    """What autograd says."""
    x = torch.tensor(points, requires_grad=True)
    f(x).sum().backward()
    assert x.grad is not None
    return x.grad.tolist()


def through_stack(name: str, *, norm: str, gain: float) -> float:
    """The gradient's norm before the first of 50 feed-forward layers over that behind the last; no residual connections.

    Args:
        norm: before each layer, as in a pre-norm block.
        gain: what the last matrix of a layer multiplies the mean square of its input by; the first one keeps it.
    """
    config = shaped(name, norm=norm)
    layers = nn.Sequential(*(nn.Sequential(make_norm(config), dense(config)) for _ in range(DEPTH)))
    for layer, module in layers.named_modules():
        if isinstance(module, nn.Linear):
            factor = gain if layer.endswith("down_proj") else 1.0
            nn.init.normal_(module.weight, std=(factor / module.in_features) ** 0.5)
    exchange(layers, name)
    x_ND = torch.randn(16, D, requires_grad=True)
    last = str(DEPTH - 1)
    with capture(layers, [last]) as calls:
        layers(x_ND)
    y_ND = calls[last].output
    before_ND, behind_ND = torch.autograd.grad((y_ND * torch.randn_like(y_ND)).sum(), (x_ND, y_ND))
    return (before_ND.norm() / behind_ND.norm()).item()


def through_transformer(name: str) -> float:
    """The same for a whole transformer of 50 blocks, with norms and residual connections: first block's output over last's."""
    config = shaped(
        name, num_hidden_layers=DEPTH, initializer_range=D**-0.5, head="full", max_position_embeddings=LENGTH
    )
    model = Composed(config)
    exchange(model, name)
    stream_LT = gradient_norms(model, torch.randint(config.vocab_size, (1, LENGTH))).stream_LT
    return (stream_LT[0].norm() / stream_LT[-1].norm()).item()


def shaped(name: str, **choices: Any) -> ComposedConfig:
    """A configuration with one of the activations; the gated one has three matrices and two thirds of the hidden units."""
    return ComposedConfig(
        vocab_size=LaggedTokens.V,
        hidden_size=D,
        intermediate_size=F * 2 // 3 if name == "swiglu" else F,
        activation="relu" if name in SATURATING else name,  # type: ignore[arg-type]
        **choices,
    )


def exchange(model: nn.Module, name: str) -> None:
    """Put a saturating function where ReLU is."""
    if name in SATURATING:
        for module in model.modules():
            if isinstance(module, FeedForward):
                module.f = SATURATING[name]


def learned(name: str, setting: Setting, lr: float) -> dict[str, float]:
    """Train a small decoder: its loss on new rows, and of its hidden units the zeros and those that no token wakes."""
    torch.manual_seed(setting.seed)
    source = LaggedTokens(setting.seed)
    model = Composed(shaped(name, num_hidden_layers=2, initializer_range=0.1, max_position_embeddings=LENGTH))
    batches = source.batches(16, LENGTH, setting.seed)
    fit(model, causal_lm, batches, 80 if setting.quick else 1000, lr)
    held_out = source.batch(64, LENGTH, torch.Generator().manual_seed(setting.seed + 1000))
    units = [found for found in activations(model, held_out.ids_BT) if found.kind == "units"]
    layers = unit_activity(model, held_out.ids_BT)
    return {
        "nats": held_out_loss(model, causal_lm, [held_out]),
        "zeros": sum(found.zeros for found in units) / len(units),
        "dead": sum(len(layer.dead) for layer in layers) / sum(len(layer.active_F) for layer in layers),
    }


def kernel_times() -> list[float]:
    """Milliseconds of each function alone, forward and back, on half a million numbers."""
    x = torch.randn(512, 1024, requires_grad=True)
    ahead = torch.randn(512, 1024)

    def there_and_back(f: Callable[[Tensor], Tensor]) -> None:
        torch.autograd.grad(f(x), x, ahead)

    return fastest_ms(*(partial(there_and_back, f) for f in KERNELS.values()), times=15)


def of(numbers: Mapping, table: str, name: str) -> float:
    """A function's number in one of the tables."""
    names = {"stack": "compared", "transformer": "compared", "kernel_ms": "kernels"}.get(table, "ours")
    return numbers[table][numbers[names].index(name)]


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    places = range(len(numbers["compared"]))
    left.semilogy(places, numbers["stack"], "o", label="50 layers, norms")
    left.semilogy(places, numbers["transformer"], "s", label="50 blocks, norms and residual")
    left.axhline(1, color="grey", linestyle="--")
    left.set_xticks(places, numbers["compared"], fontsize=7)
    left.set(title="gradient: first layer over last", ylabel="ratio of norms")
    left.legend(fontsize=7)
    places = range(len(numbers["ours"]))
    for offset, name in ((-0.2, "zeros"), (0.2, "dead")):
        middle.bar([place + offset for place in places], numbers[name], 0.4, label=name)
    told = [f"{name}\n{nats:.2f}" for name, nats in zip(numbers["ours"], numbers["nats"], strict=True)]
    middle.set_xticks(places, told, fontsize=7)
    middle.set(title="after training", ylabel="share of hidden units", xlabel="and loss on new rows (nats)")
    middle.legend(fontsize=7)
    right.bar(numbers["kernels"], numbers["kernel_ms"])
    right.tick_params(axis="x", labelsize=7)
    right.set(title="forward and back, half a million numbers", ylabel="ms")
    return figure


LAB = Lab(
    id=30,
    title=Bilingual("ReLU", "ReLU 激活函数"),
    claim=Bilingual(
        "ReLU's derivative is 1 above 0 and 0 below, and 0 or 1 by convention at 0; so gradients pass through deep networks "
        "where those of sigmoid or tanh vanish. It is cheap, and its zeros make the network sparse.",
        "ReLU 的导数在 0 以上为 1，以下为 0，在 0 处按约定取 0 或 1；因此梯度能穿过深层网络，而 sigmoid 和 tanh 的梯度会消失。"
        "它计算便宜，产生的零使网络稀疏。",
    ),
    fixed=Bilingual(
        "The same width and depth, and weights drawn alike; equal parameters (the gated unit has two thirds of the hidden "
        "units). Trained models: the same rows, steps and learning rate.",
        "宽度和深度相同，权重按同样方式抽取，参数量相等（门控单元的隐藏单元数取三分之二）。训练的模型：数据、步数、学习率相同。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "derivative",
            Bilingual("autograd gives 0 below and 1 above 0.", "自动求导在 0 以下给出 0，在 0 以上给出 1。"),
            lambda n: n["derivative"] == [0, 0, 1, 1],
        ),
        Claim(
            "passes",
            Bilingual(
                "through 50 layers without residual connections ReLU's gradient keeps its size within a factor of 50, while "
                "sigmoid's shrinks by more than 10 orders of magnitude.",
                "穿过 50 层、没有残差连接时，ReLU 的梯度大小变化不超过 50 倍，而 sigmoid 的梯度缩小 10 个数量级以上。",
            ),
            lambda n: 1 / 50 < of(n, "stack", "relu") < 50 and of(n, "stack", "sigmoid") < 1e-10,
        ),
        Claim(
            "sparse",
            Bilingual(
                "over 30 % of ReLU's hidden units are exactly zero after training, at least three times as many as of GELU's or "
                "SiLU's, which are zero only where float32 rounds them to it.",
                "训练后 ReLU 的隐藏单元有 30% 以上恰为零，至少是 GELU 或 SiLU 的三倍；后两者只有被 float32 舍入时才为零。",
            ),
            lambda n: of(n, "zeros", "relu") > max(0.3, *(3 * of(n, "zeros", name) for name in ("gelu", "silu"))),
        ),
        Claim(
            "cheap",
            Bilingual("ReLU takes less time than tanh and GELU.", "ReLU 用时少于 tanh 和 GELU。"),
            lambda n: of(n, "kernel_ms", "relu") < min(of(n, "kernel_ms", name) for name in ("tanh", "gelu")),
        ),
        Limit(
            "the derivative at 0 is a choice",
            Bilingual(
                "PyTorch answers 0 for relu(x), 1 for clamp(x, min=0) and ½ for maximum(x, 0), which are one function.",
                "对同一个函数，PyTorch 在 0 处给出的导数是：relu(x) 为 0，clamp(x, min=0) 为 1，maximum(x, 0) 为 ½。",
            ),
            lambda n: [n[f"derivative_at_0_{name}"] for name in ("relu", "clamp", "maximum")] == [0, 1, 0.5],
        ),
        Limit(
            "half the units pass nothing",
            Bilingual(
                "the derivative of 1 is not enough: without norms and with weights that keep the size of what is linear, "
                "ReLU's gradient shrinks by √2 per layer, below 1e-6 after 50; weights of twice the variance (He et al. "
                "2015) mend that.",
                "导数为 1 还不够：没有归一化、权重只保持线性部分大小时，ReLU 的梯度每层缩小 √2 倍，50 层后不到 1e-6；"
                "方差加倍的权重（He 等，2015）可以补救。",
            ),
            lambda n: n["stack_without_norm"] < 1e-6 and n["stack_without_norm_doubled"] > 0.01,
        ),
        Limit(
            "tanh does not vanish here",
            Bilingual(
                "with weights of that size tanh's gradient does not vanish in 50 layers either.",
                "在这样的权重下，tanh 的梯度穿过 50 层同样不会消失。",
            ),
            lambda n: of(n, "stack", "tanh") > 0.1,
        ),
        Limit(
            "residual connections carry it",
            Bilingual(
                "in a transformer of 50 blocks the gradient arrives whatever the function is, sigmoid included.",
                "在 50 个块的 Transformer 中，无论用哪种函数（包括 sigmoid），梯度都能到达。",
            ),
            lambda n: min(n["transformer"]) > 0.1 and max(n["transformer"]) < 1000,
        ),
        Limit(
            "dead units",
            Bilingual(
                "trained with too high a learning rate, ReLU loses more than a twentieth of its units: no token of new "
                "rows wakes them.",
                "学习率过高时，ReLU 会失去二十分之一以上的单元：新数据中没有任何词元能唤醒它们。",
            ),
            lambda n: n["dead_harsh"][0] > 0.05,
        ),
        Limit(
            "sigmoid is cheap too",
            Bilingual(
                "on this machine sigmoid takes less than three times as long as ReLU: reading and writing the numbers is "
                "most of it.",
                "在这台机器上，sigmoid 用时不到 ReLU 的三倍：时间大多花在读写数据上。",
            ),
            lambda n: of(n, "kernel_ms", "sigmoid") < 3 * of(n, "kernel_ms", "relu"),
        ),
    ),
    measure=measure,
    draw=draw,
)
