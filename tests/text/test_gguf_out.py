"""Tokenisers through the metadata of a GGUF file and back."""

import pytest
import sentencepiece
from tokenizers import normalizers

from cutaway.core.errors import TokenizerError
from cutaway.models.gguf_file import open_gguf
from cutaway.text.gguf import tokenizer_from_gguf
from cutaway.text.gguf_out import PROBE, gguf_from_tokenizer
from cutaway.text.sentencepiece_file import read_sentencepiece
from cutaway.text.splitting import PATTERNS, splitter
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

TEXTS = [PROBE * 3, "The harbour wakes before the town does, and nobody speaks much at that hour. " * 3]


def trained(**settings) -> Tokenizer:
    return train_tokenizer(TEXTS, TrainTokenizerConfig(vocab_size=400, **settings))


def assert_same(ours: Tokenizer, again: Tokenizer) -> None:
    for text in [*TEXTS, "", " ", "<|im_end|> a"]:
        for special in (False, True):
            assert again.encode(text, special) == ours.encode(text, special)
            assert again.decode(again.encode(text)) == ours.decode(ours.encode(text))
    assert again.special == ours.special
    assert again.tokens == ours.tokens
    assert again.end_ids == ours.end_ids
    assert (again.adds_bos, again.chat_template) == (ours.adds_bos, ours.chat_template)


@pytest.mark.parametrize("split", [name for name in PATTERNS if name != "cl100k_base"])
def test_byte_level_vocabularies_come_back(split):
    tokenizer = trained(split=split, extra=("<|im_start|>", "<|im_end|>"))
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    assert_same(tokenizer, tokenizer_from_gguf(gguf_from_tokenizer(tokenizer, tokenizer.vocab_size)))


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_comes_back(prefix, tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_prefix=str(tmp_path / "m"),
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        add_dummy_prefix=prefix,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    tokenizer = read_sentencepiece(tmp_path / "m.model")
    metadata = gguf_from_tokenizer(tokenizer, tokenizer.vocab_size)
    assert metadata["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    assert_same(tokenizer, tokenizer_from_gguf(metadata))


def test_embeddings_beyond_the_vocabulary_get_names():
    tokenizer = trained()
    metadata = gguf_from_tokenizer(tokenizer, tokenizer.vocab_size + 2)
    assert metadata["tokenizer.ggml.tokens"][-1] == f"[PAD{tokenizer.vocab_size + 1}]"
    assert metadata["tokenizer.ggml.token_type"][-2:] == [5, 5]
    assert_same(tokenizer, tokenizer_from_gguf(metadata))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "wordpiece"}, "tokenizer='WordPiece': GGUF holds BPE alone"),
        ({"split": "cl100k_base"}, "splits text in a way that GGUF has no name for"),
    ],
)
def test_what_gguf_cannot_hold_is_named(settings, message):
    tokenizer = trained(**settings)
    with pytest.raises(TokenizerError, match=message):
        gguf_from_tokenizer(tokenizer, tokenizer.vocab_size)


def test_a_normaliser_that_would_be_lost_is_refused():
    tokenizer = trained()
    tokenizer.backend.normalizer = normalizers.Lowercase()
    with pytest.raises(TokenizerError, match="would read text otherwise"):
        gguf_from_tokenizer(tokenizer, tokenizer.vocab_size)


def test_the_probe_tells_every_way_of_splitting_apart():
    assert len({str(splitter(name).pre_tokenize_str(PROBE)) for name in PATTERNS}) == len(PATTERNS)


def test_the_packaged_model_says_what_its_file_says(smollm2):
    theirs = {name: value for name, value in open_gguf(smollm2).metadata.items() if name.startswith("tokenizer.")}
    ours = gguf_from_tokenizer(tokenizer_from_gguf(theirs), 49152)
    theirs.pop("tokenizer.ggml.add_space_prefix")  # no byte-level vocabulary has one
    assert ours == theirs
