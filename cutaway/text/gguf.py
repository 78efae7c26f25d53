"""The tokeniser inside a GGUF file, from the file's metadata."""

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models

from cutaway.core.errors import TokenizerError
from cutaway.text.sentencepiece_file import CONTROL, UNKNOWN, USER_DEFINED, bpe_from_scores
from cutaway.text.splitting import splitter
from cutaway.text.tokenizer import Tokenizer

_PREFIX = "tokenizer.ggml."
# llama.cpp's defaults by pre-tokeniser: texts that begin with BOS when the file does not say; vocabularies that hold words which
# their merges never build, to be taken whole.
_BEGIN_WITH_BOS = frozenset(
    ["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken"]
)
_WHOLE_WORDS = _BEGIN_WITH_BOS | {"glm4"}


def tokenizer_from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """Build the tokeniser that `tokenizer.ggml.*` describes: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).

    Raises:
        TokenizerError: the vocabulary is missing, of another kind, split in an unknown way, or does not fit together.
    """
    kind = metadata.get(_PREFIX + "model")
    tokens = metadata.get(_PREFIX + "tokens")
    if not tokens:
        raise TokenizerError("the GGUF file holds no vocabulary", field=_PREFIX + "tokens")
    types = metadata.get(_PREFIX + "token_type") or [1] * len(tokens)
    if len(types) != len(tokens):
        raise TokenizerError(f"{len(types)} types for {len(tokens)} tokens", field=_PREFIX + "token_type")
    if kind == "gpt2":
        backend = _byte_level(metadata, tokens, types)
    elif kind == "llama":
        scores = metadata.get(_PREFIX + "scores") or [-float(n) for n in range(len(tokens))]
        prefix = bool(metadata.get(_PREFIX + "add_space_prefix", True))
        backend = bpe_from_scores(tokens, scores, types, prefix=prefix)
    else:
        raise TokenizerError("unsupported", field=_PREFIX + "model", value=kind, hint="known: gpt2, llama")

    def token(role: str) -> str | None:
        id = metadata.get(f"{_PREFIX}{role}_token_id")
        if id is None:
            return None
        if not 0 <= id < len(tokens):
            raise TokenizerError(f"is not among {len(tokens)} tokens", field=f"{_PREFIX}{role}_token_id", value=id)
        return tokens[id]

    bos = token("bos")
    begins = kind == "llama" or metadata.get(_PREFIX + "pre") in _BEGIN_WITH_BOS
    return Tokenizer(
        backend,
        bos=bos,
        eos=token("eos"),
        pad=token("padding"),
        unk=token("unknown"),
        chat_template=metadata.get("tokenizer.chat_template"),
        adds_bos=bos is not None and bool(metadata.get(_PREFIX + "add_bos_token", begins)),
    )


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], types: list[int]) -> tokenizers.Tokenizer:
    name = str(metadata.get(_PREFIX + "pre", "default"))
    splitting = splitter(name, field=_PREFIX + "pre")
    vocabulary = {token: id for id, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.get(_PREFIX + "merges") or []]
    try:
        backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=name in _WHOLE_WORDS))
    except Exception as err:  # the library raises bare exceptions
        raise TokenizerError(f"do not fit the vocabulary: {err}", field=_PREFIX + "merges") from None
    backend.pre_tokenizer = splitting
    backend.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind in (UNKNOWN, CONTROL)]
    added = [token for token, kind in zip(tokens, types, strict=True) if kind == USER_DEFINED]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    return backend
