"""Topic 27: the Jacobian. Backpropagation against the product of Jacobians, what the Jacobian costs, and its spectrum by depth.

Shapes: B batch (1), T positions, D model width; a Jacobian of a block is N × N, where N = T · D.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Number, Numbers, Setting, own_data
from cutaway.labs.fit import one_thread
from cutaway.labs.timing import fastest_ms
from cutaway.lens.hooks import capture
from cutaway.lens.jacobian import Cut, cut_out, cuts, jacobian, jvp, spectral_norm, vjp
from cutaway.lens.layers import layer_names, text_loss
from cutaway.lens.spectrum import spectrum
from cutaway.models.families import make_model
from cutaway.models.load import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOCAB, LENGTH, WIDTH = 64, 6, 16
WIDTHS = (8, 16, 32, 64, 96)  # of the blocks whose Jacobians are timed
TIMED_LENGTH = 12
OWN_TOKENS = 8  # of the text that a checkpoint of the user's reads
VARIANTS: dict[str, dict[str, Any]] = {
    "residual and norm": {},
    "residual only": {"norm": "none"},
    "norm only": {"residual": False},
    "neither": {"norm": "none", "residual": False},
}


@one_thread()
def measure(setting: Setting) -> Numbers:
    depth = 12 if setting.quick else 24
    ids_1T = torch.randint(VOCAB, (1, LENGTH), generator=torch.Generator().manual_seed(setting.seed))
    models = {name: decoder(setting.seed, depth, **change) for name, change in VARIANTS.items()}
    through = [spectra(model, ids_1T) for model in models.values()]
    usual = models["residual and norm"]
    by_products, by_whole = chain_errors(usual, ids_1T)
    return {
        "error_of_linear_map": linear_error(cut_out(usual, ids_1T, layer_names(usual)[0])),
        "error_of_vjp_chain": by_products,
        "error_of_jacobian_product": by_whole,
        **costs(setting),
        "variants": list(VARIANTS),
        **{name: [curves[name] for curves in through] for name in ("largest", "median", "directions")},
        **(of_own_model(setting.model) if setting.model else {}),
    }


def decoder(seed: int, depth: int, width: int = WIDTH, **change: Any) -> Any:
    """A fresh decoder in float64, its weights as large as keeps the size of what they are applied to."""
    torch.manual_seed(seed)
    shape = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": depth, "vocab_size": VOCAB}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": width**-0.5, "activation": "relu"}
    return make_model({"model_type": "composed", **shape, **heads, **change}).double().eval()


def chain_errors(model: Any, ids_1T: Tensor) -> tuple[float, float]:
    """How far two ways of going from the last block back to the first are from autograd's gradient, relative to it.

    One vector-Jacobian product per block; and the product of the whole Jacobians, each made in full.
    """
    u, first = backpropagated(model, ids_1T)
    product = u.flatten()
    for cut in cuts(model, ids_1T, layer_names(model)[::-1]):
        u, product = vjp(cut.function, cut.x, u), product @ jacobian(cut.function, cut.x)
    return _relative(u, first), _relative(product, first.flatten())


def backpropagated(model: Any, ids_1T: Tensor) -> tuple[Tensor, Tensor]:
    """Autograd's gradients of the text's loss by what the last block puts out, and by what the first block gets."""
    names = layer_names(model)
    with capture(model, names) as calls:
        loss = text_loss(model, ids_1T)
    last, first = torch.autograd.grad(loss, (calls[names[-1]].output, calls[names[0]].inputs[0]))
    return last, first


def linear_error(cut: Cut, reach: float = 1e-6) -> float:
    """How far J v is from what the output does when the input is moved by a little along v, relative to it."""
    v = torch.randn(cut.x.shape, generator=torch.Generator().manual_seed(0), dtype=cut.x.dtype)
    moved = (cut.function(cut.x + reach * v) - cut.function(cut.x - reach * v)) / (2 * reach)
    return _relative(jvp(cut.function, cut.x, v), moved)


def spectra(model: Any, ids_1T: Tensor) -> dict[str, list[float]]:
    """Of the Jacobian from the first block's input to each block's output: log₁₀ of the largest and of the median singular
    value, and how many directions count (the effective rank)."""
    found: dict[str, list[float]] = {"largest": [], "median": [], "directions": []}
    through = torch.eye(ids_1T.numel() * WIDTH, dtype=torch.float64)
    for cut in cuts(model, ids_1T, layer_names(model)):
        through = jacobian(cut.function, cut.x) @ through
        seen = spectrum("through", through)
        found["largest"].append(seen.values[0].log10().item())
        found["median"].append(seen.values[len(through) // 2].clamp_min(1e-300).log10().item())
        found["directions"].append(seen.effective_rank)
    return found


def costs(setting: Setting) -> dict[str, Number]:
    """Time and size of one vector-Jacobian product and of the whole Jacobian, by the size of a block's input and output."""
    sizes, product_ms, whole_ms = [], [], []
    for width in WIDTHS:
        cut = timed_block(setting.seed, width)
        u = torch.ones_like(cut.x)
        sizes.append(cut.x.numel())
        product_ms.extend(fastest_ms(partial(vjp, cut.function, cut.x, u), times=15))
        whole_ms.extend(fastest_ms(partial(jacobian, cut.function, cut.x), times=3))
    return {
        "sizes": sizes,
        "vjp_ms": product_ms,
        "jacobian_ms": whole_ms,
        "times_slower": [whole / product for whole, product in zip(whole_ms, product_ms, strict=True)],
        "numbers_held": [size**2 for size in sizes],
    }


