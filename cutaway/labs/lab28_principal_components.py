"""Topic 28: eigenvectors and PCA. Variance kept against neighbours and ranking kept, and what makes variance in hidden states.

Sentences of the project's guide are the vectors: some to search among, others to search with, and a sentence of the same page is
a relevant one.

Shapes: N vectors, Q queries, D width, K components, T tokens.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.evaluate.retrieval import ndcg
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Number, Numbers, Setting, own_data
from cutaway.labs.fit import one_thread
from cutaway.labs.guide_text import guide
from cutaway.lens.hooks import capture
from cutaway.lens.layers import layer_names, read_input
from cutaway.lens.pca import anisotropy, pca
from cutaway.models.load import load
from cutaway.models.packaged import CHAT_MODEL
from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.shrink import Projection, fit
from cutaway.retrieve.vectors import ExactVectors
from cutaway.text.sentences import sentences

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIMENSIONS = (4, 8, 16, 32, 64)
NEAREST = 10
SHORTEST, LONGEST = 40, 160  # characters of a sentence
TOKENS = 64  # that the model reads


@one_thread()
def measure(setting: Setting) -> Numbers:
    embedder = Embedder()
    passages, queries = split(setting.seed, pages=10 if setting.quick else 24, passages=13, queries=5)
    x_ND, q_QD = (embedder.encode([text for text, _ in side]) for side in (passages, queries))
    whole = rankings(x_ND, q_QD)
    relevant = [[place for place, (_, page) in enumerate(passages) if page == asked] for _, asked in queries]
    explained = pca(x_ND).explained
    return {
        "width": x_ND.shape[1],
        "passages": len(passages),
        **eigenvectors(x_ND),
        "dimensions": list(DIMENSIONS),
        "variance_kept": [float(explained[:K].sum()) for K in DIMENSIONS],
        "ndcg_whole": mean_ndcg(whole, relevant),
        **kept(x_ND, q_QD, whole, relevant, setting.seed),
        **hidden_states(setting.model or CHAT_MODEL),
    }


def split(seed: int, pages: int, passages: int, queries: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Sentences to search among and others to search with, each with the number of its page."""
    draw = random.Random(seed)
    sides: tuple[list[tuple[str, int]], list[tuple[str, int]]] = [], []
    texts = [text for half in guide(seed) for text in half["en"]]
    for page, text in enumerate(draw.sample(texts, pages)):
        found = [text[a:b] for a, b in sentences(text) if SHORTEST <= b - a <= LONGEST]
        chosen = [(sentence, page) for sentence in draw.sample(found, min(len(found), passages + queries))]
        sides[0].extend(chosen[queries:])
        sides[1].extend(chosen[:queries])
    return sides


def eigenvectors(x_ND: Tensor) -> dict[str, Number]:
    """The covariance's eigenvalues and eigenvectors against the SVD behind `pca`, in float64; of the first 32."""
    x_ND = x_ND.double()
    values_D, vectors_DD = torch.linalg.eigh(x_ND.T.cov())
    parts = pca(x_ND, 32)
    largest_K, axes_KD = values_D.flip(0)[:32], vectors_DD.T.flip(0)[:32]
    along_K = (x_ND @ axes_KD.T).var(0)
    return {
        "eigenvalue_error": float(((largest_K - parts.variances_K) / parts.variances_K).abs().max()),
        "variance_along_error": float(((along_K - largest_K) / largest_K).abs().max()),
        "direction_cosine": float((axes_KD * parts.components_KD).sum(1).abs().min()),
    }


def rankings(x_ND: Tensor, q_QD: Tensor) -> list[list[int]]:
    """The nearest passages of every query, by the index's own search."""
    search = ExactVectors(x_ND)
    return [search.search(q_D, NEAREST)[1].tolist() for q_D in q_QD]


