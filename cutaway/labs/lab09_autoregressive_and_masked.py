"""Lab 9, autoregressive and masked models: two objectives on one trunk; what each writes, and what a linear probe finds in each.

B rows, T positions, N examples, D model width, V vocabulary, C classes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from cutaway.data.masking import MaskedStream, MaskingConfig, mask_id
from cutaway.data.pairs import padded
from cutaway.decode.sampling import Sampling
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.request import Request
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit
from cutaway.labs.small_corpus import DECODER, batches, examples, word_nats, word_tokenizer
from cutaway.labs.small_language import TRADES, Sentence, parse, sentences
from cutaway.models.families import make_model
from cutaway.models.load import Loaded
from cutaway.nn.masks import same_segment
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.objectives import causal_lm, masked_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OBJECTIVES = ("causal", "masked")
TRAINING = MaskingConfig(share=0.3)  # as in lab 7
SWEEPS = 4  # rewritings of every word by the masked model after the first writing


def measure(setting: Setting) -> Numbers:
    n_sentences, steps, n_written = (4_000, 300, 100) if setting.quick else (16_000, 1_500, 500)
    tokenizer = word_tokenizer()
    known = [one.text for one in sentences(n_sentences, setting.seed)]
    new = sentences(2_500, setting.seed + 1_000)
    numbers: dict[str, Any] = {"objectives": list(OBJECTIVES)}
    models = {}
    for objective in OBJECTIVES:
        torch.manual_seed(setting.seed)
        model = make_model({**DECODER, "vocab_size": tokenizer.vocab_size})
        stream: Any = batches(known, tokenizer, setting.seed)
        if objective == "masked":
            stream = MaskedStream(stream, tokenizer, TRAINING)
        fit(model, {"causal": causal_lm, "masked": masked_lm}[objective], stream, steps, lr=5e-3)
        models[objective] = model
        numbers.setdefault("parameters", []).append(sum(weight.numel() for weight in model.parameters()))
        numbers.setdefault("word_probe", []).append(word_probe(model, objective, tokenizer, new))
        numbers.setdefault("sentence_probe", []).append(sentence_probe(model, objective, tokenizer, new[:1_000]))
    once, swept = fill(models["masked"], tokenizer, new[:n_written], setting.seed)
    written = (write(models["causal"], tokenizer, n_written, setting.seed), once, swept)
    return {
        **numbers,
        "likelier": likelier(models["causal"], tokenizer, new[:1_000]),
        "writers": ["causal", "masked, once", f"masked, and {SWEEPS} sweeps"],
        "correct": [sum(parse(text) is not None for text in texts) / len(texts) for texts in written],
        "different": [len(set(texts)) / len(texts) for texts in written],
    }


def write(model: Any, tokenizer: Tokenizer, count: int, seed: int) -> list[str]:
    """Texts by the causal model, from the beginning of a document to the end that the model gives it."""
    assert tokenizer.bos_id is not None
    engine = Engine(Loaded(model, tokenizer, "causal", Path()), EngineConfig(max_batch=count))
    requests = [Request([tokenizer.bos_id], Sampling(seed=seed * count + i), 40) for i in range(count)]
    return [one.text for one in engine.run(requests)]


@torch.inference_mode()
def fill(model: Any, tokenizer: Tokenizer, like: Sequence[Sentence], seed: int) -> tuple[list[str], list[str]]:
    """Texts by the masked model, of as many words as those of `like`: after one pass, and after more sweeps.

    All words begin as masks. A sweep goes from left to right, masks a word (again), and draws it from what the model says of that
    place: Gibbs sampling (Wang & Cho 2019).
    """
    generator = torch.Generator().manual_seed(seed)
    mask = mask_id(tokenizer)
    assert tokenizer.bos_id is not None
    ids_BT, real_BT = padded([[tokenizer.bos_id] + [mask] * len(one.words) for one in like], tokenizer.pad_id or 0)
    passes = []
    for _ in range(1 + SWEEPS):
        for place in range(1, ids_BT.shape[1]):
            ids_BT[:, place] = torch.where(real_BT[:, place], mask, ids_BT[:, place])
            logits_BV = model.logits(states(model, "masked", ids_BT, real_BT)[:, place])
            drawn_B = torch.multinomial(logits_BV.softmax(-1), 1, generator=generator)[:, 0]
            ids_BT[:, place] = torch.where(real_BT[:, place], drawn_B, ids_BT[:, place])
        passes.append([tokenizer.decode(row[real].tolist()) for row, real in zip(ids_BT, real_BT, strict=True)])
    return passes[0], passes[-1]


def likelier(model: Any, tokenizer: Tokenizer, some: Sequence[Sentence]) -> float:
    """How often the causal model finds a sentence likelier than the same with the wrong tense in front."""
    right, wrong = (
        word_nats(model, examples(texts, tokenizer))
        for texts in ([one.text for one in some], [one.text_with_other_tense for one in some])
    )
    return sum(a.sum() < b.sum() for a, b in zip(right, wrong, strict=True)) / len(some)


def word_probe(model: Any, objective: str, tokenizer: Tokenizer, some: Sequence[Sentence]) -> float:
    """Accuracy in saying the trade of a subject that any trade may have, from its own state; chance is 1 in 4."""
    open_ones = [one for one in some if not one.own]
    h_NTD, _ = read(model, objective, tokenizer, [one.text for one in open_ones])
    h_ND = h_NTD[range(len(open_ones)), [1 + one.subject for one in open_ones]]  # after BOS
    return linear_probe(h_ND, torch.tensor([TRADES.index(one.trade) for one in open_ones]))


def sentence_probe(model: Any, objective: str, tokenizer: Tokenizer, some: Sequence[Sentence]) -> float:
    """Accuracy in telling sentences from the same with the wrong tense in front, from the mean of all states; chance: 1 in 2."""
    texts = [text for one in some for text in (one.text, one.text_with_other_tense)]
    h_NTD, real_NT = read(model, objective, tokenizer, texts)
    h_ND = (h_NTD * real_NT[..., None]).sum(1) / real_NT.sum(1, keepdim=True)
    return linear_probe(h_ND, torch.tensor([0, 1]).repeat(len(some)))


@torch.inference_mode()
def read(model: Any, objective: str, tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Final hidden states of BOS and the words, N × T × D, and where a row is no padding."""
    ids_NT, real_NT = padded([one.ids[:-1].tolist() for one in examples(texts, tokenizer)], tokenizer.pad_id or 0)
    return states(model, objective, ids_NT, real_NT), real_NT


