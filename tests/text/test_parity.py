"""Ids equal to those of the libraries that the files come from."""

import base64
import random

import pytest
import sentencepiece
import tiktoken

from cutaway.text.corpus import HARD
from cutaway.text.load import load_tokenizer
from cutaway.text.sentencepiece_file import sentencepiece_tokenizer

CORPUS = "The quick brown fox jumps over the lazy dog. 敏捷的棕色狐狸跳过懒狗。 naïve café\n" * 30
TEXTS = [*HARD, " ", " a", "  a", "▁", "<s>", "</s>x", "<0x0A>", "a\tb\n"]


def random_texts(count: int, alphabet: str = "ab  \n▁é中👍\u0300<s>/0x1\u200d") -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices(alphabet, k=draw.randint(0, 12))) for _ in range(count)]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece(kind, prefix, tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines()),
        model_prefix=str(tmp_path / "m"),
        model_type=kind,
        vocab_size=340,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=prefix,
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    ours = load_tokenizer(tmp_path / "m.model")
    for text in TEXTS + random_texts(500):
        assert ours.encode(text) == theirs.encode(text), text
        assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text))
    assert_same_texts(ours, theirs)


def test_llama2(data):
    path = data / "llama2_tokenizer" / "tokenizer.model"
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ours = sentencepiece_tokenizer(path.read_bytes(), path)
    assert (ours.bos_id, ours.eos_id, ours.unk_id) == (1, 2, 0)
    for text in TEXTS + random_texts(500):
        assert ours.encode(text) == theirs.encode(text), text
    assert ours.token_bytes(ours.backend.token_to_id("##")) == b"##"
    assert_same_texts(ours, theirs)


def assert_same_texts(ours, theirs):
    """Any ids decode alike, byte tokens that make no character too. (Special tokens have spellings of their own there.)"""
    draw = random.Random(0)
    every = [id for id in range(ours.vocab_size) if id not in ours.special.values()]
    bytes = [id for id in every if theirs.is_byte(id)]
    words = [id for id in every if not theirs.is_byte(id)]
    for _ in range(500):
        ids = [draw.choice(words), *(draw.choice(draw.choice([every, bytes])) for _ in range(draw.randint(0, 12)))]
        assert ours.decode(ids) == theirs.decode(ids), ids


def test_tiktoken(tmp_path):
    ranks = {bytes([byte]): byte for byte in range(256)}
    for pair in (b"th", b"he", b"the", b" t", b" the", b"in", b"  ", "é".encode(), b"ing"):
        ranks[pair] = len(ranks)
    path = tmp_path / "small.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()))
    ours = load_tokenizer(path)
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    theirs = tiktoken.Encoding("small", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    for text in [*TEXTS, "the thing in  there", *random_texts(500, "the in  é\n1'sll")]:
        assert ours.encode(text) == theirs.encode_ordinary(text), text


def test_smollm2_equals_transformers(smollm2_tokenizers):
    ours, theirs = smollm2_tokenizers
    for text in TEXTS[:-4] + random_texts(300):
        assert ours.decode(ours.encode(text)) == text
    for text in ("The quick brown fox", "don't 12345\n\n  x", "床前明月光", "def f(x):\n    return x"):
        assert ours.decode(ours.encode(text)) == text
        assert "".join(theirs.convert_ids_to_tokens(ours.encode(text))) == "".join(theirs.tokenize(text))