def kept(
    x_ND: Tensor, q_QD: Tensor, whole: Sequence[Sequence[int]], relevant: Sequence[Sequence[int]], seed: int
) -> dict[str, Number]:
    """The share of nearest passages that stay, and nDCG, with vectors shortened to each length; and along random directions."""
    g = torch.Generator().manual_seed(seed)
    directions_DD = torch.linalg.qr(torch.randn(x_ND.shape[1], x_ND.shape[1], generator=g))[0]
    found: dict[str, list[Number]] = {}
    for K in DIMENSIONS:
        for name, projection in (("", fit(x_ND, K)), ("random_", Projection(directions_DD[:K]))):
            ranked = rankings(projection(x_ND), projection(q_QD))
            same = sum(len({*one} & {*other}) for one, other in zip(whole, ranked, strict=True))
            found.setdefault(f"{name}neighbours_kept", []).append(same / (NEAREST * len(whole)))
            found.setdefault(f"{name}ndcg", []).append(mean_ndcg(ranked, relevant))
    return dict(found)


def mean_ndcg(ranked: Sequence[Sequence[int]], relevant: Sequence[Sequence[int]]) -> float:
    """Over the queries."""
    found = [ndcg(one, dict.fromkeys(wanted, 1), NEAREST) for one, wanted in zip(ranked, relevant, strict=True)]
    return sum(found) / len(found)


@torch.inference_mode()
def hidden_states(spec: str) -> dict[str, Number]:
    """By layer of a decoder on a text: the share of the variance along the first component, with the first token and without;
    and the mean cosine of two tokens' states, as they are and with the mean taken off."""
    loaded = load(spec, dtype="float32")
    ids = loaded.tokenizer.encode(own_data("harbour.txt").read_text())[:TOKENS]
    names = layer_names(loaded.model)
    with capture(loaded.model, names) as calls:
        read_input(loaded.model, torch.tensor([ids], device=loaded.model.embedding.weight.device))
    states = [calls[name].output[0].float().cpu() for name in names]
    return {
        "first_component": [float(pca(x_TD, 1).explained[0]) for x_TD in states],
        "first_component_without_first_token": [float(pca(x_TD[1:], 1).explained[0]) for x_TD in states],
        "mean_cosine": [anisotropy(x_TD) for x_TD in states],
        "mean_cosine_centred": [anisotropy(x_TD[1:] - x_TD[1:].mean(0)) for x_TD in states],
        "mean_cosine_embedding": anisotropy(loaded.model.embedding.weight[ids].float()),
    }


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    keeps, first, cosine = figure.subplots(1, 3)
    K = numbers["dimensions"]
    keeps.plot(K, numbers["variance_kept"], "k^--", label="variance")
    for name, colour in (("", "C0"), ("random_", "C1")):
        label = "random directions" if name else "principal components"
        keeps.plot(K, numbers[f"{name}neighbours_kept"], "o-", color=colour, label=f"neighbours, {label}")
        ndcg_kept = [value / numbers["ndcg_whole"] for value in numbers[f"{name}ndcg"]]
        keeps.plot(K, ndcg_kept, "s:", color=colour, label=f"nDCG, {label}")
    keeps.set_xscale("log", base=2)
    keeps.set(
        xlabel=f"numbers left of {numbers['width']}", ylabel="share kept", title="sentence vectors", ylim=(0, 1.05)
    )
    keeps.legend(fontsize=6)
    layers = range(1, len(numbers["mean_cosine"]) + 1)
    first.plot(layers, numbers["first_component"], label="all tokens")
    first.plot(layers, numbers["first_component_without_first_token"], label="without the first")
    first.set(xlabel="layer", ylabel="variance along it", title="first component of hidden states", ylim=(0, 1.05))
    first.legend(fontsize=7)
    cosine.plot(layers, numbers["mean_cosine"], label="as they are")
    cosine.plot(layers, numbers["mean_cosine_centred"], label="mean taken off")
    cosine.axhline(numbers["mean_cosine_embedding"], color="grey", linestyle="--", label="embeddings")
    cosine.set(xlabel="layer", ylabel="mean cosine of two tokens", title="hidden states")
    cosine.legend(fontsize=7)
    return figure


def at(numbers: Mapping, name: str, K: int) -> float:
    """A number at one of the lengths."""
    return numbers[name][numbers["dimensions"].index(K)]


