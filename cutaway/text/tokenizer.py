"""The tokeniser: one class, whatever file it came from.

The work is done by the `tokenizers` library; this class adds what a language model needs beside it: which ids begin and
end a text, which ids end a reply, the chat template, the exact bytes of every token, and text that is never mistaken for a
special token.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, pre_tokenizers

from cutaway.core.errors import TokenizerError
from cutaway.core.files import write_text

# Tokens that end a turn in the chat formats of the families we read; those that a tokeniser has end a reply.
END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|eom_id|>", "<end_of_turn>", "</s>")
WORD_START = "▁"
_WRONG_BYTES = dict.fromkeys(range(0xDC80, 0xDD00), "\ufffd")  # what `surrogateescape` makes of them


@dataclass(frozen=True)
class Piece:
    """A token in its text: characters `start` to `end` of what was encoded."""

    id: int
    text: str
    bytes: bytes
    start: int
    end: int
    special: bool


class Tokenizer:
    """Text to ids and back.

    Args:
        backend: the `tokenizers.Tokenizer` that does the work.
        bos, eos, pad, unk: the special tokens as they are written, where there are any.
        chat_template: a Jinja template over `messages`, where there is one.
        adds_bos: whether a document and a prompt begin with `bos`.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        unk: str | None = None,
        chat_template: str | None = None,
        adds_bos: bool = False,
    ):
        backend.no_padding()  # a file may ask for both; whoever makes batches decides
        backend.no_truncation()
        self.backend = backend
        self.chat_template = chat_template
        self.adds_bos = adds_bos
        self.tokens = {"bos": bos, "eos": eos, "pad": pad, "unk": unk}
        for role, token in self.tokens.items():
            if token is not None and backend.token_to_id(token) is None:
                raise TokenizerError("is not in the vocabulary", field=f"{role}_token", value=token)
        if adds_bos and bos is None:
            raise TokenizerError("the tokeniser shall add a BOS and has none", field="add_bos_token", value=True)
        self.special = {token.content: id for id, token in backend.get_added_tokens_decoder().items() if token.special}
        ends = {self.special[token] for token in END_OF_TURN if token in self.special}
        self.end_ids = frozenset(ends | ({self.eos_id} if self.eos_id is not None else set()))

    @functools.cached_property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self._vocabulary.values()) + 1

    @property
    def bos_id(self) -> int | None:
        """The id of the token that begins a text; None where there is none."""
        return self._id("bos")

    @property
    def eos_id(self) -> int | None:
        """The id of the token that ends a text; None where there is none."""
        return self._id("eos")

    @property
    def pad_id(self) -> int | None:
        """The id of the token that fills rows up; None where there is none."""
        return self._id("pad")

    @property
    def unk_id(self) -> int | None:
        """The id of the token that stands for what the vocabulary lacks; None where there is none."""
        return self._id("unk")

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text; nothing is added at its ends.

        Args:
            special: read special tokens that are written in the text as such. Off, they are ordinary text: what somebody
                writes can then never end a turn.

        Raises:
            TokenizerError: the text holds a lone surrogate, which stands for no character.
        """
        return self.encoding(text, special).ids

    def encoding(self, text: str, special: bool = False) -> tokenizers.Encoding:
        """The library's own result of `encode`: ids and offsets."""
        with _unicode_only():
            return (self.backend if special else self._plain).encode(text, add_special_tokens=False)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once, on all cores."""
        with _unicode_only():
            return [found.ids for found in self._plain.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of ids; bytes that are no whole character become U+FFFD, and ids without a token nothing.

        A vocabulary with byte tokens is decoded here, as SentencePiece does it: the library turns a whole run of bytes into
        U+FFFD when one of them is wrong, so that a cut character would take its whole neighbours along.
        """
        if self._leading_spaces is None:
            return self.backend.decode(list(ids), skip_special_tokens=skip_special)
        hidden = set(self.special.values()) if skip_special else ()
        data = b"".join(
            self.token_bytes(id) for id in ids if id not in hidden and self.backend.id_to_token(id) is not None
        )
        text = data.decode("utf-8", "surrogateescape").translate(_WRONG_BYTES)
        return text.removeprefix(" " * self._leading_spaces)

    def pieces(self, text: str, special: bool = False) -> list[Piece]:
        """Every token with its place in the text."""
        found = self.encoding(text, special)
        special_ids = set(self.special.values())
        return [
            Piece(id, self.token_text(id), self.token_bytes(id), start, end, id in special_ids)
            for id, (start, end) in zip(found.ids, found.offsets, strict=True)
        ]

    def has(self, id: int) -> bool:
        """Whether there is such a token: a model's vocabulary may be padded beyond its tokeniser's, whose ids may have gaps."""
        return self.backend.id_to_token(id) is not None

    def token_text(self, id: int) -> str:
        """A token as people read it: its bytes as UTF-8, with U+FFFD where they are no whole character."""
        return self.token_bytes(id).decode("utf-8", "replace")

    def token_bytes(self, id: int) -> bytes:
        """What a token stands for, byte for byte (a space before a word included).

        Raises:
            TokenizerError: there is no such token.
        """
        token = self.backend.id_to_token(id)
        if token is None:
            raise TokenizerError("no such token", field="id", value=id, hint=f"0 to {self.vocab_size - 1}")
        if token in self.special:
            return token.encode()
        if self.is_byte_level:
            return bytes(_BYTES[char] for char in token) if all(char in _BYTES for char in token) else token.encode()
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])
        if isinstance(self.backend.decoder, decoders.WordPiece):
            return token.removeprefix("##").encode()
        return token.replace(WORD_START, " ").encode()

    @property
    def is_byte_level(self) -> bool:
        """Whether tokens are runs of bytes, so that every text (and with a whole alphabet, every byte string) has ids."""
        return isinstance(self.backend.decoder, decoders.ByteLevel)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids whose `token_bytes` join to `data`, for any bytes: text is encoded as text, what is no UTF-8 byte by byte.

        Raises:
            TokenizerError: the tokeniser is not byte-level, or lacks a token for a byte.
        """
        if not self.is_byte_level:
            raise TokenizerError("only a byte-level tokeniser encodes arbitrary bytes", field="kind")
        ids: list[int] = []
        for text, raw in _utf8_runs(data):
            ids += self.encode(text) if text else [self._byte_id(byte) for byte in raw]
        return ids

    def _byte_id(self, byte: int) -> int:
        id = self._vocabulary.get(_CHARS[byte])
        if id is None:  # trained without the whole byte alphabet: SmolLM2 lacks bytes that UTF-8 never uses
            raise TokenizerError("the vocabulary has no token for this byte", field="byte", value=byte)
        return id

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes of ids."""
        return b"".join(self.token_bytes(id) for id in ids)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` (the Hugging Face layout) into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        config: dict[str, Any] = {f"{role}_token": token for role, token in self.tokens.items() if token is not None}
        config["add_bos_token"] = self.adds_bos
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        write_text(folder / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=2))

    @functools.cached_property
    def _leading_spaces(self) -> int | None:
        """How many spaces decoding takes from the front, for a decoder like SentencePiece's with byte tokens; else None."""
        if not isinstance(self.backend.decoder, decoders.Sequence):
            return None
        steps = {step["type"]: step for step in json.loads(self.backend.decoder.__getstate__())["decoders"]}
        if "ByteFallback" not in steps or set(steps) - {"Replace", "ByteFallback", "Fuse", "Strip"}:
            return None
        return steps["Strip"]["start"] if "Strip" in steps else 0

    def _id(self, role: str) -> int | None:
        token = self.tokens[role]
        return None if token is None else self.backend.token_to_id(token)

    @functools.cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """A copy that reads special tokens written in a text as ordinary text.

        The library has a switch for that; threads encode at the same time, so nothing is switched while one may be reading.
        """
        plain = tokenizers.Tokenizer.from_str(self.backend.to_str())
        plain.encode_special_tokens = True
        return plain

    @functools.cached_property
    def _vocabulary(self) -> dict[str, int]:
        return self.backend.get_vocab(with_added_tokens=True)


@contextmanager
def _unicode_only() -> Iterator[None]:
    """Say in words what the library makes of a lone surrogate (from JSON, or bytes of a terminal that are no UTF-8)."""
    try:
        yield
    except TypeError:
        raise TokenizerError("holds a lone surrogate, which stands for no character", field="text") from None


def _utf8_runs(data: bytes) -> Iterable[tuple[str, bytes]]:
    """Split bytes into runs that are UTF-8 (as text) and runs that are not (as bytes)."""
    while data:
        try:
            yield data.decode("utf-8"), b""
            return
        except UnicodeDecodeError as err:
            if err.start:
                yield data[: err.start].decode("utf-8"), b""
            yield "", data[err.start : err.end]
            data = data[err.end :]


def _byte_characters() -> dict[int, str]:
    """The printable character that byte-level BPE writes for each byte (Radford et al. 2019).

    Printable Latin-1 bytes are written as themselves; the others, in order, as the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + n) for n, byte in enumerate(others)}


_CHARS = _byte_characters()
_BYTES = {char: byte for byte, char in _CHARS.items()}
assert set(_BYTES) == set(pre_tokenizers.ByteLevel.alphabet())
BYTE_CHARACTERS = _CHARS
