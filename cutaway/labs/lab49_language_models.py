"""Topic 49: what a large language model is: parameters, FLOPs and memory, the law by which its loss falls with size and data, and
whether abilities "emerge".

The text is a ledger of facts: a key of two tokens, and an answer of four that only memory can give. Facts are as frequent as
words are, by Zipf's law, so that larger models and longer training know more of them. An exam asks several facts at once and
counts only if all answers are right to the last token.

K keys, A tokens of an answer, B rows, T positions.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cutaway.data.batch import Batch
from cutaway.evaluate.scaling import Run, report
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit
from cutaway.loss.language_modelling import IGNORED
from cutaway.models.families import make_model
from cutaway.optim.adamw import OptimConfig, make_adamw
from cutaway.train.memory import static_memory
from cutaway.train.objectives import causal_lm
from cutaway.train.parameters import count_parameters
from cutaway.train.throughput import flops_per_token

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, SYMBOLS, A = 32, 16, 4  # keys are two of 32 tokens; answers are of 16
ZIPF = 1.2
ROWS, ASKED, EXAM = 128, 4000, 8  # rows of a step; facts asked at the end; facts of one exam
LR = 0.01
WIDTHS, STEPS = (4, 8, 16, 32, 64), (50, 100, 200)


@dataclass(frozen=True)
class Ledger:
    """What is true, and how often it is told."""

    answers_KA: Tensor
    frequency_K: Tensor

    def batch(self, rows: int, generator: torch.Generator) -> Batch:
        """Facts drawn by their frequency; only the answer is learned."""
        key_B = torch.multinomial(self.frequency_K, rows, True, generator=generator)
        row_BT = torch.cat([torch.stack([key_B // SIDE, SIDE + key_B % SIDE], 1), 2 * SIDE + self.answers_KA[key_B]], 1)
        ids_BT, targets_BT = row_BT[:, :-1], row_BT[:, 1:].clone()
        targets_BT[:, 0] = IGNORED
        return Batch(ids_BT, targets_BT, torch.arange(A + 1).expand(rows, A + 1), torch.ones_like(ids_BT))


def make_ledger(seed: int) -> Ledger:
    """Random answers, and random facts that are frequent."""
    generator = torch.Generator().manual_seed(seed)
    answers_KA = torch.randint(SYMBOLS, (SIDE * SIDE, A), generator=generator)
    weight_K = torch.arange(1, SIDE * SIDE + 1) ** -ZIPF
    order_K = torch.randperm(SIDE * SIDE, generator=generator)
    return Ledger(answers_KA, (weight_K / weight_K.sum())[order_K])


def make(width: int) -> Any:
    """A Llama of one layer."""
    return make_model(
        {
            "model_type": "llama",
            "vocab_size": 2 * SIDE + SYMBOLS,
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": A + 1,
            "tie_word_embeddings": False,
            "initializer_range": 0.1,
        }
    )


def measure(setting: Setting) -> Numbers:
    ledger = make_ledger(setting.seed)
    runs, scores = [], []
    varied = (16,) if setting.quick else WIDTHS  # widths that are trained on less, too
    runs_of = [(width, steps) for steps in STEPS for width in (WIDTHS if steps == STEPS[-1] else varied)]
    for width, steps in runs_of:
        torch.manual_seed(setting.seed)
        model: Any = make(width)
        generator = torch.Generator().manual_seed(setting.seed + 1)
        fit(model, causal_lm, [ledger.batch(ROWS, generator) for _ in range(steps)], steps, LR)
        found = examine(model, ledger, setting.seed)
        runs.append(Run(count_parameters(model)["all"], steps * ROWS * A, found[0], f"width {width}"))
        scores.append(found)
    law = report(runs)
    assert law["held_out"] is not None
    sizes, by_tokens = slice(-len(WIDTHS), None), [run for run in runs if run.name == "width 16"]
    loss, token, answer, exam = map(list, zip(*scores[sizes], strict=True))
    return {
        "parameters": [run.parameters for run in runs[sizes]],
        "loss_nats": loss,
        "token_right": token,
        "answer_right": answer,
        "exam_right": exam,
        "tokens": [run.tokens for run in by_tokens],
        "loss_nats_by_tokens": [run.loss for run in by_tokens],
        **{f"law_{name}": value for name, value in law["law"].items()},
        "predicted_nats": law["held_out"]["predicted"],
        **accounting(ledger, setting.seed),
    }


@torch.inference_mode()
def examine(model: Any, ledger: Ledger, seed: int) -> tuple[float, ...]:
    """Loss of an answer's token, and the share of tokens, of whole answers, and of whole exams that are right."""
    batch = ledger.batch(ASKED, torch.Generator().manual_seed(seed + 1000))
    logits_BTV, targets_BT = model.logits(model(batch.ids_BT))[:, 1:], batch.targets_BT[:, 1:]
    nats = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())
    right_BT = logits_BTV.argmax(-1) == targets_BT
    answer_B = right_BT.all(1)
    exam_B = answer_B.view(-1, EXAM).all(1)
    return nats.item(), *(float(right.float().mean()) for right in (right_BT, answer_B, exam_B))


