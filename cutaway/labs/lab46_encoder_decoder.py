"""Lab 46, encoder and decoder: which outputs change, bit for bit, when one input token is replaced; and where off-by-one hides.

B rows, S source positions, T target positions, D model width, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.data.pairs import Pair, PairBatch, collate_pairs
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit
from cutaway.models.families import make_model
from cutaway.train.held_out import held_out_loss
from cutaway.train.objectives import seq2seq_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOCAB, START = 32, 0  # token 0 begins a target and is drawn for nothing else
S, T = 8, 6
ENCODER_DECODERS = {
    "transformer": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "num_attention_heads": 4,
        "dropout": 0.0,
    },
    "t5": {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0},
}
MAPS = ("encoder", "decoder", "cross", "prediction")


def measure(setting: Setting) -> Numbers:
    torch.manual_seed(setting.seed)
    found = [flows(family, shape) for family, shape in ENCODER_DECODERS.items()]
    numbers: dict[str, Any] = {
        name: torch.stack([maps[name] for maps in found]).float().mean(0).tolist() for name in (*MAPS, "padding")
    }
    decoder_only, encoder_only = alone()
    steps = 80 if setting.quick else 600
    return {
        **numbers,
        "decoder_only": decoder_only.float().tolist(),
        "encoder_only": encoder_only.float().tolist(),
        "guessing_nats": math.log(VOCAB - 1),
        "shifted_nats": loss_on_noise(setting.seed, steps, shifted=True),
        "unshifted_nats": loss_on_noise(setting.seed, steps, shifted=False),
    }


@torch.inference_mode()
def flows(family: str, shape: dict[str, Any]) -> dict[str, Tensor]:
    """Output by input, true where the output changes with the input, for a model with random weights.

    `encoder` S × S: memory by source. `decoder` T × T: states by what the decoder reads. `cross` T × S: states by source.
    `prediction` T × T: the distribution for target token i by target token j, as training pairs them. `padding` T × S:
    states by source where the second half of the source is marked as padding.
    """
    model: Any = make_model(
        {"model_type": family, "vocab_size": VOCAB, "decoder_start_token_id": START, **shape}
    ).eval()
    source, target = tokens(1, S), tokens(1, T)
    memory = model.encode(source)
    real = torch.arange(S)[None] < S // 2

    def predictions(target_BT: Tensor) -> Tensor:
        batch = collate_pairs([Pair(source[0].tolist(), target_BT[0].tolist())], START, START)
        return model.logits(model(batch.target_BT, model.encode(batch.source_BS, mask_BS=batch.real_BS)))

    return {
        "encoder": flow(model.encode, source),
        "decoder": flow(lambda read: model(read, memory), target),
        "cross": flow(lambda read: model(target, model.encode(read)), source),
        "prediction": flow(predictions, target),
        "padding": flow(lambda read: model(target, model.encode(read, mask_BS=real), memory_mask_BS=real), source),
    }


@torch.inference_mode()
def alone() -> tuple[Tensor, Tensor]:
    """The same for a model that is a decoder only and for one that is an encoder only: states by tokens, T × T each."""
    shape = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    decoder, encoder = (
        make_model({"model_type": family, "num_attention_heads": 4, **shape}).eval() for family in ("llama", "bert")
    )
    return flow(decoder, tokens(1, T)), flow(encoder, tokens(1, T))


def flow(outputs: Callable[[Tensor], Tensor], ids_1N: Tensor) -> Tensor:
    """Rows of `outputs` (1 × M × …) by tokens: M × N, true where putting another token there changes the row by any bit."""
    before = outputs(ids_1N)
    columns = []
    for place in range(ids_1N.shape[1]):
        changed = ids_1N.clone()
        changed[0, place] = changed[0, place] % (VOCAB - 1) + 1  # the next token that is not START
        columns.append((outputs(changed) != before)[0].flatten(1).any(1))
    return torch.stack(columns, 1)


def loss_on_noise(seed: int, steps: int, *, shifted: bool) -> float:
    """Nats per token, on new pairs, of a model trained on targets that nothing predicts.

    Args:
        shifted: read the start token and the target without its last one, as training does; otherwise the target itself.
    """
    torch.manual_seed(seed)
    model = make_model({"model_type": "transformer", "vocab_size": VOCAB, **ENCODER_DECODERS["transformer"]})
    fit(model, seq2seq_lm, (noise(shifted=shifted) for _ in range(steps)), steps, lr=3e-3)
    return held_out_loss(model, seq2seq_lm, [noise(shifted=shifted) for _ in range(8)])


def noise(*, shifted: bool, rows: int = 32) -> PairBatch:
    """Pairs of tokens drawn independently."""
    pairs = [
        Pair(source, target) for source, target in zip(tokens(rows, S).tolist(), tokens(rows, T).tolist(), strict=True)
    ]
    batch = collate_pairs(pairs, START, START)
    return batch if shifted else replace(batch, target_BT=batch.targets_BT)


def tokens(rows: int, length: int) -> Tensor:
    """Random tokens other than START."""
    return torch.randint(1, VOCAB, (rows, length))


def is_full(matrix: list[list[float]]) -> bool:
    """Whether every output depends on every input, in every model."""
    return bool((torch.tensor(matrix) == 1).all())


def is_lower(matrix: list[list[float]], diagonal: int) -> bool:
    """Whether output i depends on exactly the inputs j ≤ i + diagonal, in every model."""
    return bool(torch.equal(torch.tensor(matrix), torch.ones(len(matrix), len(matrix[0])).tril(diagonal)))


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    labels = {
        "encoder": ("encoder", "source token", "state"),
        "decoder": ("decoder", "token read (0: start)", "state"),
        "cross": ("cross-attention", "source token", "decoder state"),
        "prediction": ("what is predicted", "target token", "predicted token"),
    }
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(MAPS)), MAPS, strict=True):
        title, x, y = labels[name]
        axes.imshow(numbers[name], cmap="Blues", vmin=0, vmax=1.4)
        axes.set(title=title, xlabel=x, ylabel=y)
        if name == "prediction":  # tokens are counted from 1, as in the text
            axes.set(xticks=range(T), xticklabels=range(1, T + 1), yticks=range(T), yticklabels=range(1, T + 1))
    return figure


LAB = Lab(
    id=46,
    title=Bilingual("Encoder and decoder", "编码器与解码器"),
    claim=Bilingual(
        "An encoder sees the whole input from both sides; a decoder that produces token i sees only the i − 1 tokens before it, "
        "and by cross-attention all of the encoder's output.",
        "编码器双向地看到整个输入；解码器生成第 i 个词元时只看到它前面的 i − 1 个词元，并通过交叉注意力看到编码器的全部输出。",
    ),
    fixed=Bilingual(
        "Random weights, since the flow is a matter of structure; one token is replaced at a time, and outputs are compared bit "
        "for bit. The two models trained on noise have the same weights at first, the same data and steps.",
        "权重随机，因为信息流由结构决定；每次只替换一个词元，逐位比较输出。两个在噪声上训练的模型初始权重、数据和步数相同。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "encoder",
            Bilingual(
                "every state of an encoder changes with every input token.", "编码器的每个状态都随每个输入词元变化。"
            ),
            lambda n: is_full(n["encoder"]) and is_full(n["encoder_only"]),
        ),
        Claim(
            "cross-attention",
            Bilingual(
                "every state of the decoder changes with every source token, and with none that is padding.",
                "解码器的每个状态都随每个源词元变化，而不随填充位置变化。",
            ),
            lambda n: (
                is_full(n["cross"])
                and is_full([row[: S // 2] for row in n["padding"]])
                and not any(any(row[S // 2 :]) for row in n["padding"])
            ),
        ),
        Claim(
            "prediction",
            Bilingual(
                "the prediction of target token i changes with the target tokens 1 to i − 1 and with no other.",
                "对第 i 个目标词元的预测只随第 1 到 i − 1 个目标词元变化，不随其他目标词元变化。",
            ),
            lambda n: is_lower(n["prediction"], -1),
        ),
        Limit(
            "own position",
            Bilingual(
                "the mask itself is not strict: a position sees the token that stands there, so that token i is predicted from i "
                "inputs, the start token and i − 1 others; the shift of the input by one makes the difference.",
                "掩码本身并不排除自身：每个位置都看到该位置上的词元，因此第 i 个词元由 i 个输入"
                "（起始词元和前 i − 1 个词元）预测；差别来自输入右移一位。",
            ),
            lambda n: is_lower(n["decoder"], 0) and is_lower(n["decoder_only"], 0),
        ),
        Limit(
            "without the shift",
            Bilingual(
                "with the same mask and without the shift the answer leaks: a model learns to predict noise, which shifted it "
                "cannot.",
                "掩码不变而去掉移位，答案就泄漏：模型学会「预测」噪声，而移位时做不到。",
            ),
            lambda n: n["unshifted_nats"] < 0.5 * n["guessing_nats"] and n["shifted_nats"] > 0.98 * n["guessing_nats"],
        ),
    ),
    measure=measure,
    draw=draw,
)
