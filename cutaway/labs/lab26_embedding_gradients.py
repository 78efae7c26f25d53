"""Topic 26: gradients of the embedding. Which rows get one, which rows move, and what a sparse update saves.

D model width, V vocabulary.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cutaway.data.batch import Batch
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.models.llama import Llama, LlamaConfig
from cutaway.train.gradients import accumulate
from cutaway.train.objectives import causal_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOCAB, WIDTH, LENGTH = 500, 32, 16


def measure(setting: Setting) -> Numbers:
    torch.manual_seed(setting.seed)
    first, second = torch.randperm(VOCAB)[: 2 * (LENGTH + 1)].view(2, 1, -1)  # no token occurs in both
    untied, tied = (_embedding_gradient(first, is_tied) for is_tied in (False, True))
    read = torch.zeros(VOCAB, dtype=torch.bool)
    read[first[:, :-1]] = True
    sparse_ms, dense_ms = _update_times(setting)
    return {
        "rows_read": int(read.sum()),
        "rows": VOCAB,
        "rows_with_gradient": _rows(untied),
        "exactly_the_rows_read": bool(torch.equal(untied.any(-1), read)),
        "rows_with_gradient_tied": _rows(tied),
        "untied_norms": untied.norm(dim=-1).sort(descending=True).values.tolist(),
        "tied_norms": tied.norm(dim=-1).sort(descending=True).values.tolist(),
        "unread_rows_moved_sgd": _unread_rows_moved(lambda p: torch.optim.SGD(p, lr=0.1), first, second),
        "unread_rows_moved_weight_decay": _unread_rows_moved(
            lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), first, second
        ),
        "unread_rows_moved_momentum": _unread_rows_moved(
            lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0), first, second
        ),
        "sparse_update_ms": sparse_ms,
        "dense_update_ms": dense_ms,
    }


def _model(tied: bool) -> Llama:
    torch.manual_seed(0)
    return Llama(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            tie_word_embeddings=tied,
        )
    )


def _accumulate(model: Llama, tokens: Tensor) -> None:
    ids, targets = tokens[:, :-1], tokens[:, 1:]
    batch = Batch(ids, targets, torch.arange(LENGTH)[None], torch.ones_like(ids))
    accumulate(model, causal_lm, [batch])


def _embedding_gradient(tokens: Tensor, tied: bool) -> Tensor:
    model = _model(tied)
    _accumulate(model, tokens)
    grad = model.embedding.weight.grad
    assert grad is not None
    return grad


def _rows(grad: Tensor) -> int:
    return int(grad.any(-1).sum())


def _unread_rows_moved(
    optimiser: Callable[[list[Tensor]], torch.optim.Optimizer], first: Tensor, second: Tensor
) -> int:
    """Train a step on `first` and a step on `second`: how many rows that the second did not read does the second move?"""
    model = _model(tied=False)
    stepper = optimiser([model.embedding.weight])
    for tokens in (first, second):
        before = model.embedding.weight.detach().clone()
        model.zero_grad()
        _accumulate(model, tokens)
        stepper.step()
    moved = (model.embedding.weight.detach() != before).any(-1)
    moved[second[:, :-1]] = False
    return int(moved.sum())


def _update_times(setting: Setting, d: int = 128, read: int = 1024) -> tuple[float, float]:
    """Milliseconds of backward and update of a large embedding, with a sparse and with a dense gradient; medians, in turn."""
    v = 50_000 if setting.quick else 200_000
    ids = torch.randint(0, v, (read,))
    tables = {sparse: nn.Embedding(v, d, sparse=sparse) for sparse in (True, False)}
    steppers = {sparse: torch.optim.SGD(table.parameters(), lr=0.1) for sparse, table in tables.items()}
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(12):
        for sparse, table in tables.items():
            loss = table(ids).square().sum()
            started = time.perf_counter()
            loss.backward()
            steppers[sparse].step()
            times[sparse].append(1e3 * (time.perf_counter() - started))
            steppers[sparse].zero_grad()
    return statistics.median(times[True][2:]), statistics.median(times[False][2:])


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    norms, moved, cost = figure.subplots(1, 3)
    norms.plot(numbers["untied_norms"], label="untied")
    norms.plot(numbers["tied_norms"], label="tied to the head")
    norms.set_yscale("symlog", linthresh=1e-4)
    norms.set(xlabel="row, by size of its gradient", ylabel="gradient norm", title="which rows get a gradient")
    norms.legend()
    names = {"sgd": "SGD", "weight_decay": "weight decay", "momentum": "Adam's\nmomentum"}
    moved.bar(list(names.values()), [numbers[f"unread_rows_moved_{name}"] for name in names])
    moved.set(ylabel=f"rows of {numbers['rows']}", title="rows moved without being read")
    cost.bar(["sparse", "dense"], [numbers["sparse_update_ms"], numbers["dense_update_ms"]])
    cost.set(ylabel="ms", title="backward and update of a large table")
    return figure


LAB = Lab(
    id=26,
    title=Bilingual("Gradients of the embedding", "嵌入层的梯度"),
    claim=Bilingual(
        "The gradient of the loss reaches only the embedding rows of the tokens that occur, so only those are updated.",
        "损失的梯度只到达出现过的词元的嵌入行，因此只有这些行被更新。",
    ),
    fixed=Bilingual(
        "Model, first weights and tokens are equal; tying and the optimiser differ.",
        "模型、初始权重和词元相同；不同的是是否共享权重以及优化器。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "only rows read",
            Bilingual(
                "with an embedding of its own, exactly the rows that were read get a gradient.",
                "嵌入不与输出层共享时，得到梯度的恰好是被读取的那些行。",
            ),
            lambda n: n["exactly_the_rows_read"],
        ),
        Claim(
            "plain updates",
            Bilingual(
                "plain gradient descent moves no other row.",
                "普通梯度下降不会移动其他行。",
            ),
            lambda n: n["unread_rows_moved_sgd"] == 0,
        ),
        Claim(
            "sparse is cheaper",
            Bilingual(
                "an update that knows this costs less than half of a dense one on a large table.",
                "利用这一点的稀疏更新，在大表上的耗时不到稠密更新的一半。",
            ),
            lambda n: n["sparse_update_ms"] < 0.5 * n["dense_update_ms"],
        ),
        Limit(
            "tied head",
            Bilingual(
                "with the output head tied to the embedding, every row gets a gradient, "
                "because every token takes part in the softmax.",
                "输出层与嵌入共享权重时，每一行都有梯度，因为每个词元都参与 softmax。",
            ),
            lambda n: n["rows_with_gradient_tied"] == n["rows"],
        ),
        Limit(
            "weight decay",
            Bilingual(
                "weight decay moves every row, read or not.",
                "权重衰减会移动每一行，不论是否被读取。",
            ),
            lambda n: n["unread_rows_moved_weight_decay"] >= n["rows"] - n["rows_read"],
        ),
        Limit(
            "momentum",
            Bilingual(
                "Adam's momentum goes on moving rows that were read in an earlier step.",
                "Adam 的动量会继续移动先前步骤中读取过的行。",
            ),
            lambda n: n["unread_rows_moved_momentum"] > 0,
        ),
    ),
    measure=measure,
    draw=draw,
)
