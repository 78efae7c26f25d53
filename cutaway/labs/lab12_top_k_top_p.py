"""Lab 12, top-k and top-p: how many candidates each leaves, and whether the sampler draws from what it says.

Shapes: T positions of a text, V vocabulary.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.decode.draw import draw as draw_token
from cutaway.decode.draw import new_generator
from cutaway.decode.processors import History, process
from cutaway.decode.sampling import Sampling
from cutaway.labs.contract import Bilingual, Claim, Lab, Numbers, Setting, own_data
from cutaway.models.load import load
from cutaway.models.packaged import CHAT_MODEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOP_K, TOP_P = Sampling(top_k=40), Sampling(top_p=0.9)
DRAWN_FROM = (Sampling(top_k=8), TOP_P, Sampling(temperature=1.5, top_k=20, top_p=0.8))


def measure(setting: Setting) -> Numbers:
    from scipy.stats import spearmanr

    loaded = load(setting.model or CHAT_MODEL, dtype="float32")  # bfloat16 logits tie
    text = loaded.tokenizer.encode(own_data("harbour.txt").read_text())[: 128 if setting.quick else None]
    with torch.inference_mode():
        logits_TV = loaded.model.logits(loaded.model(torch.tensor([text]))[0]).float()
    p_TV = logits_TV.softmax(-1)
    entropy_T = torch.special.entr(p_TV).sum(-1) / torch.log(torch.tensor(2.0))
    kept_k, kept_p = kept(logits_TV, TOP_K), kept(logits_TV, TOP_P)
    middle = logits_TV[entropy_T.sort().indices[len(text) // 2]]
    draws = 3_000 if setting.quick else 20_000
    return {
        "entropy_bits": entropy_T.tolist(),
        "size_top_k": kept_k.sum(-1).tolist(),
        "size_top_p": kept_p.sum(-1).tolist(),
        "mass_top_k": (p_TV * kept_k).sum(-1).tolist(),
        "mass_top_p": (p_TV * kept_p).sum(-1).tolist(),
        "entropy_size_correlation": float(spearmanr(entropy_T, kept_p.sum(-1)).statistic),
        "chi_square_p": [frequency_test(middle, one, draws, setting.seed) for one in DRAWN_FROM],
    }


def kept(logits_TV: Tensor, sampling: Sampling) -> Tensor:
    """Which tokens the filters leave at each position, T × V."""
    return torch.stack([process(row, sampling, History([], [])) > float("-inf") for row in logits_TV])


def frequency_test(logits_V: Tensor, sampling: Sampling, draws: int, seed: int) -> float:
    """p of a chi-square test: that the drawn tokens follow the processed distribution; 0 if a removed token was drawn."""
    from scipy.stats import chisquare

    processed_V = process(logits_V, sampling, History([], []))
    order = processed_V.argsort(descending=True)[: int((processed_V > float("-inf")).sum())]
    generator = new_generator(seed)
    drawn = torch.tensor([draw_token(processed_V, False, generator) for _ in range(draws)])
    observed = torch.bincount(drawn, minlength=len(processed_V))[order].double()
    if int(observed.sum()) != draws:
        return 0.0
    expected = draws * processed_V.double().softmax(-1)[order]
    rare = expected < 5  # the test wants at least five expected in each class: the rare ones share one
    if rare.any():
        observed = torch.cat([observed[~rare], observed[rare].sum()[None]])
        expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    return float(chisquare(observed, expected).pvalue)


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label in (("top_k", "top-k, k = 40"), ("top_p", "top-p, p = 0.9")):
        left.scatter(numbers["entropy_bits"], numbers[f"size_{name}"], s=10, label=label)
        right.scatter(numbers["entropy_bits"], numbers[f"mass_{name}"], s=10, label=label)
    left.set(xlabel="entropy of the next token (bits)", ylabel="candidates", yscale="log")
    right.set(xlabel="entropy of the next token (bits)", ylabel="probability kept")
    left.legend()
    return figure


LAB = Lab(
    id=12,
    title=Bilingual("Top-k and top-p sampling", "top-k 与 top-p 采样"),
    claim=Bilingual(
        "Top-k keeps a fixed number of candidates; top-p keeps as many as reach a probability, so it adapts to the model.",
        "top-k 保留固定数量的候选；top-p 保留累计概率达到阈值的候选，因此随模型的把握程度而变。",
    ),
    fixed=Bilingual(
        "The same logits of one model over one text; the same number of draws for each setting.",
        "同一模型在同一文本上的 logits；每种设置的抽样次数相同。",
    ),
    expected="supported",
    checks=(
        Claim(
            "top-k is fixed",
            Bilingual("top-k leaves 40 candidates everywhere", "top-k 在每个位置都留下 40 个候选"),
            lambda n: min(n["size_top_k"]) == max(n["size_top_k"]) == 40,
        ),
        Claim(
            "top-p adapts",
            Bilingual(
                "the candidates of top-p range from at most 2 to more than 40, and grow with entropy (rank correlation > 0.8)",
                "top-p 的候选数从至多 2 个到 40 个以上，并随熵增长（秩相关 > 0.8）",
            ),
            lambda n: min(n["size_top_p"]) <= 2 and max(n["size_top_p"]) > 40 and n["entropy_size_correlation"] > 0.8,
        ),
        Claim(
            "top-p keeps its promise",
            Bilingual(
                "top-p always keeps 90 % of the probability, top-k keeps less somewhere",
                "top-p 总保留 90% 的概率，top-k 有时更少",
            ),
            lambda n: min(n["mass_top_p"]) > 0.8999 and min(n["mass_top_k"]) < 0.9,
        ),
        Claim(
            "frequencies",
            Bilingual(
                "drawn tokens follow the filtered distribution (chi-square, p > 0.001)",
                "抽到的词元服从过滤后的分布（卡方检验 p > 0.001）",
            ),
            lambda n: min(n["chi_square_p"]) > 0.001,
        ),
    ),
    measure=measure,
    draw=draw,
    takes_model=True,
)
