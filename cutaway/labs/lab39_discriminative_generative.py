"""Topic 39: discriminative and generative AI on the same images: which questions a classifier and a generator can answer.

The images are scikit-learn's digits, 8 × 8 pixels. The classifier is a ViT. The generator is one variational auto-encoder per
digit; with Bayes' rule it is a classifier too, p(y | x) ∝ p(x | y) p(y), where the evidence lower bound stands for log p(x | y).

B images, N pixels, Y digits.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cutaway.data.batch import Rows
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.labs.fit import fit
from cutaway.labs.handwriting import handwritten
from cutaway.loss.language_modelling import cross_entropy
from cutaway.loss.variational import bernoulli_nll, kl_to_prior, variational_loss
from cutaway.models.families import make_model
from cutaway.train.objectives import Metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, DIGITS = 8, 10
HELD_OUT = 500  # of 1,797
DRAWN = 40  # images of each digit
VIT = {
    "model_type": "vit",
    "image_size": SIDE,
    "patch_size": 4,
    "num_channels": 1,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.1,
    "labels": tuple(map(str, range(DIGITS))),
}
VAE = {"model_type": "vae", "vector_size": SIDE * SIDE, "latent_size": 8, "hidden_sizes": (32,)}


@dataclass(frozen=True)
class Images(Rows):
    """Digits: pixels from 0 to 1, and which digit it is."""

    pixels_BN: Tensor
    digit_B: Tensor

    @property
    def length(self) -> int:
        """N."""
        return self.pixels_BN.shape[1]

    @property
    def n_tokens(self) -> int:
        """Pixels in all."""
        return self.pixels_BN.numel()


def measure(setting: Setting) -> Numbers:
    torch.manual_seed(setting.seed)
    training, held_out = read_digits(setting.seed)
    steps = 160 if setting.quick else 800
    classifier: Any = make_model(VIT)
    fit(classifier, classify, drawn(training, 128, setting.seed), steps, lr=3e-3)
    generators: list[Any] = []
    for digit in range(DIGITS):
        generators.append(make_model(VAE))
        own = only(training, digit)
        fit(generators[-1], reconstruct, drawn(own, 64, setting.seed), steps, lr=1e-2)
    share_Y = torch.bincount(training.digit_B, minlength=DIGITS) / len(training.digit_B)
    made_BN = torch.cat([generator.sample(DRAWN) for generator in generators])
    asked_B = torch.arange(DIGITS).repeat_interleave(DRAWN)
    strange_BN = shuffled(held_out.pixels_BN)
    scores = {
        "confidence": lambda x_BN: probabilities(classifier, x_BN).amax(-1),
        "density": lambda x_BN: (bounds(generators, x_BN) + share_Y.log()).logsumexp(-1),
    }
    return {
        "parameters_classifier": _parameters(classifier),
        "parameters_generator": sum(map(_parameters, generators)),
        "error_classifier": error(probabilities(classifier, held_out.pixels_BN), held_out.digit_B),
        "error_bayes": error(bounds(generators, held_out.pixels_BN) + share_Y.log(), held_out.digit_B),
        "drawn_as_asked": 1 - error(probabilities(classifier, made_BN), asked_B),
        "nearest_real": nearest(made_BN, training.pixels_BN),
        "confidence_on_no_digit": scores["confidence"](strange_BN).mean().item(),
        **{
            f"tells_no_digit_{name}": told_apart(score, held_out.pixels_BN, strange_BN)
            for name, score in scores.items()
        },
        "drawings": made_BN[::DRAWN].tolist(),
    }


def read_digits(seed: int) -> tuple[Images, Images]:
    """Images to train on and images held out."""
    ink_NHW, digit_N = handwritten()
    order = torch.randperm(len(digit_N), generator=torch.Generator().manual_seed(seed))
    images = Images(ink_NHW[order].flatten(1), digit_N[order])
    return images.rows(HELD_OUT, len(order)), images.rows(0, HELD_OUT)


def only(images: Images, digit: int) -> Images:
    """The images of one digit."""
    mine = images.digit_B == digit
    return Images(images.pixels_BN[mine], images.digit_B[mine])


def drawn(images: Images, size: int, seed: int) -> Iterator[Images]:
    """Endless batches, drawn with replacement."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randint(0, len(images.digit_B), (size,), generator=generator)
        yield Images(images.pixels_BN[rows], images.digit_B[rows])


def classify(model: Any, batch: Images) -> tuple[Tensor, int, Metrics]:
    """The classifier's objective: −log p(y | x)."""
    return cross_entropy(label_logits(model, batch.pixels_BN), batch.digit_B), len(batch.digit_B), {}


def reconstruct(model: Any, batch: Images) -> tuple[Tensor, int, Metrics]:
    """The generator's objective: a bound of −log p(x), with x the images of its digit."""
    logits_BN, mean_BZ, logvar_BZ = model(batch.pixels_BN)
    loss, metrics = variational_loss(bernoulli_nll(logits_BN, batch.pixels_BN).sum(), mean_BZ, logvar_BZ)
    return loss, len(batch.digit_B), metrics


