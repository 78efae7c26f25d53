"""The tokeniser inside a GGUF file, from the file's metadata."""

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models

from cutaway.core.errors import TokenizerError
from cutaway.text.load import as_template
from cutaway.text.sentencepiece_file import CONTROL, UNKNOWN, USER_DEFINED, bpe_from_scores
from cutaway.text.splitting import splitter
from cutaway.text.tokenizer import Tokenizer

PREFIX = "tokenizer.ggml."
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
    kind = metadata.get(PREFIX + "model")
    tokens = _list(metadata, "tokens", str)
    if not tokens:
        raise TokenizerError("the GGUF file holds no vocabulary", field=PREFIX + "tokens")
    types = _list(metadata, "token_type", int) or [1] * len(tokens)
    scores = _list(metadata, "scores", float) or [-float(n) for n in range(len(tokens))]
    for name, values in (("token_type", types), ("scores", scores)):
        if len(values) != len(tokens):
            raise TokenizerError(f"{len(values)} for {len(tokens)} tokens", field=PREFIX + name)
    if kind == "gpt2":
        backend = _byte_level(metadata, tokens, types)
    elif kind == "llama":
        prefix = bool(metadata.get(PREFIX + "add_space_prefix", True))
        backend = bpe_from_scores(tokens, scores, types, prefix=prefix)
    else:
        raise TokenizerError("unsupported", field=PREFIX + "model", value=kind, hint="known: gpt2, llama")

    def token(role: str) -> str | None:
        id = metadata.get(f"{PREFIX}{role}_token_id")
        if id is None:
            return None
        if not isinstance(id, int) or not 0 <= id < len(tokens):
            raise TokenizerError(f"is not among {len(tokens)} tokens", field=f"{PREFIX}{role}_token_id", value=id)
        return tokens[id]

    bos = token("bos")
    begins = kind == "llama" or metadata.get(PREFIX + "pre") in _BEGIN_WITH_BOS
    return Tokenizer(
        backend,
        bos=bos,
        eos=token("eos"),
        pad=token("padding"),
        unk=token("unknown"),
        chat_template=as_template(metadata.get("tokenizer.chat_template")),
        adds_bos=bos is not None and bool(metadata.get(PREFIX + "add_bos_token", begins)),
    )


def _list(metadata: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    """A list of the metadata, whose items are all of a kind; empty where there is none."""
    values = metadata.get(PREFIX + name)
    if values is not None and not (isinstance(values, list) and all(isinstance(value, kind) for value in values)):
        raise TokenizerError(f"must be a list of {kind.__name__}", field=PREFIX + name, value=values)
    return values or []


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], types: list[int]) -> tokenizers.Tokenizer:
    name = str(metadata.get(PREFIX + "pre", "default"))
    splitting = splitter(name, field=PREFIX + "pre")
    vocabulary = {token: id for id, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in _list(metadata, "merges", str)]
    try:
        backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=name in _WHOLE_WORDS))
    except Exception as err:  # the library raises bare exceptions
        raise TokenizerError(f"do not fit the vocabulary: {err}", field=PREFIX + "merges") from None
    backend.pre_tokenizer = splitting
    backend.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind in (UNKNOWN, CONTROL)]
    added = [token for token, kind in zip(tokens, types, strict=True) if kind == USER_DEFINED]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    return backend
