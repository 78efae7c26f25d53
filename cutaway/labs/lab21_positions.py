"""Topic 21: positions. Who chased whom, with positions and without, in an encoder and a decoder; and beyond the training length.

Shapes: B rows, T positions, D model width.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch

from cutaway.data.batch import Batch
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.lagged_tokens import LaggedTokens
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.families import make_model
from cutaway.nn.masks import full_mask
from cutaway.train.held_out import held_out_loss
from cutaway.train.objectives import Objective, causal_lm, masked_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMES = ("none", "sinusoidal", "learned", "rope", "alibi")
NAMES = 12
CHASED, WHO = NAMES, NAMES + 1
TRAINED, LONGEST = 32, 128  # tokens of a row: in training, and at most
ROUNDING = 1e-12  # float64, states of size 1


@one_thread()
def measure(setting: Setting) -> Numbers:
    seed = setting.seed
    steps = 160 if setting.quick else 1000
    source = LaggedTokens(seed)
    held_out = source.batch(32 if setting.quick else 256, LONGEST, torch.Generator().manual_seed(seed + 1000))
    return {
        "schemes": list(SCHEMES),
        "mirrored_difference": [mirrored_difference(scheme, seed) for scheme in SCHEMES],
        "chaser_encoder": chaser_found("none", masked_lm, 2, seed),
        "chaser_encoder_rope": chaser_found("rope", masked_lm, 2, seed),
        "chaser_decoder_1_layer": chaser_found("none", causal_lm, 1, seed),
        "chaser_decoder_2_layers": chaser_found("none", causal_lm, 2, seed),
        "floor_nats": source.floor,
        **{f"nats_{scheme}": loss_by_length(scheme, source, held_out, steps, seed) for scheme in SCHEMES},
    }


@torch.inference_mode()
def mirrored_difference(scheme: str, seed: int) -> float:
    """How far "A chased B" and "B chased A" are apart for an encoder with random weights, in float64.

    The largest difference between a token's final state in one sentence and the same token's in the other.
    """
    torch.manual_seed(seed)
    encoder = small_model(WHO + 1, 2, scheme).double().eval()
    sentences_BT = torch.tensor([[0, CHASED, 1], [1, CHASED, 0]])
    one_TD, other_TD = encoder(sentences_BT, mask_BTS=full_mask(3, sentences_BT.device))
    return (one_TD - other_TD.flip(0)).abs().max().item()


def chaser_found(scheme: str, objective: Objective, layers: int, seed: int) -> float:
    """Share of new sentences "A chased B, who?" that a trained model answers with A; a guess between the two has 0.5.

    Args:
        objective: `causal_lm` for a decoder; `masked_lm`, the same without the causal mask, for an encoder.
    """
    torch.manual_seed(seed)
    model = small_model(WHO + 1, layers, scheme)
    fit(model, objective, chases(64, seed), steps=100, lr=1e-2)
    batch = next(chases(1000, seed + 1000))
    with torch.inference_mode():
        mask = full_mask(batch.length, batch.ids_BT.device) if objective is masked_lm else None
        answers_B = model.logits(model(batch.ids_BT, mask_BTS=mask))[:, -1].argmax(-1)
    return (answers_B == batch.ids_BT[:, 0]).float().mean().item()


def chases(B: int, seed: int) -> Iterator[Batch]:
    """Endless rows "A chased B who", where what is learned is the answer after the last word."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        chaser_B, chased_B = torch.rand(B, NAMES, generator=generator).argsort(1)[:, :2].unbind(1)
        verb_B, question_B = torch.full((B,), CHASED), torch.full((B,), WHO)
        ids = torch.stack((chaser_B, verb_B, chased_B, question_B), 1)
        targets = torch.full_like(ids, IGNORED)
        targets[:, -1] = chaser_B
        yield Batch(ids, targets, torch.arange(4).expand(B, 4), torch.ones_like(ids))


def loss_by_length(scheme: str, source: LaggedTokens, held_out: Batch, steps: int, seed: int) -> list[float]:
    """Nats per token of a trained decoder over consecutive stretches of new rows; the first is as long as it has seen."""
    torch.manual_seed(seed)
    model = small_model(source.V, 2, scheme)
    fit(model, causal_lm, source.batches(16, TRAINED, seed), steps, lr=1e-2)
    stretches = [scored_from(held_out, start) for start in range(0, LONGEST, TRAINED)]
    return [held_out_loss(model, causal_lm, [stretch]) for stretch in stretches]


def scored_from(batch: Batch, start: int) -> Batch:
    """The same rows up to `start` + `TRAINED`; only the tokens from `start` on are scored."""
    ids_BT, targets_BT, positions_BT, segments_BT = (
        getattr(batch, item.name)[:, : start + TRAINED] for item in fields(batch)
    )
    before = torch.arange(start + TRAINED) < start
    return Batch(ids_BT, targets_BT.masked_fill(before, IGNORED), positions_BT, segments_BT)


def small_model(vocabulary: int, layers: int, scheme: str) -> Any:
    """A model whose positions are exchanged and nothing else."""
    return make_model(
        {
            "model_type": "composed",
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": layers,
            "max_position_embeddings": LONGEST,
            "positions": scheme,
            "initializer_range": 0.2,
        }
    )