LAB = Lab(
    id=28,
    title=Bilingual("Eigenvectors and PCA", "特征向量与 PCA"),
    claim=Bilingual(
        "The covariance's eigenvectors are the directions in which data varies most, its eigenvalues the variance along them. "
        "Keeping the largest shortens vectors and keeps most of what they say.",
        "协方差矩阵的特征向量是数据变化最大的方向，特征值是沿该方向的方差。只保留最大的几个，就能缩短向量，并保留其大部分信息。",
    ),
    fixed=Bilingual(
        "The same sentences, questions and search; vectors shortened along principal components are compared with vectors "
        "shortened to as many numbers along random directions.",
        "句子、查询和搜索方法相同；沿主成分缩短的向量，与沿随机方向缩到同样长度的向量比较。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "eigenvectors",
            Bilingual(
                "eigenvalues are the variances along the eigenvectors, and both are what the SVD of the centred vectors gives, "
                "within 1e-8.",
                "特征值就是沿特征向量的方差，二者都与中心化向量的 SVD 一致，误差小于 1e-8。",
            ),
            lambda n: max(n["eigenvalue_error"], n["variance_along_error"]) < 1e-8 and n["direction_cosine"] > 1 - 1e-8,
        ),
        Claim(
            "most is kept",
            Bilingual(
                "a sixth of the numbers keeps over 75 % of the variance and of the nearest passages, and over 90 % of nDCG@10.",
                "保留六分之一的维数，就保留了 75% 以上的方差和最近邻，以及 90% 以上的 nDCG@10。",
            ),
            lambda n: (
                min(at(n, "variance_kept", 64), at(n, "neighbours_kept", 64)) > 0.75
                and at(n, "ndcg", 64) > 0.9 * n["ndcg_whole"]
            ),
        ),
        Claim(
            "the largest matter",
            Bilingual(
                "as many random directions keep under 70 % of the nearest passages, and have a lower nDCG at every length.",
                "同样多的随机方向只保留不到 70% 的最近邻，且在每种长度下 nDCG 都更低。",
            ),
            lambda n: (
                at(n, "random_neighbours_kept", 64) < 0.7
                and all(ours > other for ours, other in zip(n["ndcg"], n["random_ndcg"], strict=True))
            ),
        ),
        Limit(
            "variance does not say what is lost",
            Bilingual(
                "sixteen numbers keep under 60 % of the variance and still over 70 % of nDCG: the share of variance does not "
                "measure the task.",
                "16 维只保留不到 60% 的方差，却保留 70% 以上的 nDCG：方差占比不能衡量任务上的损失。",
            ),
            lambda n: at(n, "variance_kept", 16) < 0.6 and at(n, "ndcg", 16) > 0.7 * n["ndcg_whole"],
        ),
        Limit(
            "one token makes the first component",
            Bilingual(
                "in some layers of the model the first component holds over 90 % of the variance of the hidden states, and under "
                "half without the text's first token: large variance can be one outlier.",
                "在模型的某些层，第一主成分占隐藏状态方差的 90% 以上，去掉文本首个词元后不到一半：大方差可能只来自一个离群点。",
            ),
            lambda n: any(
                with_it > 0.9 and without < 0.5
                for with_it, without in zip(n["first_component"], n["first_component_without_first_token"], strict=True)
            ),
        ),
        Limit(
            "hidden states share a direction",
            Bilingual(
                "the mean cosine of two different tokens' states is over 0.4 in most layers, and near 0 (below 0.1) once the "
                "mean is taken off: what PCA takes off first is a large part of every vector.",
                "在大多数层，两个不同词元的状态平均余弦大于 0.4，减去均值后接近 0（低于 0.1）："
                "PCA 首先减掉的均值是每个向量的一大部分。",
            ),
            lambda n: (
                sum(cosine > 0.4 for cosine in n["mean_cosine"]) > len(n["mean_cosine"]) / 2
                and max(n["mean_cosine_centred"]) < 0.1
            ),
        ),
    ),
    measure=measure,
    draw=draw,
    takes_model=True,
)
