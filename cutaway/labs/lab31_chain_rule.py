"""Topic 31: the chain rule. The gradients of a whole transformer, put together by hand, against autograd's.

Every sub-layer is differentiated alone (a vector-Jacobian product of that piece only, on detached inputs). What connects the
pieces is written out here: the product of factors from the loss back to the embedding, and the sums where the residual stream
branches. T positions, D model width, V vocabulary.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.data.batch import Batch
from cutaway.labs.contract import Bilingual, Claim, Lab, Numbers, Setting
from cutaway.lens.gradients import vjp
from cutaway.loss.language_modelling import cross_entropy
from cutaway.models.llama import Llama, LlamaConfig
from cutaway.nn.rope import rope_frequencies, rope_tables
from cutaway.optim.adamw import OptimConfig, make_adamw
from cutaway.train.gradients import accumulate, gradient_norms
from cutaway.train.objectives import causal_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOCAB, LENGTH = 61, 24


def measure(setting: Setting) -> Numbers:
    model, batch = _model(setting, layers=4), _batch(setting.seed)
    accumulate(model, causal_lm, [batch])
    automatic = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    by_hand = backward_by_hand(model, batch.ids_BT, batch.targets_BT)
    without = backward_by_hand(model, batch.ids_BT, batch.targets_BT, residual=False)
    errors = {name: _relative(by_hand[name], automatic[name]) for name in automatic}
    return {
        "tensors": len(automatic),
        "largest_relative_error": max(errors.values()),
        "error_without_the_residual_path": max(_relative(without[name], automatic[name]) for name in automatic),
        "slope_error": _slope_error(model, batch, automatic),
        "tensor_errors": list(errors.values()),
        **_trace(setting),
    }


def backward_by_hand(model: Llama, ids_BT: Tensor, targets_BT: Tensor, residual: bool = True) -> dict[str, Tensor]:
    """Gradients of the mean loss by every parameter.

    Args:
        residual: add the gradient that flows past each sub-layer; False shows what its absence would do.
    """
    config, trunk = model.config, model.model
    frequencies, factor = rope_frequencies(config.head_dim, config.rope_theta, config.rope_scaling, config.head_dim)
    rope = rope_tables(torch.arange(ids_BT.shape[1])[None], frequencies, factor, torch.float64)
    grads = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}

    # Forward: every piece by itself, with its pullback kept.
    x = trunk.embed_tokens(ids_BT).detach()
    pulls = []
    block: Any
    for layer, block in enumerate(trunk.layers):
        name = f"model.layers.{layer}."
        halves: tuple[tuple[str, str, Callable[..., Tensor]], ...] = (
            ("input_layernorm", "self_attn", partial(_attention, block, rope)),
            ("post_attention_layernorm", "mlp", block.mlp),
        )
        for norm, inner, run in halves:
            normed, pull_norm = vjp(getattr(block, norm), getattr(block, norm), x)
            added, pull_inner = vjp(getattr(block, inner), run, normed.detach())
            pulls.append(((name + norm, pull_norm), (name + inner, pull_inner)))
            x = (x + added).detach()
    normed, pull_final = vjp(trunk.norm, trunk.norm, x)
    logits, pull_head = vjp(model.lm_head, model.lm_head, normed.detach())

    # Backward: the derivative of the loss, then one factor after the other.
    supervised = targets_BT != -100
    d = logits.softmax(-1)
    d[supervised] -= torch.nn.functional.one_hot(targets_BT[supervised], d.shape[-1])
    d = (d * supervised[..., None] / supervised.sum()).detach()
    shared = "model.embed_tokens.weight"  # the head is tied to it: both uses add up
    d = _pull(pull_head, d, grads, "lm_head", rename={"lm_head.weight": shared})
    d = _pull(pull_final, d, grads, "model.norm")
    for (norm, pull_norm), (inner, pull_inner) in reversed(pulls):
        through = _pull(pull_norm, _pull(pull_inner, d, grads, inner), grads, norm)
        d = d + through if residual else through  # y = x + f(x): dx = dy + dy ∂f/∂x
    grads[shared].index_add_(0, ids_BT.flatten(), d.flatten(0, 1))
    return grads


def _pull(pull: Any, d: Tensor, grads: dict[str, Tensor], module: str, rename: Mapping[str, str] = {}) -> Tensor:
    found = pull(d)
    for name, grad in found.parameters.items():
        full = f"{module}.{name}"
        grads[rename.get(full, full)] += grad
    return found.inputs[0]


def _attention(block: Any, rope: tuple[Tensor, Tensor], x_BTD: Tensor) -> Tensor:
    return block.self_attn(x_BTD, rope, None, None, 0)


def _slope_error(model: Llama, batch: Batch, grads: dict[str, Tensor], reach: float = 1e-5) -> float:
    """The gradient against a difference quotient along a random direction: it needs no chain rule at all."""
    make = torch.Generator().manual_seed(1)
    ways = {name: torch.randn(grad.shape, generator=make, dtype=grad.dtype) for name, grad in grads.items()}

    @torch.no_grad()
    def loss_at(distance: float) -> float:
        for name, weight in model.named_parameters():
            weight.add_(distance * ways[name])
        logits = model.logits(model(batch.ids_BT))
        loss = cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten()) / batch.n_targets
        for name, weight in model.named_parameters():
            weight.sub_(distance * ways[name])
        return loss.item()

    slope = (loss_at(reach) - loss_at(-reach)) / (2 * reach)
    expected = sum((grads[name] * way).sum().item() for name, way in ways.items())
    return abs(slope - expected) / abs(expected)


def _trace(setting: Setting) -> dict[str, Any]:
    """The training report: gradient norm of every layer, step by step, while a model learns."""
    model = _model(setting, layers=6)
    optimizer = make_adamw(model, OptimConfig(lr=3e-3))
    norms: list[dict[str, float]] = []
    for step in range(20 if setting.quick else 200):
        accumulate(model, causal_lm, [_batch(setting.seed + step)])
        norms.append(gradient_norms(model))
        optimizer.step()
        optimizer.zero_grad()
    parts = list(norms[0])
    return {"parts": parts, "norms": [[norm[part] for part in parts] for norm in norms]}


def _model(setting: Setting, layers: int) -> Llama:
    torch.manual_seed(setting.seed)
    shape = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.15,
        max_position_embeddings=LENGTH,
    )
    return Llama(shape).double()


def _batch(seed: int) -> Batch:
    """Counting in steps that differ from row to row; a few targets are not supervised."""
    make = torch.Generator().manual_seed(seed)
    first, stride = torch.randint(0, VOCAB, (2, 4, 1), generator=make)
    ids = (first + stride * torch.arange(LENGTH + 1)) % VOCAB
    targets = ids[:, 1:].clone()
    targets[:, ::5] = -100
    return Batch(ids[:, :-1], targets, torch.arange(LENGTH).expand(4, LENGTH), torch.ones(4, LENGTH, dtype=torch.int64))


def _relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(numbers["tensor_errors"], ".", label="tensor")
    left.axhline(1e-10, color="grey", linestyle="--", label="1e-10")
    left.set(xlabel="parameter tensor", ylabel="relative error", title="by hand against autograd, float64")
    left.legend()
    for index, part in enumerate(numbers["parts"]):
        right.semilogy([row[index] for row in numbers["norms"]], label=part)
    right.set(xlabel="step", ylabel="gradient norm", title="norm by layer while training")
    right.locator_params(axis="x", integer=True)
    right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


LAB = Lab(
    id=31,
    title=Bilingual("The chain rule", "链式法则"),
    claim=Bilingual(
        "The gradient of the loss by any weight is the product of the derivatives of the layers between them, "
        "which is how backpropagation trains deep networks.",
        "损失对任一权重的梯度，是两者之间各层导数的乘积；反向传播正是这样训练深层网络的。",
    ),
    fixed=Bilingual(
        "One model, one batch, float64; only the way of differentiating differs.",
        "同一模型、同一批数据、float64；只有求导的方式不同。",
    ),
    expected="supported",
    checks=(
        Claim(
            "equal",
            Bilingual(
                "gradients put together from the layers' own derivatives equal autograd's to 1e-10.",
                "由各层自身导数拼成的梯度与 autograd 的结果相差不超过 1e-10。",
            ),
            lambda n: n["largest_relative_error"] < 1e-10,
        ),
        Claim(
            "slope",
            Bilingual(
                "they also predict how the loss changes along a random direction, to 1e-5.",
                "它们也能预测损失沿随机方向的变化，误差不超过 1e-5。",
            ),
            lambda n: n["slope_error"] < 1e-5,
        ),
        Claim(
            "paths add",
            Bilingual(
                "where the residual stream branches, the paths' products must be added: leaving one out gives other gradients.",
                "在残差分叉处，各路径的乘积必须相加：漏掉一条，梯度就不同了。",
            ),
            lambda n: n["error_without_the_residual_path"] > 0.1,
        ),
    ),
    measure=measure,
    draw=draw,
)
