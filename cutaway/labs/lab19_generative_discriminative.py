"""Topic 19: generative and discriminative models of text: one trunk, trained to write texts of a class or to name the class.

Texts are drawn from a known source (`class_texts`): in `words`, words are independent given the class; in `phrases`, half of
every text are fixed phrases.

The trunk is a small Llama. As a generator it learns p(x | y), the class being the first token, and classifies by p(x | y) p(y);
as a discriminator it gets a linear head on its last position and learns p(y | x). Naive Bayes (an n-gram model of order 1 per
class) and logistic regression are the same pair on word counts.

B texts, T tokens, D width, C classes, V words.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cutaway.data.batch import Batch
from cutaway.decode.draw import draw as draw_token
from cutaway.evaluate.perplexity import token_losses
from cutaway.labs.class_texts import WORDS, C, T, V, make_source
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit
from cutaway.loss.language_modelling import cross_entropy
from cutaway.models import ngram
from cutaway.models.families import make_model
from cutaway.train.objectives import Metrics, causal_lm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELD_OUT, WRITTEN = 600, 32  # texts to judge on; texts written of each class
TRUNK = {
    "model_type": "llama",
    "vocab_size": V + C,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": T + 1,
    "initializer_range": 0.1,
}


class WithLabelHead(nn.Module):
    """A decoder with a linear layer on its last position."""

    def __init__(self, trunk: Any):
        super().__init__()
        self.trunk, self.classifier = trunk, nn.Linear(trunk.config.width, C)

    def label_logits(self, text_BT: Tensor) -> Tensor:
        """Scores of the classes, B × C."""
        return self.classifier(self.trunk(text_BT)[:, -1])


def measure(setting: Setting) -> Numbers:
    sizes, steps = ([16, 64, 256, 1024], 100) if setting.quick else ([16, 64, 256, 1024, 4096], 300)
    sources = {name: make_source(phrases, setting.seed) for name, phrases in (("words", 0), ("phrases", 2))}
    numbers: dict[str, Any] = {"labels": sizes}
    for name, source in sources.items():
        held_out = source.texts(HELD_OUT, 10_000 + setting.seed)
        labelled = [source.texts(size, setting.seed) for size in sizes]
        numbers[f"error_naive_bayes_{name}"] = [naive_bayes(texts, held_out) for texts in labelled]
        numbers[f"error_logistic_regression_{name}"] = [logistic_regression(texts, held_out) for texts in labelled]
    source = sources["words"]
    text_BT, label_B = source.texts(HELD_OUT, 10_000 + setting.seed)
    generator: Any = None
    errors: dict[str, list[float]] = {"generator": [], "head": []}
    for size in sizes:
        texts = source.texts(size, setting.seed)
        generator = trained_generator(texts, steps, setting.seed)
        errors["generator"].append(error(class_log_likelihood(generator, text_BT), label_B))
        head = trained_head(texts, steps, setting.seed)
        with torch.inference_mode():
            errors["head"].append(error(head.label_logits(text_BT), label_B))
    written_BT, asked_B = write(generator, setting.seed)
    return {
        **numbers,
        **{f"error_{name}": found for name, found in errors.items()},
        "error_best_possible": error(source.log_likelihood(text_BT), label_B),
        "written_as_asked": 1 - error(source.log_likelihood(written_BT), asked_B),
    }


def naive_bayes(labelled: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> float:
    """The held-out error of one unigram model per class; the classes are equally frequent."""
    text_BT, label_B = labelled
    config = ngram.NGramConfig(vocab_size=V, order=1)
    models = [ngram.fit(text_BT[label_B == c].numpy(), config) for c in range(C)]
    scores = [[model.score(text).sum() for model in models] for text in held_out[0].numpy()]
    return error(torch.tensor(np.array(scores)), held_out[1])


def logistic_regression(labelled: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> float:
    """The held-out error of logistic regression on word counts, with scikit-learn's penalty."""
    from sklearn.linear_model import LogisticRegression

    (train_BV, train_B), (test_BV, test_B) = (
        (functional.one_hot(text_BT, V).sum(1).numpy(), label_B.numpy()) for text_BT, label_B in (labelled, held_out)
    )
    return 1 - float(LogisticRegression(max_iter=500).fit(train_BV, train_B).score(test_BV, test_B))


def trained_generator(labelled: tuple[Tensor, Tensor], steps: int, seed: int) -> Any:
    """The trunk, trained to predict the words of texts that begin with their class."""
    torch.manual_seed(seed)
    model = make_model(TRUNK)
    fit(model, causal_lm, (as_sequences(*texts) for texts in drawn(labelled, seed)), steps, lr=1e-2)
    return model


def trained_head(labelled: tuple[Tensor, Tensor], steps: int, seed: int) -> WithLabelHead:
    """The trunk with a head, trained to name the class."""
    torch.manual_seed(seed)
    model = WithLabelHead(make_model(TRUNK))
    fit(model, label_loss, (as_sequences(*texts) for texts in drawn(labelled, seed)), steps, lr=1e-2)
    return model


def drawn(labelled: tuple[Tensor, Tensor], seed: int, size: int = 32) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches, drawn with replacement."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randint(0, len(labelled[1]), (size,), generator=generator)
        yield labelled[0][rows], labelled[1][rows]


