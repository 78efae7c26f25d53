"""Train a tokeniser on the user's files: byte-level BPE, WordPiece or Unigram.

The trainers are those of the `tokenizers` library, with the conventions that each kind is used with. Training is deterministic:
texts are counted in the order given, and ties break by the library's own order.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import tokenizers
from pydantic import Field
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from cutaway.core.config import Config
from cutaway.core.errors import DataError
from cutaway.text.splitting import splitter
from cutaway.text.tokenizer import WORD_START, Tokenizer

Kind = Literal["bpe", "wordpiece", "unigram"]


class TrainTokenizerConfig(Config):
    """How a tokeniser is made."""

    kind: Kind = "bpe"
    vocab_size: int = Field(8192, ge=260, description="tokens, special ones included")
    split: str = Field("cl100k", description="bpe: how text is cut into words (text.splitting)")
    lowercase: bool = Field(False, description="wordpiece: forget case and accents, as BERT uncased does")
    bos: str | None = Field("<|endoftext|>", description="bpe and unigram: begins a document (only with adds_bos)")
    eos: str = Field("<|endoftext|>", description="bpe and unigram: ends a document")
    adds_bos: bool = False
    extra: tuple[str, ...] = Field(
        ("<|im_start|>", "<|im_end|>"), description="bpe and unigram: further special tokens"
    )
    min_frequency: int = Field(2, ge=1, description="pairs seen less often do not merge")
    max_piece: int = Field(16, ge=1, description="unigram: characters of the longest piece")


def train_tokenizer(texts: Iterable[str], config: TrainTokenizerConfig) -> Tokenizer:
    """Train on texts.

    Raises:
        DataError: there is no text.
    """
    counted = _Counted(texts)
    if config.kind == "wordpiece":
        tokenizer = _wordpiece(counted, config)
    elif config.kind == "unigram":
        tokenizer = _unigram(counted, config)
    else:
        tokenizer = _bpe(counted, config)
    if not counted.characters:
        raise DataError("holds no text to train a tokeniser on", field="data")
    return tokenizer


def read_texts(files: Iterable[Path]) -> Iterator[str]:
    """Lines of UTF-8 files, one at a time.

    Raises:
        DataError: missing, empty, binary or not UTF-8, with the place.
    """
    for file in files:
        place = 0
        try:
            with file.open("rb") as opened:
                for number, line in enumerate(opened, 1):
                    if b"\0" in line:
                        raise DataError(f"is binary (a zero byte in line {number})", field="data", value=str(file))
                    try:
                        yield line.decode("utf-8")
                    except UnicodeDecodeError as err:
                        raise DataError(
                            f"is not UTF-8: byte {place + err.start} in line {number}", field="data", value=str(file)
                        ) from None
                    place += len(line)
        except FileNotFoundError:
            raise DataError("no such file", field="data", value=str(file)) from None
        except IsADirectoryError:
            raise DataError("is a folder", field="data", value=str(file)) from None
        except PermissionError:
            raise DataError("may not be read (no permission)", field="data", value=str(file)) from None
        if not place:
            raise DataError("is empty", field="data", value=str(file))


class _Counted:
    """Passes texts on and counts their characters."""

    def __init__(self, texts: Iterable[str]):
        self._texts, self.characters = texts, 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.characters += len(text)
            yield text


def _special(config: TrainTokenizerConfig) -> list[AddedToken]:
    names = dict.fromkeys(name for name in (config.bos, config.eos, *config.extra) if name)
    return [AddedToken(name, special=True, normalized=False) for name in names]


def _bpe(texts: Iterable[str], config: TrainTokenizerConfig) -> Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019). The 256 bytes are always tokens: nothing is unknown."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = splitter(config.split)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=_special(config),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend, bos=config.bos, eos=config.eos, pad=config.eos, adds_bos=config.adds_bos)


def _wordpiece(texts: Iterable[str], config: TrainTokenizerConfig) -> Tokenizer:
    """WordPiece as BERT uses it (Schuster & Nakajima 2012; Devlin et al. 2019); characters never seen become [UNK]."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocab_size, min_frequency=config.min_frequency, special_tokens=names, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend, bos="[CLS]", eos="[SEP]", pad="[PAD]", unk="[UNK]", adds_bos=config.adds_bos)


def _unigram(texts: Iterable[str], config: TrainTokenizerConfig) -> Tokenizer:
    """Unigram (Kudo 2018) in SentencePiece's style: text as it stands, spaces as ▁, NFKC; characters never seen become <unk>."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(WORD_START, prepend_scheme="always")
    backend.decoder = decoders.Metaspace(WORD_START, prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[AddedToken("<unk>", special=True, normalized=False), *_special(config)],
        unk_token="<unk>",
        max_piece_length=config.max_piece,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend, bos=config.bos, eos=config.eos, pad=config.eos, unk="<unk>", adds_bos=config.adds_bos)
