"""How near a changed model stays to the one it was made from: what both predict, token by token, on a text.

Shapes: N scored positions, V vocabulary.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from cutaway.data.examples import Example
from cutaway.evaluate.perplexity import Perplexity, PerplexityConfig, scored, token_logits
from cutaway.models.decoder import check_decoder
from cutaway.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Closeness:
    """Two models on the same text.

    Args:
        before, after: how well each predicts it.
        divergence: KL divergence of the second's distributions from the first's, mean over tokens, in nats.
        agreement: share of tokens for which both find the same one the likeliest.
    """

    before: Perplexity
    after: Perplexity
    divergence: float
    agreement: float

    def numbers(self) -> dict[str, Any]:
        """For a report."""
        return {
            "tokens": self.before.tokens,
            "bytes": self.before.bytes,
            "perplexity": {"before": self.before.perplexity, "after": self.after.perplexity},
            "bits_per_byte": {"before": self.before.bits_per_byte, "after": self.after.bits_per_byte},
            "kl_divergence": self.divergence,
            "top_1_agreement": self.agreement,
        }


@torch.inference_mode()
def closeness(
    first: Any,
    second: Any,
    tokenizer: Tokenizer,
    examples: Iterable[Example],
    config: PerplexityConfig = PerplexityConfig(),
) -> Closeness:
    """Read `examples` with both models, as `perplexity` does.

    Raises:
        ConfigError: a model is no decoder.
        NothingSupervisedError: there is nothing to score.
    """
    for model in (first, second):
        check_decoder(model)
    tokens = size = same = 0
    before = after = divergence = 0.0
    for batch, n_bytes in scored(tokenizer, examples, min(first.context, second.context), config):
        size += n_bytes
        for (one, targets_N), (other, _) in zip(token_logits(first, batch), token_logits(second, batch), strict=True):
            p_NV, q_NV = one.log_softmax(-1), other.to(one.device).log_softmax(-1)
            tokens += len(targets_N)
            before -= float(p_NV.gather(-1, targets_N[:, None]).double().sum())
            after -= float(q_NV.gather(-1, targets_N[:, None]).double().sum())
            divergence += float((p_NV.exp() * (p_NV - q_NV)).sum(-1).double().sum())
            same += int((one.argmax(-1) == other.argmax(-1).to(one.device)).sum())
    pair = Perplexity(tokens, size, before), Perplexity(tokens, size, after)
    return Closeness(*pair, divergence / tokens, same / tokens)