def as_sequences(text_BT: Tensor, label_B: Tensor) -> Batch:
    """Texts that begin with their class, to be predicted word by word."""
    ids = torch.cat([V + label_B[:, None], text_BT], 1)
    places_BT = torch.arange(T).expand(len(ids), T)
    return Batch(ids[:, :-1], ids[:, 1:], places_BT, torch.ones_like(places_BT))


def label_loss(model: WithLabelHead, batch: Batch) -> tuple[Tensor, int, Metrics]:
    """The discriminator's objective, −log p(y | x), on what `as_sequences` made."""
    return cross_entropy(model.label_logits(batch.targets_BT), batch.ids_BT[:, 0] - V), len(batch.ids_BT), {}


def class_log_likelihood(model: Any, text_BT: Tensor) -> Tensor:
    """log p(x | y) under the generator for every class, B × C."""
    batches = [as_sequences(text_BT, torch.full((len(text_BT),), c)) for c in range(C)]
    return torch.stack([-token_losses(model, batch).view(-1, T).sum(-1) for batch in batches], -1)


@torch.inference_mode()
def write(model: Any, seed: int) -> tuple[Tensor, Tensor]:
    """Texts of every class, sampled from the generator without any filter, and the classes asked for."""
    generator = torch.Generator().manual_seed(seed)
    label_B = torch.arange(C).repeat_interleave(WRITTEN)
    ids_BT = V + label_B[:, None]
    for _ in range(T):
        logits_BV = model.logits(model(ids_BT)[:, -1])[:, :WORDS]
        ids = [draw_token(logits_V, False, generator) for logits_V in logits_BV]
        ids_BT = torch.cat([ids_BT, torch.tensor(ids)[:, None]], 1)
    return ids_BT[:, 1:], label_B


def error(scores_BC: Tensor, label_B: Tensor) -> float:
    """Share of the texts whose best class is wrong."""
    return (scores_BC.argmax(-1) != label_B).double().mean().item()


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    trunk, words, phrases = figure.subplots(1, 3, sharey=True)
    counted = [
        {f"naive_bayes_{source}": "naive Bayes", f"logistic_regression_{source}": "logistic regression"}
        for source in ("words", "phrases")
    ]
    for axes, title, pair in (
        (trunk, "one trunk, independent words", {"generator": "generator", "head": "discriminative head"}),
        (words, "word counts, independent words", counted[0]),
        (phrases, "word counts, fixed phrases", counted[1]),
    ):
        for name, label in pair.items():
            axes.semilogx(numbers["labels"], numbers[f"error_{name}"], "o-", label=label)
        axes.set(xlabel="labelled texts", title=title)
        axes.legend(fontsize=8)
    trunk.axhline(numbers["error_best_possible"], color="grey", linestyle="--")
    trunk.set(ylabel="held-out error (share)", ylim=(0, 0.8))
    return figure


LAB = Lab(
    id=19,
    title=Bilingual("Generative and discriminative models", "生成模型与判别模型"),
    claim=Bilingual(
        "A generative model learns the joint distribution P(X, Y) and can make new data; a discriminative model learns "
        "P(Y | X), the boundary between classes, and is for classifying.",
        "生成模型学习联合分布 P(X, Y)，能造出新数据；判别模型学习 P(Y | X)，即类别之间的边界，用于分类。",
    ),
    fixed=Bilingual(
        "Within a pair: the same labelled and held-out texts; for the trunk also its shape, first weights, steps and learning "
        "rate.",
        "每一对模型使用相同的有标签文本与留出文本；主干还有相同的结构、初始权重、步数和学习率。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "it writes",
            Bilingual(
                "of the texts that the generator writes for a class, the best possible classifier gives more than 70 % to that "
                "class.",
                "生成器按类别写出的文本，用可能的最优分类器判断，七成以上属于所要求的类别。",
            ),
            lambda n: n["written_as_asked"] > 0.7,
        ),
        Claim(
            "it separates",
            Bilingual(
                "with the most labels the discriminative head errs on less than a fifth of the texts; guessing errs on three "
                "quarters.",
                "标签最多时，判别头的错误率低于两成；随机猜测为七成五。",
            ),
            lambda n: n["error_head"][-1] < 0.2,
        ),
        Limit(
            "a generator classifies too",
            Bilingual(
                "with the most labels the generator, with Bayes' rule, classifies no worse than the head on the same trunk.",
                "标签最多时，生成器借助贝叶斯公式分类，不逊于同一主干上的判别头。",
            ),
            lambda n: n["error_generator"][-1] < n["error_head"][-1] + 0.02,
        ),
        Limit(
            "a wrong assumption costs",
            Bilingual(
                "where words come in fixed phrases, naive Bayes, which takes them for independent, errs more than logistic "
                "regression, also with the most labels.",
                "当词以固定短语出现时，把词当作独立的朴素贝叶斯比逻辑回归错得多，标签最多时也是如此。",
            ),
            lambda n: n["error_naive_bayes_phrases"][-1] > n["error_logistic_regression_phrases"][-1] + 0.01,
        ),
        Limit(
            "few labels",
            Bilingual(
                "with the fewest labels the head on the same trunk errs less than the generator, which has every word to learn.",
                "标签最少时，同一主干上的判别头比生成器错得少，因为生成器要学会每一个词。",
            ),
            lambda n: n["error_head"][0] < n["error_generator"][0],
        ),
    ),
    measure=measure,
    draw=draw,
)
