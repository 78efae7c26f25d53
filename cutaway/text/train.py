"""Train a tokeniser on the user's files: byte-level BPE, WordPiece or Unigram.

The same texts and settings give the same tokeniser, byte for byte. Two libraries do the counting: `tokenizers` for BPE and
WordPiece, `sentencepiece` for Unigram (the Unigram trainer of `tokenizers` sums in the order of a hash table, which differs
from run to run).
"""

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import tokenizers
from pydantic import Field
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from cutaway.core.config import Config
from cutaway.core.errors import ConfigError, DataError
from cutaway.text.sentencepiece_file import sentencepiece_tokenizer
from cutaway.text.splitting import splitter
from cutaway.text.tokenizer import Tokenizer

Kind = Literal["bpe", "wordpiece", "unigram"]
PART = 100_000  # characters


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
    character_coverage: float = Field(
        0.9995,
        ge=0.98,
        le=1.0,
        description="wordpiece and unigram: share of the characters that get a token of their own",
    )
    byte_fallback: bool = Field(True, description="unigram: other characters become their bytes instead of <unk>")
    sample: int = Field(
        30_000_000,
        ge=100_000,
        description="unigram: characters to learn from (20 bytes of memory each); of more text, lines spread evenly over it",
    )
    max_piece: int = Field(16, ge=1, le=512, description="unigram: characters of the longest piece")


def train_tokenizer(texts: Iterable[str], config: TrainTokenizerConfig) -> Tokenizer:
    """Train on texts. A small text may give fewer tokens than `vocab_size`.

    Args:
        texts: read once, for WordPiece twice (an iterator is then kept in memory). What is kept of them is their distinct words,
            for Unigram `sample` characters.

    Raises:
        DataError: there is no text.
        ConfigError: `vocab_size` is smaller than the alphabet of the texts.
    """
    counted = _Counted(list(texts) if config.kind == "wordpiece" and iter(texts) is texts else texts)
    if config.kind == "wordpiece":
        tokenizer = _wordpiece(counted, config)
    elif config.kind == "unigram":
        tokenizer = _unigram(counted, config)
    else:
        tokenizer = _bpe(counted, config)
    if not counted.characters:
        raise DataError("holds no text to train a tokeniser on", field="data")
    return tokenizer


class _Counted:
    """Passes texts on, long ones in parts (the library holds 256 at a time), and counts their characters."""

    def __init__(self, texts: Iterable[str]):
        self._texts, self.characters = texts, 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.characters += len(text)
            yield from _parts(text)


def _parts(text: str) -> Iterator[str]:
    """A text in parts of at most `PART` characters, cut at line ends where there are any."""
    start = 0
    while len(text) - start > PART:
        stop = text.rfind("\n", start, start + PART) + 1 or start + PART
        yield text[start:stop]
        start = stop
    yield text[start:]


def _special(config: TrainTokenizerConfig) -> list[AddedToken]:
    names = dict.fromkeys(name for name in (config.bos, config.eos, *config.extra) if name)
    return [AddedToken(name, special=True, normalized=False) for name in names]


def _bpe(texts: Iterable[str], config: TrainTokenizerConfig) -> Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019). The 256 bytes are always tokens: nothing is unknown."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = splitter(config.split, field="split")
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=_special(config),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend, bos=config.bos, eos=config.eos, pad=config.eos, adds_bos=config.adds_bos)


def _wordpiece(texts: Iterable[str], config: TrainTokenizerConfig) -> Tokenizer:
    """WordPiece as BERT uses it (Devlin et al. 2019); characters that are not covered become [UNK].

    Pieces are chosen by frequency, as `tokenizers` does, not by the likelihood gain of Schuster & Nakajima 2012. Its trainer
    numbers the `##` pieces in the order of a hash table, on which ties depend; here it is given them in order, as special tokens.
    """
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    splitting = pre_tokenizers.BertPreTokenizer()
    alphabet, rare = _wordpiece_alphabet(texts, config.character_coverage, normalizer, splitting)
    if len(names) + len(alphabet) > config.vocab_size:
        raise _too_small(config, f"{len(names) + len(alphabet)} or more")
    training = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    training.pre_tokenizer = splitting
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[*names, *alphabet],
        show_progress=False,
    )
    blank = dict.fromkeys(map(ord, rare), " ")
    training.train_from_iterator((normalizer.normalize_str(text).translate(blank) for text in texts), trainer)
    backend = tokenizers.Tokenizer(models.WordPiece(training.get_vocab(), unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitting
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return Tokenizer(backend, bos="[CLS]", eos="[SEP]", pad="[PAD]", unk="[UNK]", adds_bos=config.adds_bos)


def _wordpiece_alphabet(
    texts: Iterable[str],
    coverage: float,
    normalizer: normalizers.Normalizer,
    splitting: pre_tokenizers.PreTokenizer,
) -> tuple[list[str], set[str]]:
    """The pieces of one character that cover the texts, sorted; and the characters left out."""
    counts: Counter[str] = Counter()
    inside: set[str] = set()  # seen after the first character of a word
    for text in texts:
        for word, _ in splitting.pre_tokenize_str(normalizer.normalize_str(text)):
            counts.update(word)
            inside.update(word[1:])
    wanted, covered, kept = coverage * counts.total(), 0, set()
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= wanted:
            break
        kept.add(character)
        covered += count
    return sorted(kept) + sorted("##" + character for character in kept & inside), set(counts) - kept


def _unigram(texts: Iterable[str], config: TrainTokenizerConfig) -> Tokenizer:
    """Unigram (Kudo 2018) by SentencePiece; text is taken as it stands, so that it decodes to itself."""
    import sentencepiece

    file = io.BytesIO()
    lines = _spread((line for text in texts for line in text.splitlines() if line.strip()), config.sample)
    if not lines:  # the library's own complaint would not name the mistake
        raise DataError("holds no text to train a tokeniser on", field="data")
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            model_type="unigram",
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            max_sentencepiece_length=config.max_piece,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=1 << 20,
            control_symbols=[token.content for token in _special(config)],
            bos_id=-1,
            eos_id=-1,
            num_threads=1,  # with more, sums depend on how the texts fall on them
            minloglevel=2,
        )
    except RuntimeError as err:
        if "smaller than" not in str(err) and "vocab" not in str(err).lower():
            raise
        raise _too_small(config, "a larger one") from None
    backend = sentencepiece_tokenizer(file.getvalue(), Path("the trained model")).backend
    return Tokenizer(backend, bos=config.bos, eos=config.eos, pad=config.eos, unk="<unk>", adds_bos=config.adds_bos)


def _spread(lines: Iterable[str], most: int) -> list[str]:
    """Lines of together at most `most` characters, every nth one: n doubles whenever there are too many."""
    kept: list[str] = []
    n, size = 1, 0
    for number, line in enumerate(lines):
        if number % n == 0:
            kept.append(line)
            size += len(line)
        while size > most and len(kept) > 1:
            del kept[1::2]
            n, size = 2 * n, sum(map(len, kept))
    return kept


def _too_small(config: TrainTokenizerConfig, better: str) -> ConfigError:
    return ConfigError(
        "is smaller than the alphabet of the texts",
        field="vocab_size",
        value=config.vocab_size,
        hint=f"{better}, or a lower character_coverage",
    )
