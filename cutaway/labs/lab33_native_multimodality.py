"""Topic 33: native multimodal training: one model on pictures, sounds and words from the start, or three that are joined later.

A row is a written, spoken or drawn digit, a question and the answer. Two questions are asked: which digit it is (`name`) and
which comes after it (`next`). Pictures and words come with both, sounds with `name` alone; whether `next` can be answered for
sounds, without or with a few such rows, is what knowledge of one kind is worth to another.

The joined system is a picture model, a sound model and a text model of the same shape, each trained on its own rows; then linear
connectors, which feed the hidden states of the first two into the text model, are trained on all rows while the rest is frozen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cutaway.data.interleaved import OmniBatch
from cutaway.data.parts import Piece
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.senses import MEDIA, WORDS, Writer, batches, heard, pictures, spoken, together
from cutaway.models.families import make_model
from cutaway.nn.media import MediaConfig
from cutaway.train.omni import accuracy, omni_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, ROWS = 48, 16  # rows of each kind in a batch
PICTURES, SOUNDS, HELD_OUT = 800, 300, 200
FEW = 5  # sounds that come with the other question too
LEARNING_RATE = 5e-3
STATES = MediaConfig(image_size=(12, 16), patch_size=(6, 8), num_channels=1, mel_bands=WIDTH, stack=1)
"""What the connectors read: hidden states, `WIDTH` numbers each, in place of the four patches and of the mel frames."""
ASKED = ("picture name", "picture next", "sound name", "sound next")
Rows = dict[str, list[Piece]]


@one_thread()
def measure(setting: Setting) -> Numbers:
    steps = 100 if setting.quick else 200
    writer = Writer((*WORDS, "name", "next"))
    train, held = make_rows(writer, setting.seed)
    kinds = ("picture", "sound", "word")

    def learned(names: Sequence[str], steps: int, rows: Rows = train, media: MediaConfig = MEDIA) -> Any:
        torch.manual_seed(setting.seed)
        model = make(writer, media)
        fit(model, omni_lm, stream([rows[name] for name in names], setting.seed), steps, LEARNING_RATE)
        return model

    native = learned(kinds, 2 * steps)
    apart = {kind: learned([kind], steps) for kind in ("picture", "sound")}
    words = {"word": [without_media(row) for row in train["word"]]}
    decoder = learned(["word"], steps, words, STATES)
    states = {kind: with_states(model, train[kind]) for kind, model in apart.items()} | words
    connect(decoder, stream([states[kind] for kind in kinds], setting.seed), steps)
    few = {**train, "sound": train["sound"] + train["few"] * (SOUNDS // FEW // 4)}
    return {
        "asked": list(ASKED),
        "native": scores(native, held),
        "joined": scores(decoder, {name: with_states(apart[name.split()[0]], held[name]) for name in ASKED}),
        "parameters_native": parameters(native),
        "parameters_joined": sum(map(parameters, (*apart.values(), decoder))),
        "rows_read": 2 * steps * ROWS * len(kinds),
        "few_native": scores(learned(kinds, 2 * steps, few), held)[-1],
        "few_sounds_alone": scores(learned(["sound"], 2 * steps, few), held)[-1],
    }


def make_rows(writer: Writer, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on, by kind, and rows to ask, by kind and question."""
    images, digits = pictures(seed)
    draw = np.random.default_rng(seed)
    said = draw.integers(10, size=SOUNDS + HELD_OUT).tolist()
    some = [*range(PICTURES), *range(len(images) - HELD_OUT, len(images))]
    seen = [(writer.picture(images[i]), int(digits[i])) for i in some]
    sounds = [(writer.sound(heard(spoken(digit, draw))), digit) for digit in said]
    words = [(writer.text(f" {word}"), digit) for digit, word in enumerate(WORDS)]

    def asked(things: Sequence[tuple[Piece, int]], question: str) -> list[Piece]:
        add = int(question == "next")
        return [
            writer.row(thing, writer.text(f" {question}"), answer=f" {WORDS[(digit + add) % 10]}")
            for thing, digit in things
        ]

    taught = {"picture": seen[:PICTURES], "sound": sounds[:SOUNDS], "word": words}
    train = {kind: asked(taught[kind], "name") + asked(taught[kind], "next") for kind in ("picture", "word")}
    train |= {"sound": asked(taught["sound"], "name"), "few": asked(taught["sound"][:FEW], "next")}
    test = {"picture": seen[-HELD_OUT:], "sound": sounds[-HELD_OUT:]}
    return train, {name: asked(test[name.split()[0]], name.split()[1]) for name in ASKED}


def make(writer: Writer, media: MediaConfig) -> Any:
    """A small multimodal decoder with random weights."""
    shape = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {f"{kind}_token_id": id for kind, id in writer.ids.items()}
    rest = {"vocab_size": writer.tokenizer.vocab_size, "max_position_embeddings": 32, "initializer_range": 0.1}
    return make_model({"model_type": "omni", **shape, **rest, **ids, "media": media.model_dump()})


def stream(groups: Sequence[Sequence[Piece]], seed: int) -> Iterator[OmniBatch]:
    """Batches with as many rows of each kind."""
    return batches(groups, ROWS, seed)


