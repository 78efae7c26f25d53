"""Topic 20: from GPT-3 to GPT-4: pictures beside text, a longer context, a system message that steers; each switched on in one
small decoder, and off in its twin.

A row is maybe a system message (`plain` or `plus`), a digit as a word or a picture, maybe idle words, and `say`; the answer is
the digit, or under `plus` the one after it. The twin reads words alone, a short context and no system message.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cutaway.data.parts import Piece
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit, one_thread
from cutaway.labs.senses import MEDIA, WORDS, Writer, batches, pictures, together
from cutaway.models.families import make_model
from cutaway.train.omni import accuracy, omni_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, ROWS = 48, 12  # rows of each kind in a batch
SHORT, LONG = 12, 40  # idle words at most, of the twin and of the other
BEYOND = 4 * LONG
PICTURES, HELD_OUT = 500, 200
ASKED = ("word", "picture", "far back", "under plus", "picture under plus", "beyond its length", "against the user")


@one_thread()
def measure(setting: Setting) -> Numbers:
    steps = 170 if setting.quick else 400
    writer = Writer((*WORDS, "plain", "plus", "so", "say"))
    asker = Asker(writer, setting.seed)
    short = [asker.row(word=digit, idle=n) for digit in range(10) for n in range(SHORT + 1)]
    long = [asker.row(word=digit, idle=n) for digit in range(10) for n in range(LONG + 1)]
    systems = ("", "plain", "plus")
    steered = [asker.row(system, word=digit) for system in systems for digit in range(10)]
    seen = [asker.row(system, picture=i) for i in range(PICTURES) for system in systems]
    held = range(-HELD_OUT, 0)
    questions = {
        "word": [asker.row(word=digit) for digit in range(10)],
        "picture": [asker.row(picture=i) for i in held],
        "far back": [asker.row(word=digit, idle=n) for digit in range(10) for n in range(SHORT + 4, LONG + 1, 4)],
        "under plus": [asker.row("plus", word=digit) for digit in range(10)],
        "picture under plus": [asker.row("plus", picture=i) for i in held],
        "beyond its length": [
            asker.row(word=digit, idle=n) for digit in range(10) for n in range(2 * LONG, BEYOND, 20)
        ],
        "against the user": [asker.row("plus", user="plain", word=digit) for digit in range(10)],
    }
    off = learned(writer, [short, short, short], steps, setting.seed)
    on = learned(writer, [long, steered, seen], steps, setting.seed)
    window = SHORT + 2  # what the twin was made for: the end of a longer prompt is all that it gets
    return {
        "asked": list(ASKED),
        "off": [right(off, [ending(row, window) for row in questions[name]]) for name in ASKED],
        "on": [right(on, questions[name]) for name in ASKED],
        "parameters": sum(parameter.numel() for parameter in on.parameters()),
        "steps": steps,
    }


class Asker:
    """Makes rows."""

    def __init__(self, writer: Writer, seed: int):
        self.writer, (self.images, self.digits) = writer, pictures(seed)

    def row(
        self, system: str = "", *, user: str = "", word: int = 0, picture: int | None = None, idle: int = 0
    ) -> Piece:
        """System message, what the user says of the way to answer, the digit, idle words, the question and its answer."""
        write = self.writer.text
        thing = write(f" {WORDS[word]}") if picture is None else self.writer.picture(self.images[picture])
        digit = word if picture is None else int(self.digits[picture])
        said = [write(f" {told}") for told in (system, user) if told]
        answer = WORDS[(digit + (system == "plus")) % 10]
        return self.writer.row(*said, thing, write(" so" * idle + " say"), answer=f" {answer}")


def learned(writer: Writer, groups: Sequence[Sequence[Piece]], steps: int, seed: int) -> Any:
    """A small multimodal decoder, trained on as many rows of each group."""
    torch.manual_seed(seed)
    shape = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {f"{kind}_token_id": id for kind, id in writer.ids.items()}
    rest = {"vocab_size": writer.tokenizer.vocab_size, "max_position_embeddings": 256, "initializer_range": 0.1}
    model = make_model({"model_type": "omni", **shape, **rest, **ids, "media": MEDIA.model_dump()})
    fit(model, omni_lm, batches(groups, ROWS, seed), steps, lr=5e-3)
    return model


def ending(row: Piece, window: int) -> Piece:
    """The last positions of a prompt, with the answer behind them."""
    keep = slice(-(window + int(row.learned.sum())), None)
    return Piece(row.ids[keep], row.learned[keep], row.features_TF[keep], row.places_T[keep])


def right(model: Any, rows: Sequence[Piece]) -> float:
    """The share of right answers."""
    found = accuracy(model, [together(rows)]).values()
    return sum(item["rows"] * item["accuracy"] for item in found) / sum(item["rows"] for item in found)


def of(numbers: Mapping, name: str, asked: str) -> float:
    """What a model got right of one kind of question."""
    return numbers[name][numbers["asked"].index(asked)]


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(numbers["asked"]))
    axes.bar(places - 0.2, numbers["off"], 0.4, label="text, short context, no system message")
    axes.bar(places + 0.2, numbers["on"], 0.4, label="pictures, longer context, system message")
    axes.axhline(0.1, color="grey", linestyle="--")
    axes.set_xticks(places, [name.replace(" ", "\n", 1) for name in numbers["asked"]], fontsize=8)
    axes.set(ylabel="right answers", ylim=(0, 1.2), title="one shape, equal steps")
    axes.legend(fontsize=8, loc="upper center", ncol=2)
    return figure


LAB = Lab(
    id=20,
    title=Bilingual("From GPT-3 to GPT-4", "从 GPT-3 到 GPT-4"),
    claim=Bilingual(
        "Beside text a model can read images, use a longer context and follow a system message that steers its answers.",
        "模型除文本外还能读图像，使用更长的上下文，并按系统消息的引导作答。",
    ),
    fixed=Bilingual(
        "Architecture, parameters, steps, rows per step, learning rate and seed; the two models differ in what they are "
        "trained on.",
        "架构、参数量、步数、每步行数、学习率和随机种子相同；两个模型只有训练内容不同。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "pictures",
            Bilingual(
                "with pictures in training, over 70 % of questions about new pictures are answered, without at most 30 %.",
                "训练中有图像时，新图像的问题答对 70% 以上；没有时至多 30%。",
            ),
            lambda n: of(n, "on", "picture") > 0.7 and of(n, "off", "picture") < 0.3,
        ),
        Claim(
            "length",
            Bilingual(
                "what lies further back than the short context reaches is recalled by the model with the longer one alone.",
                "比短上下文更远的内容，只有长上下文的模型能想起。",
            ),
            lambda n: of(n, "on", "far back") > 0.8 and of(n, "off", "far back") < 0.3,
        ),
        Claim(
            "system message",
            Bilingual(
                "the same question is answered as the system message says, of words and (over 45 %) of pictures, which hardly "
                "happens without training for it.",
                "同一个问题按系统消息的要求回答，对词如此，对图像也超过 45%；没有为此训练的模型几乎不会。",
            ),
            lambda n: (
                of(n, "on", "under plus") > 0.8
                and of(n, "on", "picture under plus") > 0.45
                and of(n, "off", "under plus") < 0.3
            ),
        ),
        Limit(
            "a matter of training",
            Bilingual(
                "both models are the same network, and the steps are as many: here the difference is in the data alone.",
                "两个模型是同一个网络，步数也相同：在这里差别只在于数据。",
            ),
            lambda n: of(n, "off", "word") > 0.9 and of(n, "on", "word") > 0.9,
        ),
        Limit(
            "pictures are read less surely",
            Bilingual(
                "questions about pictures are answered less often than those about words.",
                "关于图像的问题比关于词的问题答对得少。",
            ),
            lambda n: of(n, "on", "picture") < of(n, "on", "word") - 0.01,
        ),
    ),
    measure=measure,
    draw=draw,
)
