"""Topic 18: overfitting. A model too large for its text, and what each remedy leaves of the gap between training and new text.

The text is a few sentences of the small language, whose entropy is known: no model can be better on new sentences. All runs begin
with the same weights, read the same sentences and take the same steps (early stopping takes fewer); one thing differs in each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from cutaway.core.config import make_config
from cutaway.core.seeds import seed_all
from cutaway.data.examples import Example
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import one_thread
from cutaway.labs.paraphrasing import translators
from cutaway.labs.remedies import REMEDIES, Remedy, synonyms, with_translations
from cutaway.labs.small_corpus import DECODER, batches, examples, word_nats, word_tokenizer
from cutaway.labs.small_language import sentences
from cutaway.models.families import make_model
from cutaway.optim.adamw import OptimConfig
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.checkpoint import FullWeights
from cutaway.train.loop import LoopConfig, train
from cutaway.train.objectives import causal_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SENTENCES, MORE, JUDGED, WATCHED = 48, 8, 150, 48  # to learn from; times as many; to judge on; to stop by
ROWS, LR = 8, 4e-3  # rows of a step
ELSEWHERE, TRANSLATOR_STEPS = 3_000, 500  # sentences that the translators learn from


@one_thread()
def measure(setting: Setting) -> Numbers:
    steps = 60 if setting.quick else 150
    tokenizer, seed = word_tokenizer(), setting.seed
    drawn = [one.text for one in sentences(SENTENCES * MORE + WATCHED + JUDGED, 1000 + seed)]
    learned, more = drawn[:SENTENCES], drawn[: SENTENCES * MORE]
    watched, judged = drawn[len(more) : len(more) + WATCHED], sentences(JUDGED, 5000 + seed)
    seen, new = examples(learned, tokenizer), examples([one.text for one in judged], tokenizer)
    remedies = dict(REMEDIES)
    if not setting.quick:  # translators take as long as all the rest
        elsewhere = [one.text for one in sentences(ELSEWHERE, 9000 + seed)]
        remedies["back-translation"] = with_translations(*translators(elsewhere, synonyms(), TRANSLATOR_STEPS, seed))
    remedies[f"{MORE} × the text"] = Remedy(text=lambda texts, draw: more)
    found: dict[str, list[float]] = {"train": [], "new": [], "steps": [], "zeros": []}
    for remedy in remedies.values():
        model, done = trained(remedy, learned, watched, tokenizer, steps, seed)
        found["train"].append(mean_nats(model, seen))
        found["new"].append(mean_nats(model, new))
        found["steps"].append(done)
        found["zeros"].append(zeros(model))
    return {
        "remedies": list(remedies),
        "train_nats": found["train"],
        "new_nats": found["new"],
        "steps": found["steps"],
        "zero_weights": found["zeros"],
        "entropy_nats": float(np.mean([nats for one in judged for nats in one.nats])),
    }


def trained(
    remedy: Remedy, learned: list[str], watched: list[str], tokenizer: Tokenizer, steps: int, seed: int
) -> tuple[Any, int]:
    """The model after its run, and how many steps that took."""
    seed_all(seed)
    shape = {**DECODER, "vocab_size": tokenizer.vocab_size, "model_type": "composed", "num_key_value_heads": 4}
    shape = {name: value for name, value in shape.items() if name != "tie_word_embeddings"}
    model: Any = make_model({**shape, "dropout": remedy.dropout})
    texts = learned if remedy.text is None else remedy.text(learned, np.random.default_rng(seed))
    kept = examples(watched, tokenizer)
    loop = LoopConfig(
        steps=steps,
        eval_every=max(1, steps // 20),
        patience=remedy.patience,
        checkpoint_every=steps + 1,
        tensorboard=False,
        precision="float32",
        compile="off",
    )
    terms = {"lr": LR, "weight_decay": 0.0, "decay_embeddings": True, **(remedy.optim or {})}
    optim = make_config(OptimConfig, {**terms, "schedule": {"kind": "constant"}})
    with TemporaryDirectory() as folder:
        outcome = train(
            model,
            batches(texts, tokenizer, seed, ROWS),
            causal_lm,
            FullWeights(model),
            Path(folder),
            loop,
            optim,
            (lambda: mean_nats(model, kept)) if remedy.patience else None,
        )
    return model.eval(), outcome.steps


def mean_nats(model: Any, some: Sequence[Example]) -> float:
    """Loss per word, without dropout."""
    training = model.training
    model.eval()
    found = float(np.concatenate(word_nats(model, some)).mean())
    model.train(training)
    return found


def zeros(model: Any) -> float:
    """The share of the matrices' weights that are exactly 0."""
    weights = [weight for weight in model.parameters() if weight.dim() > 1]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    ax, places = figure.subplots(), np.arange(len(numbers["remedies"]))
    ax.bar(places - 0.2, numbers["train_nats"], 0.4, label="text it learned from")
    ax.bar(places + 0.2, numbers["new_nats"], 0.4, label="new text")
    ax.axhline(numbers["entropy_nats"], color="k", ls=":", label="entropy of the language")
    ax.set_xticks(places, numbers["remedies"], rotation=30, ha="right")
    ax.set(ylabel="nats per word", title="one model, the same few sentences, the same steps")
    ax.set_ylim(top=1.2 * max(numbers["new_nats"]))
    ax.legend(ncols=3, loc="upper center", fontsize=8)
    return figure


