"""Lab 5, greedy and beam search: what a wider beam finds, whether it is right, and where it degenerates."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from cutaway.decode.beam import Beam
from cutaway.decode.sampling import GREEDY, Sampling
from cutaway.evaluate.diversity import distinct_n
from cutaway.infer.beam import beam_decode
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.request import Request
from cutaway.labs.contract import Bilingual, Claim, Lab, Limit, Numbers, Setting
from cutaway.models.llama import Llama, LlamaConfig
from cutaway.models.load import Loaded, load
from cutaway.models.packaged import CHAT_MODEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMPTS = (
    "The ship left the harbour and",
    "In the evening the old teacher said that",
    "My favourite thing about the mountains is",
    "Scientists have found that the river",
    "The market was full of people, and",
    "When the letter arrived,",
)
BEGINNING = 16  # tokens over which a beam of width 1 is compared with greedy search


def measure(setting: Setting) -> Numbers:
    loaded = load(setting.model or CHAT_MODEL, dtype="float32")  # bfloat16 logits tie
    widths = [1, 8] if setting.quick else [1, 2, 4, 8, 16]
    length, n_prompts = (32, 2) if setting.quick else (96, len(PROMPTS))
    prompts = [loaded.tokenizer.encode(prompt) for prompt in PROMPTS[:n_prompts]]
    logprobs, texts = [], []
    for width in widths:
        # No end token: all sequences are equally long, so their log-probabilities compare.
        found = [
            best[0] for best in beam_decode(loaded.model, prompts, Beam(width=width, length_penalty=0), (), length)
        ]
        logprobs.append(sum(one.score for one in found) / len(found))
        texts.append([one.ids for one in found])
    greedy, sampled, sampled_logprob = continuations(loaded, prompts, setting.seed, length)
    return {
        "widths": widths,
        "logprob": logprobs,
        "repetition": [repetition(sequences) for sequences in texts],
        "sampled_logprob": sampled_logprob,
        "sampled_repetition": repetition(sampled),
        "width_1_is_greedy": sum(a[:BEGINNING] == b for a, b in zip(texts[0], greedy, strict=True)) / len(prompts),
        "exhaustive_equal": exhaustive_equal(setting.seed),
    }


def continuations(
    loaded: Loaded, prompts: list[list[int]], seed: int, length: int
) -> tuple[list[list[int]], list[list[int]], float]:
    """By the engine, all at once: greedy beginnings; sampled texts and their mean log-probability under the model."""
    greedy = [Request(ids, GREEDY, BEGINNING, ignore_end=True) for ids in prompts]
    sampled = [Request(ids, Sampling(seed=seed), length, ignore_end=True, logprobs=0) for ids in prompts]
    engine = Engine(loaded, EngineConfig(max_batch=2 * len(prompts), context=128))
    found = engine.run([*greedy, *sampled])
    beginnings, texts = found[: len(prompts)], found[len(prompts) :]
    logprobs = [sum(token.logprob for token in one.logprobs) for one in texts]
    return [one.ids for one in beginnings], [one.ids for one in texts], sum(logprobs) / len(logprobs)


def repetition(sequences: list[list[int]]) -> float:
    """Share of the trigrams that the same text has said before."""
    return sum(1 - distinct_n([ids], 3) for ids in sequences) / len(sequences)


@torch.inference_mode()
def exhaustive_equal(seed: int, vocabulary: int = 6, length: int = 4, trials: int = 4) -> float:
    """Share of small models where a beam that can hold everything finds the best of all sequences."""
    equal = 0
    everything = torch.tensor(list(itertools.product(range(vocabulary), repeat=length)))
    for trial in range(trials):
        torch.manual_seed(1000 * seed + trial)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            initializer_range=0.5,
        )
        model = Llama(config).eval()
        ids = torch.cat([torch.zeros(len(everything), 1, dtype=torch.int64), everything], 1)
        log = model.logits(model(ids[:, :-1])).log_softmax(-1).gather(-1, everything[..., None]).sum((1, 2))
        beam = Beam(width=vocabulary ** (length - 1), length_penalty=0)
        best = beam_decode(model, [[0]], beam, (), length)[0][0]
        equal += best.ids == everything[log.argmax()].tolist()
    return equal / trials


def draw(numbers: Mapping) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, name, label in (
        (left, "logprob", "log-probability of the text (nats)"),
        (right, "repetition", "repeated trigrams (share)"),
    ):
        axes.plot(numbers["widths"], numbers[name], "o-", label="beam search")
        axes.axhline(numbers[f"sampled_{name}"], color="tab:orange", linestyle="--", label="sampling, T = 1")
        axes.set(xlabel="beam width", ylabel=label)
        axes.legend()
    return figure


LAB = Lab(
    id=5,
    title=Bilingual("Greedy and beam search", "贪心搜索与束搜索"),
    claim=Bilingual(
        "Beam search keeps several candidates and so finds a better, more natural text than greedy search.",
        "束搜索同时保留多个候选，因此比贪心搜索得到更好、更自然的文本。",
    ),
    fixed=Bilingual(
        "The same model, prompts and number of new tokens for all widths.",
        "所有束宽使用同一模型、同一提示和同样的新词元数。",
    ),
    expected="qualified",
    checks=(
        Claim(
            "likelier",
            Bilingual("the widest beam finds likelier text than greedy search", "最宽的束找到的文本概率高于贪心搜索"),
            lambda n: n["logprob"][-1] > n["logprob"][0],
        ),
        Claim(
            "exhaustive",
            Bilingual(
                "a beam that can hold everything finds the best of all sequences",
                "束宽足够大时，得到的正是穷举的最优序列",
            ),
            lambda n: n["exhaustive_equal"] == 1,
        ),
        Claim(
            "width one",
            Bilingual("a beam of width 1 is greedy search", "束宽为 1 就是贪心搜索"),
            lambda n: n["width_1_is_greedy"] == 1,
        ),
        Limit(
            "degenerates",
            Bilingual(
                "likelier is not better: the text of the widest beam repeats itself far more than sampled text",
                "概率更高不等于更好：最宽束的文本比采样文本重复得多",
            ),
            lambda n: n["repetition"][-1] > n["sampled_repetition"] + 0.1,
        ),
    ),
    measure=measure,
    draw=draw,
    takes_model=True,
)
