"""Lab 7, masked language modelling: how many hidden words are recovered from both sides, from the left only, from the right only.

B rows, T positions, N hidden positions, D model width, V vocabulary.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cutaway.data.batch import Batch
from cutaway.data.masking import MaskedStream, MaskingConfig
from cutaway.labs.contract import Bilingual, Claim, Lab, Numbers, Setting
from cutaway.labs.fit import fit
from cutaway.labs.small_corpus import SEQ_LEN, batches, word_tokenizer
from cutaway.labs.small_language import sentences
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.families import make_model
from cutaway.nn.masks import same_segment
from cutaway.train.objectives import PLAIN, Metrics, token_loss

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDES = ("both", "left", "right")
UNITS: tuple[Literal["token", "span"], ...] = ("token", "span")
TRAINING = MaskingConfig(share=0.3)  # more than BERT's 0.15: the runs are short, and only hidden words teach
SHAPE = {
    "model_type": "bert",
    "head": "masked",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": SEQ_LEN,
    "initializer_range": 0.1,
}


def measure(setting: Setting) -> Numbers:
    n_sentences, steps = (4_000, 300) if setting.quick else (16_000, 1_500)
    tokenizer = word_tokenizer()
    training = batches([one.text for one in sentences(n_sentences, setting.seed)], tokenizer, setting.seed)
    unseen = batches([one.text for one in sentences(1_000, setting.seed + 1_000)], tokenizer, setting.seed)
    hiding = {unit: MaskedStream(unseen, tokenizer, MaskingConfig(unit=unit)) for unit in UNITS}
    tests = {unit: list(stream.once()) for unit, stream in hiding.items()}
    numbers: dict[str, Any] = {"sides": list(SIDES), **shares(hiding["token"])}
    for side in SIDES:
        torch.manual_seed(setting.seed)
        training.restore({"epoch": 0, "batch": 0, "seed": setting.seed})
        model = make_model({**SHAPE, "vocab_size": tokenizer.vocab_size})
        fit(model, partial(one_sided, side=side), MaskedStream(training, tokenizer, TRAINING), steps, lr=1e-2)
        for unit, hidden in tests.items():
            numbers.setdefault(f"{unit}_recovered", []).append(recovered(model, hidden, side))
    return numbers


def one_sided(model: Any, batch: Batch, side: str) -> tuple[Tensor, int, Metrics]:
    """The objective `masked_lm` where a position sees only itself and one side; with `both` it is that objective."""
    return token_loss(model, states(model, batch, side), batch.targets_BT, PLAIN)


def states(model: Any, batch: Batch, side: str) -> Tensor:
    """Final hidden states, B × T × D, from what one side or both show."""
    document = same_segment(batch.segments_BT)
    mask = {"both": document, "left": document.tril(), "right": document.triu()}[side]
    return model(batch.ids_BT, positions_BT=batch.positions_BT, mask_BTS=mask)


@torch.inference_mode()
def recovered(model: Any, hidden: Iterable[Batch], side: str) -> float:
    """Share of the hidden words that the model puts first."""
    hits = []
    for batch in hidden:
        chosen = batch.targets_BT != IGNORED
        logits_NV = model.logits(states(model, batch, side)[chosen])
        hits.append(logits_NV.argmax(-1) == batch.targets_BT[chosen])
    return float(torch.cat(hits).float().mean())


def shares(stream: MaskedStream) -> dict[str, float]:
    """How many of the words are chosen, and of those how many are masked, replaced and left."""
    words = chosen = masked = left = 0
    for after, before in zip(stream.once(), stream.stream.once(), strict=True):
        wanted = after.targets_BT != IGNORED
        words += int((~stream.masker.special_V[before.ids_BT] & (before.segments_BT != 0)).sum())
        chosen += int(wanted.sum())
        masked += int((after.ids_BT == stream.masker.mask).sum())
        left += int((after.ids_BT == before.ids_BT)[wanted].sum())
    return {
        "chosen_share": chosen / words,
        "masked_share": masked / chosen,
        "replaced_share": (chosen - masked - left) / chosen,
        "left_share": left / chosen,
    }


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for offset, (unit, label) in enumerate((("token", "single words hidden"), ("span", "spans hidden"))):
        places = [place + 0.4 * offset for place in range(len(SIDES))]
        axes.bar(places, numbers[f"{unit}_recovered"], width=0.38, label=label)
    axes.set_xticks([place + 0.2 for place in range(len(SIDES))], ["both sides", "left only", "right only"])
    axes.set(ylabel="hidden words recovered (share)")
    axes.legend()
    return figure


LAB = Lab(
    id=7,
    title=Bilingual("Masked language modelling", "掩码语言建模"),
    claim=Bilingual(
        "A model that fills in hidden words uses the text on both sides of them, and so knows more about a word than a model "
        "that sees one side.",
        "做填空的模型同时利用被遮盖词左右两侧的文本，因此比只看一侧的模型更了解这个词。",
    ),
    fixed=Bilingual(
        "The same model, first weights, sentences, hidden words and steps; only the attention mask differs, in training and in "
        "the test. The test sentences are drawn anew.",
        "模型、初始权重、句子、被遮盖的词和步数都相同；训练和测试中只有注意力掩码不同。测试句子重新抽取。",
    ),
    expected="supported",
    checks=(
        Claim(
            "recipe",
            Bilingual(
                "of the words, 15 % are chosen, and of those 80 % are masked, 10 % replaced and 10 % left (within 3 %).",
                "约 15% 的词被选中，其中 80% 换成掩码，10% 换成随机词，10% 不变（误差 3 个百分点以内）。",
            ),
            lambda n: (
                abs(n["chosen_share"] - 0.15) < 0.03
                and abs(n["masked_share"] - 0.8) < 0.03
                and abs(n["replaced_share"] - 0.1) < 0.03
            ),
        ),
        Claim(
            "both against left",
            Bilingual("both sides recover more words than the left alone.", "看两侧比只看左侧恢复更多的词。"),
            lambda n: n["token_recovered"][0] > n["token_recovered"][1] + 0.01,
        ),
        Claim(
            "both against right",
            Bilingual("both sides recover more words than the right alone.", "看两侧比只看右侧恢复更多的词。"),
            lambda n: n["token_recovered"][0] > n["token_recovered"][2] + 0.01,
        ),
        Claim(
            "neighbours",
            Bilingual(
                "where whole spans are hidden, and the nearest words with them, fewer are recovered.",
                "若连同近邻一起遮盖整段文字，恢复的词就更少。",
            ),
            lambda n: n["span_recovered"][0] < n["token_recovered"][0],
        ),
    ),
    measure=measure,
    draw=draw,
)
