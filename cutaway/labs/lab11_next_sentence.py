"""Lab 11, next sentence prediction: what a pair objective beside the hidden words is worth, and what solves it.

B rows, T positions.
"""

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from cutaway.data.corpus import DataConfig
from cutaway.data.labelled import LabelBatch
from cutaway.data.masking import MaskingConfig
from cutaway.data.sentence_pairs import FOLLOWS, SentencePairBatch, SentencePairCorpus, open_sentence_pairs
from cutaway.data.sentence_pairs import SentencePairsConfig as Pairs
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.small_documents import documents
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.bert_heads import with_head
from cutaway.models.families import make_model
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.classify import classification, scores
from cutaway.train.objectives import masked_lm_with_pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIDING = MaskingConfig(share=0.3)  # as in lab 7
WEIGHT = 5.0  # of a pair, in hidden words: about as many as a pair has, so that both losses count alike, as in BERT
TUNING_STEPS = 30
ARMS: dict[str, tuple[Any, float]] = {
    "words only": ("nsp", 0.0),
    "words and NSP": ("nsp", WEIGHT),
    "words and SOP": ("sop", WEIGHT),
}
TASKS: dict[str, tuple[Any, Pairs]] = {
    "NSP, other document": ("nsp", Pairs(negatives="other")),
    "NSP, same document": ("nsp", Pairs(negatives="same")),
    "SOP": ("sop", Pairs()),
}
SHAPE = {
    "model_type": "bert",
    "head": "pretraining",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "initializer_range": 0.1,
}


@one_thread()
def measure(setting: Setting) -> Numbers:
    n_documents, steps = (1_000, 260) if setting.quick else (2_000, 500)
    tokenizer = train_tokenizer(documents(1_000, "words"), TrainTokenizerConfig(kind="wordpiece", vocab_size=512))
    with TemporaryDirectory() as folder:
        files = {part: Path(folder) / f"{part}.jsonl" for part in ("pretraining", "tuning", "test")}
        for (part, file), count in zip(files.items(), (n_documents, 400, 200), strict=True):
            texts = documents(count, f"{setting.seed} {part}")
            file.write_text("\n".join(json.dumps({"text": text}) for text in texts))

        def opened(part: str, kind: Any, pairs: Pairs) -> SentencePairCorpus:
            data = DataConfig(path=files[part], held_out=files["test"], seq_len=32, rows=32)
            return open_sentence_pairs(data, kind, pairs, HIDING, tokenizer, setting.seed)

        pretraining = {kind: opened("pretraining", kind, Pairs()) for kind in ("nsp", "sop")}
        tasks = [opened("tuning", kind, pairs) for kind, pairs in TASKS.values()]
    numbers: dict[str, Any] = {"arms": list(ARMS), "tasks": list(TASKS), "word_nats": [], "accuracy": []}
    for arm, (kind, weight) in ARMS.items():
        torch.manual_seed(setting.seed)
        model = make_model({**SHAPE, "vocab_size": tokenizer.vocab_size})
        stream = pretraining[kind].train
        stream.restore({"epoch": 0, "batch": 0, "seed": setting.seed})
        fit(model, partial(masked_lm_with_pairs, weight=weight), stream, steps, lr=2e-3)
        numbers["word_nats"].append(word_nats(model, tasks[0].held_out.once()))
        numbers["accuracy"].append([tuned(model, task, setting.seed) for task in tasks])
        if arm == "words and NSP":
            numbers["own_head"] = [own_head(model, task.held_out.once()) for task in tasks]
    return numbers


def tuned(model: Any, task: SentencePairCorpus, seed: int) -> float:
    """Accuracy on held-out pairs after a short training of a copy of the model, all weights, with a fresh head for the task."""
    torch.manual_seed(seed)
    task.train.restore({"epoch": 0, "batch": 0, "seed": seed})
    classifier = with_head(deepcopy(model), "sequence")
    fit(classifier, classification, map(whole, task.train), TUNING_STEPS, lr=1e-3)
    return scores(classifier, map(whole, task.held_out.once()))["accuracy"]


def whole(batch: SentencePairBatch) -> LabelBatch:
    """The pairs with nothing hidden, and their relations as labels."""
    ids_BT = torch.where(batch.targets_BT == IGNORED, batch.ids_BT, batch.targets_BT)
    return LabelBatch(ids_BT=ids_BT, real_BT=batch.real_BT, types_BT=batch.types_BT, labels=batch.relation_B[:, None])