def accounting(ledger: Ledger, seed: int) -> dict[str, float]:
    """What is counted without running, beside what a step really multiplies and holds."""
    torch.manual_seed(seed)
    model, batch = make(64), ledger.batch(ROWS, torch.Generator().manual_seed(seed))
    counter = FlopCounterMode(display=False)
    optimizer = make_adamw(model, OptimConfig())
    with counter:
        loss, n, _ = causal_lm(model, batch)
        (loss / n).backward()
    optimizer.step()
    held = [tensor for weight in model.parameters() for tensor in (weight, weight.grad) if tensor is not None]
    held += [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    planned = static_memory(model)
    return {
        "flops_counted_per_real": flops_per_token(model, A + 1) * batch.ids_BT.numel() / counter.get_total_flops(),
        "bytes_counted_per_real": (planned.weights + planned.gradients + planned.optimiser)
        / sum(tensor.numel() * tensor.element_size() for tensor in held),
        "flops_per_6nd": flops_per_token(model, A + 1) / (6 * count_parameters(model)["all"]),
    }


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    size, data, exam = figure.subplots(1, 3)
    sizes = numbers["parameters"]
    size.loglog(sizes, numbers["loss_nats"], "o-", label="measured")
    size.loglog(sizes[-1:], [numbers["predicted_nats"]], "x", ms=10, label="predicted from the others")
    size.set(xlabel="parameters", ylabel="nats per token", title="a power law of size")
    data.loglog(numbers["tokens"], numbers["loss_nats_by_tokens"], "o-")
    data.set(xlabel="tokens", ylabel="nats per token", title="and of data")
    for name, label in (("token_right", "tokens"), ("answer_right", "answers"), ("exam_right", f"exams of {EXAM}")):
        exam.semilogx(sizes, numbers[name], "o-", label=label)
    exam.set(xlabel="parameters", ylabel="share that is right", title="emergence is in the measure", ylim=(0, 1))
    data.set_xticks([], minor=True)
    data.set_xticks(numbers["tokens"], [f"{count / 1000:.0f}k" for count in numbers["tokens"]])
    for axes in (size, data):
        axes.yaxis.set_minor_formatter("{x:.1f}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.tick_params(axis="y", which="both", labelsize=8)
    size.legend(fontsize=8, loc="lower left")
    exam.legend()
    return figure


def falls(values: list[float]) -> bool:
    """Whether each is lower than the one before."""
    return all(after < before for before, after in itertools.pairwise(values))


LAB = Lab(
    id=49,
    title=Bilingual("What a large language model is", "什么是大语言模型"),
    claim=Bilingual(
        "A language model is large in parameters and data, and both pay: its loss falls with them by a law that predicts larger "
        "models. Beyond some size abilities emerge that were not there before.",
        "大语言模型的参数和数据规模巨大，而且规模有回报：损失随两者按规律下降，可以预测更大的模型。规模超过一定程度后，会涌现出此前没有的能力。",
    ),
    fixed=Bilingual(
        "One family, one layer, the same facts, learning rate and seeds; sizes read equally many tokens.",
        "同一家族、一层、同样的事实、学习率和种子；各种规模读同样多的词元。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "pays",
            Bilingual(
                "The loss falls with every step in parameters, and with every doubling of tokens.",
                "参数每上一级、词元每翻一倍，损失都下降。",
            ),
            lambda n: falls(n["loss_nats"]) and falls(n["loss_nats_by_tokens"]),
        ),
        Claim(
            "law",
            Bilingual(
                "E + A / N^a + B / D^b, fitted to the smaller runs, predicts the loss of the largest within 20 %.",
                "用较小的运行拟合 E + A / N^a + B / D^b，预测最大模型的损失，误差在 20% 以内。",
            ),
            lambda n: abs(n["predicted_nats"] / n["loss_nats"][-1] - 1) < 0.2,
        ),
        Claim(
            "accounting",
            Bilingual(
                "What is counted from the configuration is what a step takes: FLOPs within 10 %, bytes of weights, gradients and "
                "optimiser within 1 %.",
                "由配置算出的就是一步实际需要的：FLOPs 误差在 10% 以内，权重、梯度和优化器的字节数误差在 1% 以内。",
            ),
            lambda n: abs(n["flops_counted_per_real"] - 1) < 0.1 and abs(n["bytes_counted_per_real"] - 1) < 0.01,
        ),
        Claim(
            "emerges",
            Bilingual(
                "Exams of eight facts, judged whole, seem to emerge: the two smallest models reach less than a fifth of the "
                "score of the largest.",
                "八个事实的考试，全对才算，看起来是涌现的：最小的两个模型得分不到最大者的五分之一。",
            ),
            lambda n: max(n["exam_right"][:2]) < n["exam_right"][-1] / 5,
        ),
        Limit(
            "the measure emerges",
            Bilingual(
                "The same models have more than half of the tokens of the largest right from the second on, and the exam is the "
                "eighth power of the share of right answers within 0.06: the model improves smoothly, the measure does not.",
                "同样这些模型，从第二小的起，答对的词元就有最大者的一半以上；考试得分是单题正确率的八次方"
                "（误差 0.06 以内）：模型平滑进步，突变的是指标。",
            ),
            lambda n: (
                n["token_right"][1] > n["token_right"][-1] / 2
                and max(abs(exam - one**EXAM) for exam, one in zip(n["exam_right"], n["answer_right"], strict=True))
                < 0.06
            ),
        ),
        Limit(
            "it pays less and less",
            Bilingual(
                "Twice the parameters lower the loss by less than half: the exponent is below 1.",
                "参数翻倍，损失下降不到一半：指数小于 1。",
            ),
            lambda n: n["law_a"] < 1,
        ),
    ),
    measure=measure,
    draw=draw,
)