def of_scheme(numbers: Mapping, scheme: str) -> float:
    """The mirrored difference of one scheme."""
    return numbers["mirrored_difference"][SCHEMES.index(scheme)]


def loss_gained(numbers: Mapping, scheme: str) -> float:
    """By how much the loss in the last stretch is above that at the trained length, in nats."""
    stretches = numbers[f"nats_{scheme}"]
    return stretches[-1] - stretches[0]


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.bar(SCHEMES, [max(value, 1e-17) for value in numbers["mirrored_difference"]])
    left.set(yscale="log", title="encoder: A chased B, B chased A", ylabel="difference of the states")
    left.axhline(ROUNDING, color="grey", linestyle="--")
    left.tick_params(axis="x", labelsize=7)
    who = ("encoder", "decoder_1_layer", "decoder_2_layers", "encoder_rope")
    middle.bar(
        ["encoder\nnone", "decoder\nnone\n1 layer", "decoder\nnone\n2 layers", "encoder\nRoPE"],
        [numbers[f"chaser_{name}"] for name in who],
    )
    middle.axhline(0.5, color="grey", linestyle="--")
    middle.set(title="who chased? after training", ylabel="share right")
    middle.tick_params(axis="x", labelsize=7)
    ends = [TRAINED * (index + 1) for index in range(LONGEST // TRAINED)]
    for scheme in SCHEMES:
        right.plot(ends, numbers[f"nats_{scheme}"], "o-", label=scheme)
    right.axhline(numbers["floor_nats"], color="grey", linestyle="--", label="lowest possible")
    right.set(title=f"decoder trained on {TRAINED} tokens", xlabel="tokens up to", ylabel="loss (nats per token)")
    right.set_xticks(ends)
    right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


LAB = Lab(
    id=21,
    title=Bilingual("Positions", "位置编码"),
    claim=Bilingual(
        "Attention by itself has no order: without positions a model cannot tell “A chased B” from “B chased A”, and a position "
        "vector added to each token's embedding lets it.",
        "注意力本身没有顺序：没有位置编码，模型就分不清「A 追 B」与「B 追 A」；给每个词元的嵌入加上位置向量，就能分清。",
    ),
    fixed=Bilingual(
        "Everything but the positions: the same width, data, steps and seed; weights and layers too, where not said otherwise "
        "(learned positions add a table). Beyond the training length, all schemes read the same new rows.",
        "除位置编码外一切相同：宽度、数据、步数和种子；未另作说明时层数和其余权重规模也相同（学习式位置多一张表）。"
        "超出训练长度时，各方案读同样的新数据。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "an encoder without positions is blind to order",
            Bilingual(
                "without positions, every token has the same state in both sentences, to rounding (1e-12), and training does "
                "not help: the encoder guesses who chased whom.",
                "没有位置编码时，每个词元在两句话中的状态相同（只差舍入误差 1e-12），训练也无济于事：编码器只能猜是谁追谁。",
            ),
            lambda n: of_scheme(n, "none") < ROUNDING and 0.4 < n["chaser_encoder"] < 0.6,
        ),
        Claim(
            "positions tell them apart",
            Bilingual(
                "with sinusoidal, learned or rotary positions the states differ, and the trained encoder knows who chased.",
                "使用正弦、学习式或旋转位置编码时，状态不同，训练后的编码器知道是谁在追。",
            ),
            lambda n: (
                all(of_scheme(n, scheme) > 0.01 for scheme in ("sinusoidal", "learned", "rope"))
                and n["chaser_encoder_rope"] > 0.95
            ),
        ),
        Limit(
            "a causal decoder needs none",
            Bilingual(
                "a decoder of two layers learns order without any positions, from the causal mask: states of the first layer "
                "differ in what they have seen. One layer is as blind as the encoder.",
                "两层的解码器无需任何位置编码，单凭因果掩码就学会了顺序：第一层各状态见过的内容不同。只有一层时则与编码器一样看不见顺序。",
            ),
            lambda n: n["chaser_decoder_2_layers"] > 0.95 and n["chaser_decoder_1_layer"] < 0.6,
        ),
        Limit(
            "a distance without direction is not enough",
            Bilingual(
                "ALiBi in an encoder penalises distance in both directions alike, and “B chased A” is “A chased B” read "
                "backwards: the two stay exactly the same to it.",
                "编码器中的 ALiBi 对两个方向的距离一视同仁，而「B 追 A」正是倒过来的「A 追 B」："
                "对它来说两句话仍完全相同。",
            ),
            lambda n: of_scheme(n, "alibi") < ROUNDING,
        ),
        Limit(
            "positions that were never trained",
            Bilingual(
                "positions work up to the length of the training rows: at four times that length sinusoidal, learned and rotary "
                "positions lose more than 0.7 nats per token, ALiBi less than 0.2.",
                "位置编码只在训练过的长度内有效：到四倍长度时，正弦、学习式和旋转位置编码每词元多损失超过 0.7 奈特，"
                "ALiBi 不到 0.2。",
            ),
            lambda n: (
                min(loss_gained(n, scheme) for scheme in ("sinusoidal", "learned", "rope")) > 0.7
                and loss_gained(n, "alibi") < 0.2
            ),
        ),
    ),
    measure=measure,
    draw=draw,
)