def label_logits(model: Any, pixels_BN: Tensor) -> Tensor:
    """Scores of every digit, B × Y; the pixels go in normalised."""
    return model.label_logits(model(2 * pixels_BN.view(-1, 1, SIDE, SIDE) - 1))


@torch.inference_mode()
def probabilities(model: Any, pixels_BN: Tensor) -> Tensor:
    """p(y | x) of the classifier, B × Y."""
    return label_logits(model, pixels_BN).softmax(-1)


@torch.inference_mode()
def bounds(generators: list[Any], pixels_BN: Tensor, samples: int = 8) -> Tensor:
    """The lower bound of log p(x | y) in nats, B × Y, averaged over samples of z."""

    def bound(model: Any) -> Tensor:
        logits_BN, mean_BZ, logvar_BZ = model(pixels_BN)
        return -bernoulli_nll(logits_BN, pixels_BN) - kl_to_prior(mean_BZ, logvar_BZ).sum(-1)

    each = [torch.stack([bound(model) for _ in range(samples)]).mean(0) for model in generators]
    return torch.stack(each, -1)


def error(scores_BY: Tensor, digit_B: Tensor) -> float:
    """Share of the images whose best digit is wrong."""
    return (scores_BY.argmax(-1) != digit_B).float().mean().item()


def shuffled(pixels_BN: Tensor) -> Tensor:
    """The same pixels in another order, one for all images: as much ink as a digit, and none."""
    return pixels_BN[:, torch.randperm(pixels_BN.shape[1])]


def told_apart(score: Callable[[Tensor], Tensor], digits_BN: Tensor, strange_BN: Tensor) -> float:
    """How often a digit scores higher than a strange image (the area under the ROC curve); chance is 0.5."""
    return (score(digits_BN)[:, None] > score(strange_BN)).float().mean().item()


def nearest(made_BN: Tensor, real_BN: Tensor) -> float:
    """The smallest distance of a drawing to an image of the training set; 0: one was copied."""
    return torch.cdist(made_BN, real_BN).min().item()


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    bars, pictures = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.1, 1))[0]
    axes = bars.add_subplot()
    labels = ("names the digit", "says what is no digit", "draws one as asked")
    answers = {
        "classifier": (1 - numbers["error_classifier"], numbers["tells_no_digit_confidence"], 0.0),
        "generator": (1 - numbers["error_bayes"], numbers["tells_no_digit_density"], numbers["drawn_as_asked"]),
    }
    for offset, (name, heights) in zip((-0.2, 0.2), answers.items(), strict=True):
        axes.bar([place + offset for place in range(3)], heights, 0.4, label=name)
    axes.set_xticks(range(3), labels, fontsize=8)
    axes.set(ylabel="share right", ylim=(0, 1.2))
    axes.legend(loc="upper right", ncols=2)
    pictures.suptitle("drawn by the generator", fontsize=9)
    for panel, image in zip(pictures.subplots(2, 5).flat, numbers["drawings"], strict=True):
        panel.imshow(np.array(image).reshape(SIDE, SIDE), cmap="gray_r")
        panel.set_axis_off()
    return figure


LAB = Lab(
    id=39,
    title=Bilingual("Discriminative and generative AI", "判别式 AI 与生成式 AI"),
    claim=Bilingual(
        "Discriminative AI tells inputs apart and answers “is this …?”; generative AI learns what the data look like and makes "
        "new ones.",
        "判别式 AI 区分输入，回答“这是不是……”；生成式 AI 学习数据的样子，并造出新的数据。",
    ),
    fixed=Bilingual(
        "The same training and held-out images; parameters of the same order (about 40,000 and 50,000).",
        "训练图像与留出图像相同；参数量级相同（约 4 万与 5 万）。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "the classifier tells apart",
            Bilingual(
                "the classifier names more than nine in ten held-out digits rightly.",
                "分类器对留出数字的正确率超过九成。",
            ),
            lambda n: n["error_classifier"] < 0.1,
        ),
        Claim(
            "the generator makes",
            Bilingual(
                "asked for a digit, the generator draws one that the classifier reads as that digit, and it is a copy of no "
                "training image.",
                "要求生成器画某个数字时，分类器多半把所画认作该数字，而且它不是任何训练图像的复制品。",
            ),
            lambda n: n["drawn_as_asked"] > 0.8 and n["nearest_real"] > 0.05,
        ),
        Limit(
            "the generator tells apart too",
            Bilingual(
                "by Bayes' rule the generator names digits as well, with a few more errors: the two differ in what they learn, "
                "not in whether they can classify.",
                "借助贝叶斯公式，生成器同样能辨认数字，错误只多一点：二者的区别在于学什么，而不在于能不能分类。",
            ),
            lambda n: n["error_bayes"] < 0.1,
        ),
        Limit(
            "only one knows what a digit is",
            Bilingual(
                "shown shuffled pixels, the classifier still names a digit, often with confidence; the generator's density says "
                "that it is none.",
                "面对打乱的像素，分类器照样报出一个数字，常常还很自信；生成器的密度则指出这不是数字。",
            ),
            lambda n: n["tells_no_digit_density"] > n["tells_no_digit_confidence"] + 0.01,
        ),
    ),
    measure=measure,
    draw=draw,
)