def states(model: Any, objective: str, ids_BT: Tensor, real_BT: Tensor) -> Tensor:
    """Final hidden states under the mask that the model was trained with."""
    return model(ids_BT, mask_BTS=same_segment(real_BT) if objective == "masked" else None)


def linear_probe(h_ND: Tensor, classes_N: Tensor) -> float:
    """Accuracy on the second half of the examples of a linear classifier fitted to the first, by least squares."""
    h_ND = functional.pad(h_ND.double(), (0, 1), value=1.0)
    half = len(h_ND) // 2
    wanted_NC = functional.one_hot(classes_N).double()
    weights = torch.linalg.lstsq(h_ND[:half], wanted_NC[:half]).solution
    return float(((h_ND[half:] @ weights).argmax(-1) == classes_N[half:]).double().mean())


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    writing, probing = figure.subplots(1, 2)
    writing.bar(numbers["writers"], numbers["correct"])
    writing.set(ylabel="correct sentences (share)", title="writing", ylim=(0, 1))
    for offset, (name, label, chance) in enumerate(
        (("word_probe", "a word, from what follows it", 0.25), ("sentence_probe", "a sentence", 0.5))
    ):
        places = [place + 0.4 * offset for place in range(len(OBJECTIVES))]
        probing.bar(places, numbers[name], width=0.38, label=label)
        probing.hlines(chance, places[0] - 0.2, places[-1] + 0.2, color="grey", linestyle=":")
    probing.set_xticks([place + 0.2 for place in range(len(OBJECTIVES))], OBJECTIVES)
    probing.set(ylabel="accuracy", title="linear probe (dotted: chance)", ylim=(0, 1.3))
    probing.legend()
    return figure


LAB = Lab(
    id=9,
    title=Bilingual("Autoregressive and masked models", "自回归模型与掩码模型"),
    claim=Bilingual(
        "A model trained to predict the next word is good at writing, one trained to fill in hidden words at understanding.",
        "训练预测下一个词，模型擅长生成；训练恢复被遮盖的词，模型擅长理解。",
    ),
    fixed=Bilingual(
        "The same decoder with the same first weights, sentences, order and steps; only the objective and its attention mask "
        "differ. The same probe, fitted to the same new sentences.",
        "解码器、初始权重、句子、顺序和步数都相同，只有训练目标及其注意力掩码不同。探针相同，用同样的新句子拟合。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "writing",
            Bilingual(
                "far more of what the autoregressive model writes is correct (30 points or more), even where the other may go "
                "over its text again and again.",
                "自回归模型写出的句子正确率高得多（30 个百分点以上），即使后者可以反复修改自己的文本。",
            ),
            lambda n: n["correct"][0] > max(n["correct"][1:]) + 0.3,
        ),
        Claim(
            "variety",
            Bilingual(
                "its sentences are not one and the same (nine in ten differ).", "它写的句子各不相同（九成以上互异）。"
            ),
            lambda n: n["different"][0] > 0.9,
        ),
        Claim(
            "a word",
            Bilingual(
                "what a word means by what follows it, a probe finds at the word in the masked model; in the other it finds "
                "hardly more than chance.",
                "一个词由后文决定的含义，探针在掩码模型的该词处能读出；在自回归模型中几乎只有随机水平。",
            ),
            lambda n: n["word_probe"][1] > n["word_probe"][0] + 0.2 and n["word_probe"][0] < 0.35,
        ),
        Limit(
            "likelihood",
            Bilingual(
                "the autoregressive model understands sentences, too: of two it finds the correct one likelier nine times in ten "
                "or more.",
                "自回归模型同样理解句子：两句之中，它九成以上认为正确的那句概率更高。",
            ),
            lambda n: n["likelier"] > 0.9,
        ),
    ),
    measure=measure,
    draw=draw,
)
