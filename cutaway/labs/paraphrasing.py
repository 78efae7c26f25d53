"""Translators of the small language: into one that has a single word for each class of words, and back.

What comes back says the same in other words, as a translation there and back of a real text does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cutaway.data.augment import Translate
from cutaway.data.examples import Skipped
from cutaway.data.pairs import collate_pairs, encode
from cutaway.data.rows import RowStream
from cutaway.decode.beam import Beam
from cutaway.infer.translate import translate
from cutaway.labs.fit import fit
from cutaway.models.families import make_model
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer
from cutaway.train.objectives import seq2seq_lm

LONGEST = 64  # tokens of a side


def foreign(text: str, synonyms: Mapping[str, Sequence[str]]) -> str:
    """A text in the other language: each word spelt backwards, and of each class its first word only.

    >>> foreign(" boats of red", {"boat": ["raft"], "boats": ["rafts"], "red": ["old"]})
    ' staob fo dlo'
    """
    return "".join(f" {min([word, *synonyms.get(word, ())])[::-1]}" for word in text.split())


def translators(
    texts: Sequence[str], synonyms: Mapping[str, Sequence[str]], steps: int, seed: int
) -> tuple[Translate, Translate]:
    """There and back, each learned from the texts and their translations."""
    pairs = [(text, foreign(text, synonyms)) for text in texts]
    config = TrainTokenizerConfig(vocab_size=1024, adds_bos=True)
    tokenizer = train_tokenizer([side for pair in pairs for side in pair], config)
    return learned(pairs, tokenizer, steps, seed), learned([(b, a) for a, b in pairs], tokenizer, steps, seed)


def learned(pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer, steps: int, seed: int) -> Translate:
    """A small Transformer that has learned the pairs; it writes the likeliest token each time."""
    torch.manual_seed(seed)
    start, end, pad = tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id or 0
    assert start is not None
    assert end is not None
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_encoder_layers": 1, "num_decoder_layers": 1}
    rest = {"max_position_embeddings": LONGEST, "norm": "pre", "dropout": 0.0, "decoder_start_token_id": start}
    model: Any = make_model({"model_type": "transformer", "vocab_size": tokenizer.vocab_size, **shape, **rest})
    rows = encode([*enumerate(pairs, 1)], tokenizer, LONGEST, Skipped())
    batches = RowStream(
        rows, lambda some, drawn: collate_pairs(some, start, pad), 32, seed, lambda row: len(row.source)
    )
    fit(model, seq2seq_lm, batches, steps, lr=4e-3)

    def translated(some: list[str]) -> list[str]:
        sources = [[*ids, end] for ids in tokenizer.encode_batch(some)]
        found = translate(model, sources, Beam(width=1), [end], start, LONGEST - 1)
        return [tokenizer.decode(best[0].ids) for best in found]

    return translated
