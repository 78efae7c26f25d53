"""A tokeniser as the metadata of a GGUF file; `gguf` reads it back, and llama.cpp does."""

import json
from typing import Any

from cutaway.core.errors import TokenizerError
from cutaway.text.gguf import PREFIX, tokenizer_from_gguf
from cutaway.text.sentencepiece_file import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from cutaway.text.splitting import splitter
from cutaway.text.tokenizer import WORD_START, Tokenizer

# llama.cpp's names for ways of splitting; llama-bpe takes words of the vocabulary whole, dbrx splits alike and does not.
_SPLITS = (
    *("gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "qwen35", "gpt-4o", "tekken"),
    *("deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "viking"),
)
PROBE = (
    "Don't we'LL SHE'S 3 12 1234 1234567 camelCaseWord HTTPServer naïve e\u0301 x_1=y/2; //\n//\r\n\n  if (a<b) {}\t\t go !!\n"
    "你好，世界！今天天气很好。 ありがとう สวัสดีครับ नमस्ते मुझे Привет, мир… «да» 🙂👍🏽 a.b,c; $5.00+10%  end   \n \n  "
)
"""A text that every way of splitting cuts otherwise."""


def gguf_from_tokenizer(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """The keys `tokenizer.*`. Text that is to be normalised to NFC first is not: GGUF has no word for it.

    Args:
        vocab_size: the model's embeddings; those beyond the tokeniser's get names that no text has.

    Raises:
        TokenizerError: it is no BPE, or GGUF knows no name for how it splits text.
    """
    model = json.loads(tokenizer.backend.to_str())["model"]
    if model["type"] != "BPE":
        raise TokenizerError("GGUF holds BPE alone", field="tokenizer", value=model["type"])
    tokens = [tokenizer.backend.id_to_token(id) for id in range(vocab_size)]
    types = [_type(tokenizer, id, token) for id, token in enumerate(tokens)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    values: dict[str, Any] = {
        "tokens": [f"[PAD{id}]" if token is None else token for id, token in enumerate(tokens)],
        "token_type": types,
        **{f"{role}_token_id": id for role, id in _roles(tokenizer).items() if id is not None},
        "add_bos_token": tokenizer.adds_bos,
    }
    if tokenizer.is_byte_level:
        values |= {"model": "gpt2", "pre": _split(tokenizer, bool(model.get("ignore_merges"))), "merges": merges}
    else:
        prefix = tokenizer.encoding("a").tokens[0].startswith(WORD_START)
        values |= {"model": "llama", "scores": _scores(values["tokens"], merges), "add_space_prefix": prefix}
    metadata = {PREFIX + name: value for name, value in values.items()}
    if tokenizer.chat_template is not None:
        metadata["tokenizer.chat_template"] = tokenizer.chat_template
    if tokenizer_from_gguf(metadata).encode(PROBE) != tokenizer.encode(PROBE):
        raise TokenizerError("would read text otherwise from a GGUF file", field="tokenizer", value=model["type"])
    return metadata


def _roles(tokenizer: Tokenizer) -> dict[str, int | None]:
    ids = (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id)
    return dict(zip(("bos", "eos", "padding", "unknown"), ids, strict=True))


def _type(tokenizer: Tokenizer, id: int, token: str | None) -> int:
    if token is None:
        return UNUSED
    added = tokenizer.backend.get_added_tokens_decoder().get(id)
    if added is not None:
        unknown = id == tokenizer.unk_id and not tokenizer.is_byte_level
        return (UNKNOWN if unknown else CONTROL) if added.special else USER_DEFINED
    is_byte = not tokenizer.is_byte_level and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return BYTE if is_byte else NORMAL


def _split(tokenizer: Tokenizer, whole_words: bool) -> str:
    def cuts(splitting: Any) -> Any:
        return splitting.pre_tokenize_str(PROBE) if splitting is not None else None

    wanted = cuts(tokenizer.backend.pre_tokenizer)
    for name in _SPLITS:
        if cuts(splitter(name)) == wanted and (name, whole_words) not in (("llama-bpe", False), ("dbrx", True)):
            return name
    raise TokenizerError("splits text in a way that GGUF has no name for", field="tokenizer")


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """SentencePiece's order of pieces from the order of merges: the earlier a piece is first built, the better."""
    first: dict[str, int] = {}
    for merge in merges:
        first.setdefault(merge.replace(" ", "", 1), len(first))
    return [-float(first.get(token, len(first))) for token in tokens]