def timed_block(seed: int, width: int) -> Cut:
    """One block on a text of eight tokens, in float32."""
    ids_1T = torch.randint(VOCAB, (1, TIMED_LENGTH), generator=torch.Generator().manual_seed(seed))
    model = decoder(seed, 1, width)
    return cut_out(model, ids_1T, layer_names(model)[0], torch.float32)


def of_own_model(spec: str) -> dict[str, Number]:
    """The chain of vector-Jacobian products through a checkpoint, and the largest singular value of each of its blocks."""
    loaded = load(spec, dtype="float32")
    text = loaded.tokenizer.encode(own_data("harbour.txt").read_text())[:OWN_TOKENS]
    ids_1T = torch.tensor([text], device=loaded.model.embedding.weight.device)
    model = loaded.model.double()
    u, first = backpropagated(model, ids_1T)
    norms = []
    for cut in cuts(model, ids_1T, layer_names(model)[::-1]):
        u = vjp(cut.function, cut.x, u)
        norms.append(spectral_norm(cut.function, cut.x, steps=8, tolerance=1e-2))
    return {"own_error_of_vjp_chain": _relative(u, first), "own_spectral_norms": norms[::-1]}


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.6), layout="constrained")
    cost, largest, median, directions = figure.subplots(1, 4)
    cost.loglog(numbers["sizes"], numbers["vjp_ms"], "o-", label="one product")
    cost.loglog(numbers["sizes"], numbers["jacobian_ms"], "s-", label="whole Jacobian")
    cost.set(xlabel="numbers in and out of the block", ylabel="ms", title="cost")
    cost.legend(fontsize=7)
    panels = {"largest": largest, "median": median, "directions": directions}
    for key, panel in panels.items():
        for name, curve in zip(numbers["variants"], numbers[key], strict=True):
            panel.plot(range(1, len(curve) + 1), curve, label=name)
        panel.set(xlabel="blocks")
        panel.locator_params(axis="x", integer=True)
    largest.set(title="largest singular value", ylabel="log10")
    median.set(title="median singular value", ylabel="log10")
    directions.set(title="directions that count", ylabel="effective rank", ylim=(0, None))
    directions.legend(fontsize=7)
    return figure


def at_the_end(numbers: Mapping, what: str, variant: str) -> float:
    """A number of the Jacobian through all blocks."""
    return numbers[what][numbers["variants"].index(variant)][-1]


def _relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


LAB = Lab(
    id=27,
    title=Bilingual("Jacobian", "雅可比矩阵"),
    claim=Bilingual(
        "The Jacobian of a layer says how a small change of its input moves its output. Backpropagation multiplies the gradient "
        "from above with each layer's Jacobian, and so carries it exactly from the output to the input.",
        "一层的雅可比矩阵描述输入的微小变化如何引起输出变化。反向传播把上游梯度逐层乘以雅可比矩阵，从而准确地从输出端传到输入端。",
    ),
    fixed=Bilingual(
        "The same text, width, depth and first weights; only the residual connections and the norms are taken away. Costs are of "
        "one block on one thread.",
        "文本、宽度、深度和初始权重相同，只去掉残差连接或归一化。开销在单个块、单线程上测量。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "small changes",
            Bilingual(
                "the Jacobian foretells what a small step of the input does to a block's output, within 1e-5.",
                "雅可比矩阵能预言输入的一小步对块输出的影响，误差小于 1e-5。",
            ),
            lambda n: n["error_of_linear_map"] < 1e-5,
        ),
        Claim(
            "backpropagation is the product",
            Bilingual(
                "the product of the blocks' Jacobians, and the chain of vector-Jacobian products, both equal autograd's gradient "
                "within 1e-10.",
                "各块雅可比矩阵之积、以及逐块的向量-雅可比积，都与自动求导的梯度相等，误差小于 1e-10。",
            ),
            lambda n: max(n["error_of_vjp_chain"], n["error_of_jacobian_product"]) < 1e-10,
        ),
        Limit(
            "the matrix is never made",
            Bilingual(
                "the whole Jacobian of the largest block takes over ten times as long as the one product that backpropagation "
                "needs, and the factor grows with the block; its size is the square of the block's output.",
                "最大块的完整雅可比矩阵比反向传播所需的一次乘积慢十倍以上，块越大倍数越大；矩阵大小是块输出大小的平方。",
            ),
            lambda n: n["times_slower"][-1] > max(10, 2 * n["times_slower"][0]),
        ),
        Limit(
            "exact is not enough",
            Bilingual(
                "without residual connections the product through all blocks is exact too, but all its directions have become "
                "fewer than 5, and its median singular value is below 1e-8; with them over 10 are left.",
                "没有残差连接时，穿过所有块的乘积同样精确，但有效方向不足 5 个，奇异值的中位数低于 1e-8；"
                "有残差连接时，有效方向还有 10 个以上。",
            ),
            lambda n: (
                all(at_the_end(n, "directions", name) < 5 for name in ("norm only", "neither"))
                and all(at_the_end(n, "median", name) < -8 for name in ("norm only", "neither"))
                and at_the_end(n, "directions", "residual and norm") > 10
            ),
        ),
        Limit(
            "norms hold the size",
            Bilingual(
                "with residual connections but without norms the largest singular value grows over ten times as large as with "
                "both.",
                "只有残差连接、没有归一化时，最大奇异值比两者都有时大十倍以上。",
            ),
            lambda n: at_the_end(n, "largest", "residual only") > at_the_end(n, "largest", "residual and norm") + 1,
        ),
    ),
    measure=measure,
    draw=draw,
    takes_model=True,
)
