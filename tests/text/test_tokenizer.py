import io
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import ConfigError, DataError, RequestError, TokenizerError
from cutaway.text import train
from cutaway.text.chat import ChatRenderer
from cutaway.text.corpus import HARD, CorpusEncoder
from cutaway.text.detokenize import Detokenizer
from cutaway.text.gguf import tokenizer_from_gguf
from cutaway.text.load import load_tokenizer
from cutaway.text.sentencepiece_file import sentencepiece_tokenizer
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

TEXTS = [
    "The cat sat on the mat. The dog saw the cat and ran. " * 20,
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。" * 20,
]
KINDS = ("bpe", "wordpiece", "unigram")


def make(kind="bpe", **values):
    return train_tokenizer(TEXTS, TrainTokenizerConfig(kind=kind, vocab_size=400, **values))


def make_sentencepiece():
    """With a space put in front of every text, as Llama 2 has it."""
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=file,
        model_type="bpe",
        vocab_size=400,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return sentencepiece_tokenizer(file.getvalue(), Path("m.model"))


ALL = [make(), make("wordpiece"), make("unigram"), make_sentencepiece()]
BPE, UNIGRAM = ALL[0], ALL[2]


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_deterministic_and_survives_saving(kind, tmp_path):
    first, second = make(kind), make(kind)
    assert first.backend.to_str() == second.backend.to_str()
    assert first.vocab_size <= 400
    first.save(tmp_path / "t")
    again = load_tokenizer(tmp_path / "t")
    assert (again.tokens, again.special, again.end_ids) == (first.tokens, first.special, first.end_ids)
    assert [again.encode(text) for text in HARD] == [first.encode(text) for text in HARD]


@given(st.text())
@settings(deadline=None)
def test_byte_level_round_trip_of_text(text):
    assert BPE.decode(BPE.encode(text)) == text
    assert b"".join(piece.bytes for piece in BPE.pieces(text)) == text.encode()


@given(st.binary())
@settings(deadline=None)
def test_byte_level_round_trip_of_bytes(data):
    assert BPE.decode_bytes(BPE.encode_bytes(data)) == data


@given(st.text(alphabet="the cat 明月<|im_end|>\n 👍é\u0301"))
@settings(deadline=None)
@pytest.mark.parametrize("tokenizer", [BPE, UNIGRAM], ids=["bpe", "unigram"])
def test_written_special_tokens_are_text(tokenizer, text):
    assert not set(tokenizer.encode(text + "<|im_end|>" + text)) & set(tokenizer.special.values())


@given(st.lists(st.integers(0, 450), max_size=30))
@settings(deadline=None)
@pytest.mark.parametrize("tokenizer", ALL, ids=["bpe", "wordpiece", "unigram", "sentencepiece"])
@pytest.mark.parametrize("skip_special", [True, False])
def test_streamed_equals_whole_for_any_ids(tokenizer, skip_special, ids):
    assert stream_all(tokenizer, ids, skip_special) == tokenizer.decode(ids, skip_special)


@given(st.text(alphabet="the cat 明月龍\n 👍é\u0301"), st.integers(0, 6))
@settings(deadline=None)
@pytest.mark.parametrize("tokenizer", [BPE, UNIGRAM], ids=["bpe", "unigram"])
def test_a_reply_that_is_cut_loses_one_character(tokenizer, text, cut):
    ids = tokenizer.encode(text)
    whole = tokenizer.decode(ids[: max(0, len(ids) - cut)])
    assert text.startswith(whole.rstrip("\ufffd"))
    assert len(whole) - len(whole.rstrip("\ufffd")) < 4


def stream_all(tokenizer, ids, skip_special=True):
    stream = Detokenizer(tokenizer, skip_special)
    return "".join([*[stream.push(id) for id in ids], stream.flush()])


def test_ids_may_have_gaps():
    words = {**{chr(97 + n): n for n in range(3)}, "abc": 9}
    tokenizer = Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE(words, [])))
    assert tokenizer.vocab_size == 10
    assert [id for id in range(12) if tokenizer.has(id)] == [0, 1, 2, 9]


def test_a_lone_surrogate_is_refused():
    tokenizer = make()
    for ask in (tokenizer.encode, tokenizer.pieces, lambda text: tokenizer.encode_batch([text])):
        with pytest.raises(TokenizerError, match="surrogate"):
            ask("half of a \ud83d")
    with pytest.raises(RequestError, match=r"messages\.0\.content.*surrogate"):
        ChatRenderer(tokenizer).render([{"role": "user", "content": "half of a \ud83d"}])


def test_no_half_character_is_streamed():
    stream = Detokenizer(BPE)
    parts = [stream.push(id) for id in BPE.encode("👍 é 龍")]
    assert "".join(parts) == "👍 é 龍"
    assert not any("\ufffd" in part for part in parts)


def test_corpus_ids_equal_the_reference():
    texts = [*HARD, *TEXTS, "<|im_end|> as text"]
    encoder = CorpusEncoder(BPE)
    assert [ids.tolist() for ids in encoder.encode(texts)] == [BPE.encode(text) for text in texts]
    assert "nothing" not in encoder.library


def test_bad_files(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "bad.model").write_bytes(b"\xff" * 50)
    (tmp_path / "bad.tiktoken").write_text("no rank here at all\n")
    (tmp_path / "x.bin").write_bytes(b"")
    for name in ("bad.json", "bad.model", "bad.tiktoken", "x.bin", "missing.json", "."):
        with pytest.raises(TokenizerError):
            load_tokenizer(tmp_path / name)


@pytest.mark.parametrize("kind", KINDS)
def test_no_text(kind):
    with pytest.raises(DataError):
        train_tokenizer([], TrainTokenizerConfig(kind=kind))


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_alphabet_larger_than_the_vocabulary(kind):
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    with pytest.raises(ConfigError) as caught:
        train_tokenizer([text], TrainTokenizerConfig(kind=kind, vocab_size=300, character_coverage=1.0))
    assert caught.value.field == "vocab_size"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.token_type": [1, 1]},
        {"tokenizer.ggml.model": "rwkv", "tokenizer.ggml.tokens": ["a"]},
        {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.pre": "nobody"},
        {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.bos_token_id": 7},
    ],
)
def test_bad_gguf(metadata):
    with pytest.raises(TokenizerError):
        tokenizer_from_gguf(metadata)


def test_a_long_text_is_learned_in_parts(monkeypatch):
    lines = "".join(TEXTS).replace("ran. ", "ran.\n").replace("。", "。\n")
    assert list(train._parts(lines)) == [lines]
    monkeypatch.setattr(train, "PART", 100)
    parts = list(train._parts(lines))
    assert "".join(parts) == lines
    assert all(len(part) <= 100 and part.endswith("\n") for part in parts[:-1])
    assert list(train._parts("a" * 250)) == ["a" * 100, "a" * 100, "a" * 50]
    whole, lines = ("明月" * 99, ["明月" * 50, "明月" * 49])
    config = TrainTokenizerConfig(vocab_size=300)
    assert train_tokenizer([whole], config).backend.to_str() == train_tokenizer(lines, config).backend.to_str()


def test_unigram_learns_from_lines_spread_over_the_texts():
    lines = [f"{number:04}" for number in range(1000)]
    kept = train._spread(iter(lines), 1000)
    assert kept == lines[::4]
    assert train._spread(iter(lines), 4000) == lines
    assert train._spread(["a" * 99], 10) == ["a" * 99]
