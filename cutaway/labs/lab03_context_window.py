"""Topic 3: the context window. What a longer one costs, and how far a model sees that was trained on short rows.

Costs are those of a Llama shape: operations and bytes are counted on a model without memory, up to half a million tokens; time is
taken of the attention step of one layer. Needles are looked for by a small model trained in the lab, run past its training length
as it is and in every way of `models.extension`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.growth import growth
from cutaway.labs.needles import VOCABULARY, WORDS, haystacks, share_found
from cutaway.labs.timing import fastest_ms
from cutaway.lens.hooks import capture
from cutaway.models.decoder import check_decoder
from cutaway.models.extension import Extension, extend
from cutaway.models.families import family, make_model
from cutaway.models.llama_config import LlamaConfig
from cutaway.models.load import find, read_shape
from cutaway.nn.attention import Attend
from cutaway.train.objectives import causal_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTED = (1024, 8192, 65_536, 524_288)
TRAINED, TIMES = 32, (1, 2, 3, 4)  # tokens of a training row, and how much longer the tests are
SINKS, WINDOW = 4, TRAINED - 4
FAR = (0.25, 0.5)  # depths that lie behind such a window in every longer row
KINDS = ("none", "linear", "ntk", "dynamic", "yarn", "llama3", "sinks")
COSTS = ("attention_flops", "kv_bytes", "attention_ms")


@one_thread()
def measure(setting: Setting) -> Numbers:
    timed = (512, 1024, 2048, 4096) if setting.quick else (512, 1024, 2048, 4096, 8192)
    depths = (0.0, 0.25, 0.5, 0.75, 1.0) if setting.quick else tuple(number / 8 for number in range(9))
    costly = weightless(read_shape(find(setting.model)) if setting.model else (family("llama"), LlamaConfig()))
    counted = [counted_cost(costly, length) for length in COUNTED]
    numbers: dict[str, Any] = {
        "counted_lengths": list(COUNTED),
        "attention_flops": [cost[0] for cost in counted],
        "other_flops": [cost[1] for cost in counted],
        "kv_bytes": [cost[2] for cost in counted],
        "timed_lengths": list(timed),
        "attention_ms": attention_ms(costly, timed),
    }
    for name in COSTS:
        found = growth(timed if name.endswith("ms") else COUNTED, numbers[name])
        numbers[f"{name}_exponent"] = found.exponent
        numbers[f"{name}_power_r2"], numbers[f"{name}_exponential_r2"] = found.power_r2, found.exponential_r2
    model = trained(500 if setting.quick else 1000, setting.seed)
    numbers |= {"lengths": [TRAINED * times for times in TIMES], "depths": list(depths)}
    for kind in KINDS:
        numbers[f"found_{kind}"] = found_by(kind, model, 64 if setting.quick else 256, depths, setting.seed)
    return numbers


def weightless(shape: tuple[Any, Any]) -> Any:
    """The model of a family and configuration on the `meta` device: it counts, and takes no memory."""
    module, config = shape
    if hasattr(config, "rope_scaling"):  # it costs nothing, and some kinds ask for numbers
        config = config.model_copy(update={"rope_scaling": type(config.rope_scaling)(), "attention_sinks": 0})
    with torch.device("meta"):
        model = module.build(config)
    check_decoder(model)
    return model


@torch.no_grad()
def counted_cost(model: Any, length: int) -> tuple[int, int, int]:
    """What one prompt of `length` tokens takes.

    Returns:
        Operations of the attention products and of everything else, all pairs of positions counted; bytes of keys and values.
    """
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, length, dtype=torch.int64, device="meta"))
    by_module = counter.get_flop_counts()
    attention = sum(sum(by_module[name].values()) for name in by_module if name.endswith(".attend"))
    return attention, counter.get_total_flops() - attention, model.new_cache(1, length).nbytes


@torch.inference_mode()
def attention_ms(model: Any, lengths: Sequence[int]) -> list[float]:
    """Milliseconds of one thread for the attention step of one layer, on prompts of these lengths; the model gives its shape."""
    name, attend = next((name, module) for name, module in model.named_modules() if isinstance(module, Attend))
    with capture(model, [name]) as calls:
        model(torch.zeros(1, 1, dtype=torch.int64, device="meta"))
    heads = [(value.shape[1], value.shape[3]) for value in calls[name].inputs[:3]]

    def step(T: int) -> Callable[[], object]:
        q, k, v = (torch.randn(1, H, T, K) for H, K in heads)
        return lambda: attend(q, k, v, None)

    return fastest_ms(*map(step, lengths), times=3)


def trained(steps: int, seed: int) -> Any:
    """A model that finds needles in rows of `TRAINED` tokens."""
    torch.manual_seed(seed)
    model = make_model(
        {
            "model_type": "llama",
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": TRAINED,
            "initializer_range": 0.1,
        }
    )
    fit(model, causal_lm, haystacks(32, TRAINED, seed), steps, lr=1e-2)
    return model


def found_by(kind: str, model: Any, rows: int, depths: tuple[float, ...], seed: int) -> list[list[float]]:
    """Share of needles found, by length and depth; all kinds look through the same rows."""
    model = copy.deepcopy(model)
    if kind == "sinks":
        extend(model, Extension(kind=kind, factor=max(TIMES), window=WINDOW, sinks=SINKS))
    elif kind != "none":
        extend(model, Extension(kind=kind, factor=max(TIMES)))
    return [
        [share_found(model, rows, TRAINED * times, depth, seed + 1000 * times) for depth in depths] for times in TIMES
    ]


def mean_found(numbers: Mapping, kind: str, *, beyond: bool) -> float:
    """Share found over all depths, at the trained length or beyond it."""
    found = numbers[f"found_{kind}"]
    return float(np.mean(found[1:] if beyond else found[:1]))


def found_at(numbers: Mapping, kind: str, depths: tuple[float, ...]) -> float:
    """Share found at some depths of the rows that are longer than those of training."""
    places = [numbers["depths"].index(depth) for depth in depths]
    return float(np.mean([[row[place] for place in places] for row in numbers[f"found_{kind}"][1:]]))


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.4), layout="constrained")
    axes = figure.subplots(2, 5)
    costs = axes[0, 0], axes[0, 1], axes[0, 2]
    for panel, name, unit, title in zip(
        costs,
        ("attention_flops", "attention_ms", "kv_bytes"),
        ("operations", "ms", "bytes"),
        ("one prompt: operations", "attention of one layer", "keys and values"),
        strict=True,
    ):
        lengths, values = numbers["timed_lengths" if unit == "ms" else "counted_lengths"], numbers[name]
        panel.loglog(lengths, values, "o-", label=f"{name.split('_')[0]}: exponent {numbers[f'{name}_exponent']:.2f}")
        panel.minorticks_off()
        panel.set_xticks(lengths, [f"{length / 1024:g}k" for length in lengths])
        panel.set(xlabel="tokens", ylabel=unit, title=title)
        panel.title.set_fontsize(9)
    axes[0, 0].loglog(numbers["counted_lengths"], numbers["other_flops"], "s--", label="everything else")
    for panel in costs:
        panel.legend(fontsize=7)
    for panel, kind in zip((*axes[0, 3:], *axes[1]), KINDS, strict=True):
        found = np.array(numbers[f"found_{kind}"]).T
        image = panel.imshow(found, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        panel.set_xticks(range(len(numbers["lengths"])), numbers["lengths"])
        panel.set_yticks(range(len(numbers["depths"])), [f"{depth:g}" for depth in numbers["depths"]])
        panel.set(title=f"needles found: {kind}", xlabel="tokens", ylabel="depth")
        panel.title.set_fontsize(9)
    figure.colorbar(image, ax=axes[1, -1], label="share")
    return figure


LAB = Lab(
    id=3,
    title=Bilingual("Context window", "上下文窗口"),
    claim=Bilingual(
        "The context window is the most tokens that a model reads at once. A larger one makes it better on long texts, but "
        "its cost in computation and memory grows exponentially.",
        "上下文窗口是模型一次能读入的词元数上限。窗口越大，处理长文本越好，但计算与内存成本呈指数级增长。",
    ),
    fixed=Bilingual(
        "Costs: one shape, one prompt, one thread, only the length differs. Needles: the same weights, rows and depths; only the "
        "way of reading past the trained 32 tokens differs, and nothing is trained for it.",
        "成本：同一模型形状、一条提示、一个线程，只有长度不同。找针：权重、数据和深度都相同；"
        "只有超出训练所用 32 个词元之后的读法不同，且不为此做任何训练。",
    ),
    expected="refuted",
    checks=(
        Claim(
            "what the window has left is lost",
            Bilingual(
                "behind a window of 32 tokens a needle is found less than twice as often as by guessing; inside it, in four of "
                "five rows and more",
                "针落在 32 个词元的窗口之外时，找到的次数不到瞎猜的两倍；在窗口之内，五次能找到四次以上",
            ),
            lambda n: found_at(n, "sinks", FAR) < 2 / WORDS and found_at(n, "sinks", (1.0,)) > 0.8,
        ),
        Claim(
            "a longer window finds more",
            Bilingual(
                "of the same needles, a window that reaches them (YaRN) finds at least 30 points more",
                "同样这些针，够得着它们的窗口（YaRN）多找到至少 30 个百分点",
            ),
            lambda n: found_at(n, "yarn", FAR) > found_at(n, "sinks", FAR) + 0.3,
        ),
        Claim(
            "exponential cost",
            Bilingual(
                "computation or memory grows exponentially: an exponential fits operations, time or bytes better than a power of "
                "the length",
                "计算量或内存呈指数级增长：对运算次数、时间或字节数，指数函数比长度的幂拟合得更好",
            ),
            lambda n: any(n[f"{name}_exponential_r2"] > n[f"{name}_power_r2"] for name in COSTS),
        ),
        Limit(
            "quadratic and linear",
            Bilingual(
                "operations of attention grow with the square of the length, keys and values in proportion to it; measured time "
                "follows a power between 1.4 and 2.3",
                "注意力的运算次数按长度的平方增长，键值缓存与长度成正比；实测时间的幂次在 1.4 与 2.3 之间",
            ),
            lambda n: (
                abs(n["attention_flops_exponent"] - 2) < 0.01
                and abs(n["kv_bytes_exponent"] - 1) < 0.01
                and 1.4 < n["attention_ms_exponent"] < 2.3
            ),
        ),
        Limit(
            "the trained length counts",
            Bilingual(
                "a window is worth what was trained: read on without scaling, the model finds at least 20 points less beyond 32 "
                "tokens",
                "窗口的价值取决于训练：不缩放而直接读下去，超出 32 个词元后少找到至少 20 个百分点",
            ),
            lambda n: mean_found(n, "none", beyond=False) - mean_found(n, "none", beyond=True) > 0.2,
        ),
        Limit(
            "scaling without training",
            Bilingual(
                "scaled positions move that limit at no cost and without training: YaRN finds at least 20 points more there "
                "than no scaling",
                "缩放位置编码无需训练、没有额外成本就能推远这一界限：YaRN 在那里比不缩放多找到至少 20 个百分点",
            ),
            lambda n: mean_found(n, "yarn", beyond=True) > mean_found(n, "none", beyond=True) + 0.2,
        ),
        Limit(
            "every scaling has its price",
            Bilingual(
                "none reaches everywhere: dividing all frequencies by four (linear) blurs what is near and loses at least 20 "
                "points at the trained length; a larger base (NTK) keeps it and loses at least 20 points of its own beyond",
                "没有一种缩放处处有效：把所有频率除以四（线性）会模糊近处，在训练长度之内就少找到至少 20 个百分点；"
                "增大底数（NTK）保住了近处，到了更长处自己也少找到至少 20 个百分点",
            ),
            lambda n: (
                mean_found(n, "none", beyond=False) - mean_found(n, "linear", beyond=False) > 0.2
                and mean_found(n, "ntk", beyond=False) - mean_found(n, "ntk", beyond=True) > 0.2
            ),
        ),
    ),
    measure=measure,
    draw=draw,
    takes_model=True,
)
