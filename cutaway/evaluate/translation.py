"""Targets for many sources, and how near they are to references (sacreBLEU: Post 2018; ROUGE: Lin 2004)."""

from collections.abc import Sequence
from typing import Any, Literal

import regex
from pydantic import Field

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError
from cutaway.core.progress import Progress
from cutaway.data.units import unspaced
from cutaway.decode.beam import Beam
from cutaway.evaluate.error_rates import error_rates
from cutaway.evaluate.rouge import rouge
from cutaway.infer.translate import translate
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.load import Loaded
from cutaway.models.target_rules import read_target_rules


class TranslateConfig(Config):
    """How targets are searched for."""

    beam: Beam = Beam(width=5)
    max_tokens: int = Field(128, ge=1, description="of a target, at most; no more than the model's context")
    rows: int = Field(32, ge=1, description="sources translated together")


def translate_texts(loaded: Loaded, sources: Sequence[str], config: TranslateConfig) -> list[str]:
    """The best target of every source, in the order of the sources. An empty source gives an empty target.

    Raises:
        ConfigError: the model is no encoder-decoder, or reads no text.
        CheckpointError: its folder states rules for targets that cannot be.
        ContextLengthError: a source is longer than the model's context.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    if not isinstance(model, EncoderDecoder):
        raise ConfigError(
            "is no encoder-decoder", field="model", value=loaded.name, hint="one trained by cutaway seq2seq"
        )
    if model.SOURCE != "text":
        raise ConfigError(f"reads {model.SOURCE}, not text", field="model", value=loaded.name)
    rules = read_target_rules(loaded.source, model.embedding.num_embeddings)
    end = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    ids = [[*found, *end] if found else [] for found in tokenizer.encode_batch(list(sources))]
    order = sorted((i for i in range(len(ids)) if ids[i]), key=lambda i: len(ids[i]))
    targets = [""] * len(ids)
    limit = min(config.max_tokens, model.context)
    with Progress("translating", len(order), "source") as progress:
        for start in range(0, len(order), config.rows):
            some = order[start : start + config.rows]
            found = translate(
                model, [ids[i] for i in some], config.beam, set(end), model.config.decoder_start_token_id, limit, rules
            )
            for i, hypotheses in zip(some, found, strict=True):
                targets[i] = tokenizer.decode(hypotheses[0].ids).strip()
            progress.advance(len(some))
    return targets


def bleu_words(references: Sequence[str]) -> Literal["13a", "zh", "char"]:
    """What sacreBLEU should call a word: 13a parts at spaces; zh makes each Chinese character one, and leaves kana together, so
    that Japanese gets char.
    """
    text = "".join(references)
    if not unspaced(text):
        return "13a"
    return "char" if regex.search(r"[\p{Hiragana}\p{Katakana}]", text) else "zh"


def score(targets: Sequence[str], references: Sequence[str], spoken: bool = False) -> dict[str, Any]:
    """BLEU, chrF and ROUGE of a whole set, 0 to 100, and the signature that says how BLEU was computed.

    Args:
        spoken: the targets are transcripts; their error rates come first.
    """
    from sacrebleu.metrics import BLEU, CHRF

    bleu, chrf = BLEU(tokenize=bleu_words(references)), CHRF()
    return {
        **{kind: round(value, 2) for kind, value in (error_rates(targets, references) if spoken else {}).items()},
        "bleu": round(bleu.corpus_score(list(targets), [list(references)]).score, 2),
        "chrf": round(chrf.corpus_score(list(targets), [list(references)]).score, 2),
        **{kind: round(value, 2) for kind, value in rouge(targets, references).items()},
        "signature": str(bleu.get_signature()),
    }