def gain(numbers: Mapping, remedy: str) -> float:
    """How much lower the loss on new text is than without a remedy, nats."""
    new = dict(zip(numbers["remedies"], numbers["new_nats"], strict=True))
    return new["none"] - new[remedy]


LAB = Lab(
    id=18,
    title=Bilingual("Overfitting and its remedies", "过拟合及其缓解"),
    claim=Bilingual(
        "A model that has learned its training text by heart does badly on new text; penalties on the weights, dropout, early "
        "stopping and data augmentation each mitigate it.",
        "把训练文本背下来的模型在新文本上表现差；权重惩罚、Dropout、早停和数据增强都能缓解。",
    ),
    fixed=Bilingual(
        "The same first weights, sentences, steps and learning rate; one thing differs. Early stopping also sees 48 sentences "
        "of its own.",
        "初始权重、句子、步数和学习率相同，每次只改一处。早停另有 48 个句子用于监控。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "gap",
            Bilingual(
                "Without a remedy the loss on new text is above the training loss by more than a nat, and that one is below "
                "the entropy of the language: it is learned by heart.",
                "没有缓解措施时，新文本的损失比训练损失高一奈特以上，而训练损失低于语言本身的熵：是背下来的。",
            ),
            lambda n: n["new_nats"][0] - n["train_nats"][0] > 1 and n["train_nats"][0] < n["entropy_nats"],
        ),
        Claim(
            "penalties",
            Bilingual(
                "Weight decay, L2 and L1 each lower the loss on new text by more than 0.1 nats.",
                "权重衰减、L2、L1 各使新文本的损失下降 0.1 奈特以上。",
            ),
            lambda n: min(gain(n, name) for name in ("weight decay", "L2", "L1")) > 0.1,
        ),
        Claim(
            "sparse",
            Bilingual(
                "Only L1 leaves exact zeros: a tenth of the weights and more.",
                "只有 L1 留下恰好为零的权重，占十分之一以上。",
            ),
            lambda n: [share > 0.1 for share in n["zero_weights"]] == [name == "L1" for name in n["remedies"]],
        ),
        Claim(
            "dropout",
            Bilingual(
                "Dropout lowers the loss on new text by more than 0.2 nats.",
                "Dropout 使新文本的损失下降 0.2 奈特以上。",
            ),
            lambda n: gain(n, "dropout") > 0.2,
        ),
        Claim(
            "early stopping",
            Bilingual(
                "Early stopping lowers it by more than 0.2 nats, and takes fewer steps.",
                "早停使其下降 0.2 奈特以上，步数也更少。",
            ),
            lambda n: (
                gain(n, "early stopping") > 0.2
                and n["steps"][list(n["remedies"]).index("early stopping")] < n["steps"][0]
            ),
        ),
        Claim(
            "augmentation",
            Bilingual(
                "Copies with synonyms lower it by more than 0.5 nats.", "用同义词替换得到的副本使其下降 0.5 奈特以上。"
            ),
            lambda n: gain(n, "synonyms") > 0.5,
        ),
        Limit(
            "care",
            Bilingual(
                "Augmentation must keep the text right: copies with words left out gain less than half of what synonyms do.",
                "增强必须保持文本正确：随机丢词的副本所得不到同义词的一半。",
            ),
            lambda n: gain(n, "words dropped") < gain(n, "synonyms") / 2,
        ),
        Limit(
            "translated",
            Bilingual(
                "Translated there and back, one copy of each sentence gains more than 0.2 nats, but less than half of what "
                "synonyms do, and its translators have read 3,000 other sentences.",
                "往返翻译得到的副本（每句一份）使其下降 0.2 奈特以上，但不到同义词的一半，而且翻译模型另外读过 3,000 个句子。",
            ),
            lambda n: (  # measured in the full run
                "back-translation" in n["remedies"] and 0.2 < gain(n, "back-translation") < gain(n, "synonyms") / 2
            ),
        ),
        Limit(
            "more text",
            Bilingual(
                "No remedy replaces text: eight times as many real sentences beat each of them by more than 0.1 nats.",
                "没有什么能代替数据：八倍的真实句子比每种措施都好 0.1 奈特以上。",
            ),
            lambda n: n["new_nats"][-1] < min(n["new_nats"][:-1]) - 0.1,
        ),
    ),
    measure=measure,
    draw=draw,
)
