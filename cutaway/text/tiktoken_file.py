"""tiktoken rank files: one line per token, its bytes in base64 and its rank."""

import base64
import binascii
import itertools
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models

from cutaway.core.errors import TokenizerError
from cutaway.text.splitting import splitter
from cutaway.text.tokenizer import BYTE_CHARACTERS, Tokenizer

END_OF_TEXT = "<|endoftext|>"


def read_tiktoken(path: Path, pattern: str) -> Tokenizer:
    """A byte-level BPE tokeniser whose ids are the ranks; `<|endoftext|>` gets the first id after them."""
    ranks = _read_ranks(path)
    vocabulary = {_written(token): rank for token, rank in ranks.items()}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, _merges(ranks), ignore_merges=True))
    backend.pre_tokenizer = splitter(pattern, field="pattern")
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return Tokenizer(backend, bos=END_OF_TEXT, eos=END_OF_TEXT, pad=END_OF_TEXT)


def _read_ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise TokenizerError(
                f"line {number} is not base64 and a rank", field="tokenizer", value=str(path)
            ) from None
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise TokenizerError(f"has no token for {len(missing)} of the 256 bytes", field="tokenizer", value=str(path))
    return ranks


def _merges(ranks: dict[bytes, int]) -> list[tuple[str, str]]:
    """The merges behind the ranks: what a token falls into when only lower ranks may merge (its own rank comes last)."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            parts = _split(ranks, token, rank)
            if len(parts) == 2:
                merges.append((_written(parts[0]), _written(parts[1])))
    return merges


def _split(ranks: dict[bytes, int], token: bytes, below: int) -> list[bytes]:
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        candidates = [(ranks.get(a + b, below), i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
        best, i = min(candidates)
        if best >= below:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def _written(token: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in token)