@torch.inference_mode()
def with_states(model: Any, rows: Sequence[Piece]) -> list[Piece]:
    """Rows of one length with the hidden states of a model in place of their media's numbers."""
    ids_BT, places_BT = torch.tensor(np.stack([row.ids for row in rows])), torch.stack([row.places_T for row in rows])
    h_BTD = model(ids_BT, features_BTF=torch.stack([row.features_TF for row in rows]), places_BT=places_BT)
    medium_BT = torch.isin(ids_BT, torch.tensor(list(model.config.media_ids.values())))
    return [replace(row, features_TF=h) for row, h in zip(rows, h_BTD * medium_BT[..., None], strict=True)]


def without_media(row: Piece) -> Piece:
    """A row of words for a model that reads states."""
    return replace(row, features_TF=torch.zeros(len(row.ids), WIDTH))


def connect(decoder: Any, rows: Iterator[OmniBatch], steps: int) -> None:
    """Train the connectors alone."""
    decoder.requires_grad_(False)
    decoder.senses.requires_grad_(True)
    fit(decoder, omni_lm, rows, steps, LEARNING_RATE)


def scores(model: Any, held: Mapping[str, Sequence[Piece]]) -> list[float]:
    """The share of right answers, for each of `ASKED`."""
    return [next(iter(accuracy(model, [together(held[name])]).values()))["accuracy"] for name in ASKED]


def parameters(model: Any) -> int:
    """All of a model's."""
    return sum(parameter.numel() for parameter in model.parameters())


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    places = np.arange(len(numbers["asked"]))
    for offset, name in ((-0.2, "native"), (0.2, "joined")):
        label = f"{name}: {numbers[f'parameters_{name}']:,} parameters"
        left.bar(places + offset, numbers[name], 0.4, label=label)
    left.axhline(0.1, color="grey", linestyle="--")
    left.set_xticks(places, [f"{name}\n(not taught)" if name == ASKED[-1] else name for name in numbers["asked"]])
    left.set(ylabel="right answers", title="equal rows read", ylim=(0, 1.2))
    left.legend(fontsize=8)
    heights = [numbers["native"][-1], numbers["few_native"], numbers["few_sounds_alone"]]
    right.bar(["everything,\n0 labels", f"everything,\n{FEW} labels", f"sounds alone,\n{FEW} labels"], heights)
    right.axhline(0.1, color="grey", linestyle="--")
    right.set(title="sounds asked for what comes next", ylim=(0, 1))
    right.tick_params(axis="x", labelsize=7)
    return figure


def taught(numbers: Mapping, name: str) -> float:
    """The share of right answers to the questions that were taught, mean over them."""
    return sum(numbers[name][:-1]) / (len(ASKED) - 1)


LAB = Lab(
    id=33,
    title=Bilingual("Native multimodal training", "原生多模态训练"),
    claim=Bilingual(
        "One transformer trained on text, images and sounds together from the start uses its parameters better than separate "
        "models that are joined, and may use data of one kind to understand another with fewer labels.",
        "一个从一开始就同时用文本、图像和声音训练的 Transformer，比拼接起来的独立模型更有效地利用参数，并可能借助一种模态的数据、"
        "用更少的标注理解另一种模态。",
    ),
    fixed=Bilingual(
        "The rows and how many of them are read in all; seeds, batch of each kind and learning rate. The joined system has three "
        "models of the native one's size.",
        "数据行和总共读入的行数、随机种子、每种模态的批量和学习率。拼接系统由三个与原生模型同样大小的模型组成。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "fewer parameters",
            Bilingual(
                "the native model has less than half the parameters of the joined one.",
                "原生模型的参数不到拼接系统的一半。",
            ),
            lambda n: n["parameters_native"] < 0.5 * n["parameters_joined"],
        ),
        Claim(
            "better",
            Bilingual(
                "and after as many rows it answers more of the questions that were taught.",
                "读过同样多的数据后，它答对的已教问题更多。",
            ),
            lambda n: taught(n, "native") > taught(n, "joined") + 0.02,
        ),
        Claim(
            "every kind",
            Bilingual(
                "one network learns all three kinds: over 70 % right on each taught question.",
                "同一个网络学会所有模态：每个已教问题答对 70% 以上。",
            ),
            lambda n: min(n["native"][:-1]) > 0.7,
        ),
        Limit(
            "a question does not carry over",
            Bilingual(
                "a question that was taught with pictures and words is not thereby learned for sounds: fewer than half of the "
                "answers are right.",
                "用图像和文字教会的问题，并不会因此对声音也学会：答对的不到一半。",
            ),
            lambda n: n["native"][-1] < 0.5,
        ),
        Limit(
            "few labels",
            Bilingual(
                "with five labelled sounds, training on everything answers the question hardly more often than training on "
                "sounds alone: by less than 20 points.",
                "只有五个有标注的声音时，用全部数据训练与只用声音训练相比，答对率提高不到 20 个百分点。",
            ),
            lambda n: n["few_native"] < n["few_sounds_alone"] + 0.2,
        ),
    ),
    measure=measure,
    draw=draw,
)
