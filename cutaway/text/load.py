"""Read a tokeniser from whatever it was saved as: a Hugging Face folder, tokenizer.json, SentencePiece, tiktoken ranks."""

import json
from pathlib import Path
from typing import Any

import tokenizers

from cutaway.core.errors import TokenizerError
from cutaway.text.sentencepiece_file import read_sentencepiece
from cutaway.text.tiktoken_file import read_tiktoken
from cutaway.text.tokenizer import Tokenizer


def load_tokenizer(path: Path, *, pattern: str = "gpt2") -> Tokenizer:
    """Load a tokeniser.

    Args:
        path: a folder, a `.json` (tokenizer.json), a `.model` (SentencePiece) or a `.tiktoken` rank file.
        pattern: how text is split into words, for a rank file, which does not say (`splitting.py` has the names).

    Raises:
        TokenizerError: no such file, or it is not what its name says.
    """
    if path.is_dir():
        return _load_folder(path)
    if not path.is_file():
        raise TokenizerError("no such file", field="tokenizer", value=str(path))
    match path.suffix:
        case ".json":
            return _guess_roles(_read_json(path))
        case ".model":
            return read_sentencepiece(path)
        case ".tiktoken" | ".bpe":
            return read_tiktoken(path, pattern)
    raise TokenizerError(
        "unknown kind of file", field="tokenizer", value=str(path), hint="a folder, .json, .model or .tiktoken"
    )


def as_template(value: Any) -> str | None:
    """The chat template in a model's files: one, or a list of named ones of which `default` counts.

    Raises:
        TokenizerError: it is neither.
    """
    if isinstance(value, list):
        named = [item for item in value if isinstance(item, dict) and item.get("name") == "default"]
        value = named[0].get("template") if named else None
    if value is not None and not isinstance(value, str):
        raise TokenizerError("must be text", field="chat_template", value=value)
    return value


def _load_folder(folder: Path) -> Tokenizer:
    if (folder / "tokenizer.json").is_file():
        backend = _read_json(folder / "tokenizer.json")
    elif (folder / "tokenizer.model").is_file():
        backend = read_sentencepiece(folder / "tokenizer.model").backend
    else:
        raise TokenizerError("holds neither tokenizer.json nor tokenizer.model", field="tokenizer", value=str(folder))
    config = _read_object(folder / "special_tokens_map.json") | _read_object(folder / "tokenizer_config.json")
    roles = {role: _token(config.get(f"{role}_token")) for role in ("bos", "eos", "pad", "unk")}
    present = {role: token for role, token in roles.items() if token and backend.token_to_id(token) is not None}
    if not present:
        present = {role: token for role, token in _guess_roles(backend).tokens.items() if token}
    template = folder / "chat_template.jinja"
    return Tokenizer(
        backend,
        **present,
        chat_template=_read_text(template) if template.is_file() else as_template(config.get("chat_template")),
        adds_bos=bool(present.get("bos"))
        and config.get("add_bos_token", _adds_bos(backend, present.get("bos"))) is True,
    )


def _read_json(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as err:  # the library raises bare exceptions
        raise TokenizerError(f"is not a tokenizer.json: {err}", field="tokenizer", value=str(path)) from None


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path))
    except ValueError as err:
        raise TokenizerError(f"is not JSON: {err}", field="tokenizer", value=str(path)) from None
    return value if isinstance(value, dict) else {}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise TokenizerError(f"cannot be read: {err}", field="tokenizer", value=str(path)) from None


def _token(value: Any) -> str | None:
    """A special token is written as a string or as an object with its content."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _adds_bos(backend: tokenizers.Tokenizer, bos: str | None) -> bool:
    """Whether the file's own post-processing puts BOS first, when the configuration does not say."""
    ids = backend.encode("a", add_special_tokens=True).ids
    return bos is not None and len(ids) > 1 and ids[0] == backend.token_to_id(bos)


def _guess_roles(backend: tokenizers.Tokenizer) -> Tokenizer:
    """A bare tokenizer.json names no roles; the usual spellings are looked for."""
    usual = {
        "bos": ("<s>", "<|begin_of_text|>", "<|im_start|>", "<|endoftext|>", "[CLS]"),
        "eos": ("</s>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "[SEP]"),
        "pad": ("<pad>", "[PAD]", "<|pad|>", "<|endoftext|>"),
        "unk": ("<unk>", "[UNK]"),
    }
    present = {
        role: next((token for token in tokens if backend.token_to_id(token) is not None), None)
        for role, tokens in usual.items()
    }
    return Tokenizer(backend, **present, adds_bos=_adds_bos(backend, present["bos"]))
