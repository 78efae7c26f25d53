"""Lab 6, temperature: entropy and diversity against T, the limit T → 0, and the closed form."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.decode.processors import History, process
from cutaway.decode.sampling import GREEDY, Sampling
from cutaway.evaluate.diversity import distinct_n, self_bleu
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.request import Completion, Request
from cutaway.labs.contract import Bilingual, Claim, Lab, Numbers, Setting, own_data
from cutaway.models.load import load
from cutaway.models.packaged import CHAT_MODEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPERATURES = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
WRITTEN = [0.3, 0.7, 1.0, 1.5]
PROMPT = "The traveller opened the door and saw"


def measure(setting: Setting) -> Numbers:
    loaded = load(setting.model or CHAT_MODEL, dtype="float32")  # bfloat16 logits tie
    samples, length = (6, 24) if setting.quick else (16, 48)
    text = loaded.tokenizer.encode(own_data("harbour.txt").read_text())[:96]
    with torch.inference_mode():
        logits_TV = loaded.model.logits(loaded.model(torch.tensor([text]))[0]).float()
    prompt = loaded.tokenizer.encode(PROMPT)
    engine = Engine(loaded, EngineConfig(max_batch=samples * len(WRITTEN), context=128))
    requests = [
        Request(prompt, Sampling(temperature=t, seed=1000 * setting.seed + i), length, ignore_end=True, logprobs=0)
        for t in WRITTEN
        for i in range(samples)
    ]
    completions = engine.run(requests)
    by_temperature = [completions[i : i + samples] for i in range(0, len(completions), samples)]
    greedy, nearly = (
        engine.generate([prompt], sampling, length, ignore_end=True)[0].ids
        for sampling in (GREEDY, Sampling(temperature=1e-4, seed=setting.seed))
    )
    return {
        "temperatures": TEMPERATURES,
        "entropy_bits": [mean_entropy_bits(logits_TV, t) for t in TEMPERATURES],
        "written_temperatures": WRITTEN,
        "distinct_2": [distinct_n([one.ids for one in group], 2) for group in by_temperature],
        "self_bleu": [self_bleu([one.text for one in group]) for group in by_temperature],
        "token_logprob": [mean_logprob(group) for group in by_temperature],
        "cold_is_greedy": greedy == nearly,
        "closed_form_difference": max(closed_form_difference(logits_TV[-1], t) for t in TEMPERATURES),
    }


def mean_entropy_bits(logits_TV: Tensor, temperature: float) -> float:
    """Entropy of the next-token distribution at this temperature, over all positions of a text."""
    p_TV = process(logits_TV, Sampling(temperature=temperature), History([], [])).softmax(-1)
    return float(torch.special.entr(p_TV).sum(-1).mean() / torch.log(torch.tensor(2.0)))


def mean_logprob(completions: list[Completion]) -> float:
    """What the model itself (T = 1) thinks of the tokens, nats per token."""
    values = [token.logprob for one in completions for token in one.logprobs]
    return sum(values) / len(values)


def closed_form_difference(logits_V: Tensor, temperature: float) -> float:
    """The chain's distribution against p^(1/T) / Σ p^(1/T), in float64."""
    powered = logits_V.double().softmax(-1) ** (1 / temperature)
    ours = process(logits_V, Sampling(temperature=temperature), History([], [])).softmax(-1)
    return float((ours - powered / powered.sum()).abs().max())


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = (
        ("temperatures", "entropy_bits", "entropy of the next token (bits)"),
        ("written_temperatures", "distinct_2", "distinct bigrams (share)"),
        ("written_temperatures", "self_bleu", "self-BLEU"),
    )
    for axes, (x, y, label) in zip(figure.subplots(1, 3), panels, strict=True):
        axes.plot(numbers[x], numbers[y], "o-")
        axes.set(xlabel="temperature", ylabel=label)
    return figure


LAB = Lab(
    id=6,
    title=Bilingual("Temperature", "温度"),
    claim=Bilingual(
        "A low temperature makes the output predictable, a high one varied; at temperature 0 it is greedy.",
        "温度低则输出确定，温度高则输出多样；温度为 0 时等同贪心。",
    ),
    fixed=Bilingual(
        "The same model and prompt, the same number of samples and tokens at every temperature.",
        "同一模型和提示，每个温度的样本数和词元数相同。",
    ),
    expected="supported",
    checks=(
        Claim(
            "entropy",
            Bilingual("entropy rises with every step of T", "熵随温度单调上升"),
            lambda n: all(a < b for a, b in zip(n["entropy_bits"], n["entropy_bits"][1:], strict=False)),
        ),
        Claim(
            "diversity",
            Bilingual(
                "the hottest samples have more distinct bigrams than the coldest", "最高温样本的不同二元组多于最低温"
            ),
            lambda n: n["distinct_2"][-1] > n["distinct_2"][0],
        ),
        Claim(
            "resemblance",
            Bilingual(
                "the hottest samples resemble each other less (self-BLEU)", "最高温样本彼此更不相似（self-BLEU）"
            ),
            lambda n: n["self_bleu"][-1] < n["self_bleu"][0],
        ),
        Claim(
            "limit",
            Bilingual("at T = 0.0001 every token is the greedy one", "T = 0.0001 时每个词元都是贪心的选择"),
            lambda n: n["cold_is_greedy"],
        ),
        Claim(
            "closed form",
            Bilingual(
                "the distribution is p^(1/T), normalised (within 1e-5)", "分布等于归一化的 p^(1/T)（误差 1e-5 以内）"
            ),
            lambda n: n["closed_form_difference"] < 1e-5,
        ),
    ),
    measure=measure,
    draw=draw,
    takes_model=True,
)
