"""What must be equal in scoring and generation, examined with the parts that serve."""

from typing import Any

import torch

from cutaway.decode.sampling import GREEDY, Sampling
from cutaway.evaluate.check import Check, close
from cutaway.evaluate.perplexity import PerplexityConfig, perplexity, token_losses
from cutaway.evaluate.subject import Subject
from cutaway.infer.engine import Engine, EngineConfig
from cutaway.infer.request import Output, Request
from cutaway.text.detokenize import Detokenizer

TOLERANCE = 1e-3  # nats, float32
_NEW = 12  # tokens to generate


def padding(subject: Subject) -> Check:
    """Rows of a padded batch against each alone."""
    model, pieces = subject.loaded.model, subject.pieces
    together = token_losses(model, subject.padded(pieces))
    alone = torch.cat([token_losses(model, subject.padded([piece])) for piece in pieces])
    lengths = [len(ids) - 1 for ids, _ in pieces]
    says = f"losses of tokens (nats), {len(pieces)} rows padded to one width against each alone"
    gap = float((together - alone).abs().max())
    return close("padded batch equals single", gap, TOLERANCE, says, lengths=lengths)


def batch_size(subject: Subject) -> Check:
    """The perplexity that `cutaway evaluate` gives, at several batch sizes."""
    model, tokenizer, examples = subject.loaded.model, subject.loaded.tokenizer, subject.examples[:4]
    losses = {
        rows: perplexity(model, tokenizer, examples, PerplexityConfig(window=32, stride=16, rows=rows)).loss
        for rows in (1, 3, 8)
    }
    gap = max(losses.values()) - min(losses.values())
    says = "loss per token (nats) of cutaway evaluate with 1, 3 and 8 windows at once"
    return close(
        "scores do not depend on batch size", gap, TOLERANCE, says, losses={str(k): v for k, v in losses.items()}
    )


def caching(subject: Subject) -> Check:
    """Tokens that the engine generates, with its cache and several at once, against the model reading everything anew."""
    prompts, model = subject.prompts, subject.loaded.model
    engine = Engine(subject.loaded, EngineConfig(max_batch=len(prompts), context=_context(subject), prefill_chunk=8))
    completions = engine.generate(prompts, GREEDY, _NEW, logprobs=1, ignore_end=True)
    gaps, likeliest = [], []
    for prompt, completion in zip(prompts, completions, strict=True):
        logprobs_TV = _logprobs(model, [*prompt, *completion.ids[:-1]])[len(prompt) - 1 :]
        for row_V, found in zip(logprobs_TV, completion.logprobs, strict=True):
            gaps.append(abs(float(row_V[found.id]) - found.logprob))
            likeliest.append(float(row_V.max() - row_V[found.id]))
    says = (
        f"log-probabilities (nats) of {len(prompts)} × {_NEW} tokens generated greedily together with the cache, against "
        "one pass without; and that each is the likeliest there too"
    )
    return close("cached equals uncached", max([*gaps, *likeliest]), TOLERANCE, says, tokens=len(gaps))


def streaming(subject: Subject) -> Check:
    """Text as it is streamed against all ids decoded at once."""
    tokenizer = subject.loaded.tokenizer
    engine = Engine(subject.loaded, EngineConfig(max_batch=len(subject.prompts), context=_context(subject)))
    outputs: dict[str, list[Output]] = {}
    for number, prompt in enumerate(subject.prompts):
        id = engine.add(Request(prompt, Sampling(temperature=1.5, seed=number), _NEW, ignore_end=True))
        outputs[id] = []
    while not engine.idle:
        for output in engine.step():
            outputs[output.request_id].append(output)
    pairs = []
    for found in outputs.values():
        ids = [one.token_id for one in found if one.token_id is not None]
        pairs.append(("".join(one.text for one in found), tokenizer.decode(ids)))
    for example in subject.examples:
        detokenizer, ids = Detokenizer(tokenizer), example.ids.tolist()
        pairs.append(("".join(map(detokenizer.push, ids)) + detokenizer.flush(), tokenizer.decode(ids)))
    different = [{"streamed": a, "whole": b} for a, b in pairs if a != b]
    says = "text of the engine's streams, and of the data's tokens pushed one by one, against decoding all at once"
    return Check("streamed equals whole", not different, {"texts": len(pairs), "different": different[:3]}, 0.0, says)


@torch.inference_mode()
def _logprobs(model: Any, ids: list[int]) -> torch.Tensor:
    h_1TD = model(torch.tensor([ids], device=model.embedding.weight.device))
    return model.logits(h_1TD[0]).float().log_softmax(-1).cpu()


def _context(subject: Subject) -> int:
    return min(subject.loaded.model.context, max(map(len, subject.prompts)) + _NEW + 1)