@torch.inference_mode()
def own_head(model: Any, batches: Iterable[SentencePairBatch]) -> float:
    """Accuracy of the head that the model was pretrained with, nothing hidden; batches of one size."""
    shown = [replace(batch, ids_BT=whole(batch).ids_BT) for batch in batches]
    right = [float(masked_lm_with_pairs(model, batch)[2]["pairs_right"]) for batch in shown]
    return sum(right) / len(right)


@torch.inference_mode()
def word_nats(model: Any, batches: Iterable[SentencePairBatch]) -> float:
    """Loss per hidden word where the second sentence follows the first, which all arms have read."""
    nats, words = 0.0, 0
    for batch in batches:
        following_BT = torch.where((batch.relation_B == FOLLOWS)[:, None], batch.targets_BT, IGNORED)
        loss, n, _ = masked_lm_with_pairs(model, replace(batch, targets_BT=following_BT), weight=0.0)
        nats, words = nats + float(loss), words + n
    return nats / words


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    pairs, words = figure.subplots(1, 2, width_ratios=(2, 1))
    for offset, (arm, accuracy) in enumerate(zip(numbers["arms"], numbers["accuracy"], strict=True)):
        pairs.bar([place + 0.27 * offset for place in range(len(TASKS))], accuracy, width=0.25, label=arm)
    pairs.axhline(0.5, color="grey", linestyle=":")
    pairs.set_xticks([place + 0.27 for place in range(len(TASKS))], numbers["tasks"])
    pairs.set(ylabel="accuracy", title="after the same short fine-tuning (dotted: chance)", ylim=(0.4, 1.25))
    pairs.legend(ncols=3, fontsize=8)
    words.bar([arm.replace(" and ", "\nand ") for arm in numbers["arms"]], numbers["word_nats"])
    words.set(ylabel="nats per hidden word", title="hidden words, held out")
    return figure


def _gain(numbers: Mapping, task: int) -> float:
    """What NSP adds to a pair task."""
    return numbers["accuracy"][1][task] - numbers["accuracy"][0][task]


LAB = Lab(
    id=11,
    title=Bilingual("Next sentence prediction", "下一句预测（NSP）"),
    claim=Bilingual(
        "A model that is also trained to say whether one sentence follows another learns how sentences relate, which helps where "
        "pairs of texts matter; later work found the task too simple, and its worth for the model small or negative.",
        "模型若同时学习判断一句是否接着另一句，就能学到句子之间的关系，有助于处理成对的文本；后来的研究发现这项任务过于简单，"
        "对模型的益处很小，甚至有害。",
    ),
    fixed=Bilingual(
        "The same model, first weights, documents, steps and rows; words only and NSP read the same batches with the same words "
        "hidden, SOP the same places with its own second sentences. Each is then fine-tuned with the same fresh head on the same "
        "pairs for the same few steps, and tested on new documents.",
        "模型、初始权重、文档、步数和行数都相同；「只填词」与 NSP 读相同的批次，被遮盖的词也相同，"
        "SOP 取相同的位置，但句对按它的规则组成。"
        "之后各用相同的新分类头，在相同的句对上微调相同的少量步数，并在新文档上测试。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "pairs",
            Bilingual(
                "after the same fine-tuning, NSP tells the next sentence from one of another document better than words only (by "
                "5 points or more).",
                "同样微调之后，经 NSP 训练的模型比只填词的模型更能区分下一句与别的文档的句子（高 5 个百分点以上）。",
            ),
            lambda n: _gain(n, 0) > 0.05,
        ),
        Limit(
            "topic",
            Bilingual(
                "the topic alone solves it: the head that NSP trained is right four times in five or more where the wrong "
                "sentence is from another document, but near chance (under 60 %) where it is from the same.",
                "只凭话题就能解题：错误的句子来自别的文档时，NSP 自己的分类头正确率在八成以上；"
                "来自同一文档时接近随机（低于 60%）。",
            ),
            lambda n: n["own_head"][0] > 0.8 and n["own_head"][1] < 0.6,
        ),
        Limit(
            "order",
            Bilingual(
                "it adds less than half as much to telling the order of two sentences.",
                "它对判断两句先后的增益不到上述增益的一半。",
            ),
            lambda n: _gain(n, 2) < 0.5 * _gain(n, 0),
        ),
        Limit(
            "words",
            Bilingual(
                "the hidden words are not predicted better for it (by 0.02 nats at most).",
                "被遮盖的词并不因此预测得更好（至多好 0.02 奈特）。",
            ),
            lambda n: n["word_nats"][1] > n["word_nats"][0] - 0.02,
        ),
    ),
    measure=measure,
    draw=draw,
)
