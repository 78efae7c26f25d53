"""Tokeniser files whose fields are not what they should be: a typed error, or a tokeniser that works."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import CutawayError, TokenizerError
from cutaway.text.chat import ChatRenderer
from cutaway.text.gguf import tokenizer_from_gguf
from cutaway.text.load import load_tokenizer
from cutaway.text.train import TrainTokenizerConfig, train_tokenizer

LEAF = (
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.sampled_from(["", "a", "<s>", "x y", "default"])
)
ODD = st.recursive(
    LEAF,
    lambda item: st.lists(item, max_size=4) | st.dictionaries(st.sampled_from(["name", "content", "template"]), item),
)
GGUF = {
    "tokens": ["a", "b", "ab", "<s>"],
    "token_type": [1, 1, 1, 3],
    "scores": [0.0, -1.0, -2.0, 0.0],
    "merges": ["a b"],
    "pre": "gpt-2",
    "bos_token_id": 3,
    "add_bos_token": True,
    "add_space_prefix": True,
    "chat_template": "x",
}
BPE = train_tokenizer(["the cat " * 20], TrainTokenizerConfig(vocab_size=300))


def use(load):
    try:
        tokenizer = load()
        tokenizer.decode(tokenizer.encode("ab a"))
        ChatRenderer(tokenizer).render([{"role": "user", "content": "a"}])
    except CutawayError:
        pass


@given(st.dictionaries(st.sampled_from(sorted(GGUF)), ODD, max_size=2), st.sampled_from(["gpt2", "llama"]))
@settings(deadline=None, max_examples=300)
def test_gguf(odd, kind):
    values = {f"tokenizer.ggml.{name}": value for name, value in {**GGUF, "model": kind, **odd}.items()}
    values["tokenizer.chat_template"] = values.pop("tokenizer.ggml.chat_template")
    use(lambda: tokenizer_from_gguf(values))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    BPE.save(folder)
    return folder


CONFIG = ["bos_token", "eos_token", "pad_token", "unk_token", "add_bos_token", "chat_template"]


@given(st.dictionaries(st.sampled_from(CONFIG), ODD) | ODD)
@settings(deadline=None, max_examples=200)
def test_folder(folder, odd):
    (folder / "tokenizer_config.json").write_text(json.dumps(odd))
    use(lambda: load_tokenizer(folder))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", b"{", "is not JSON"),
        ("tokenizer_config.json", b"\xff", "cannot be read"),
        ("tokenizer_config.json", b'{"chat_template": 5}', "chat_template=5: must be text"),
        ("chat_template.jinja", b"\xff\xfe", "cannot be read"),
    ],
)
def test_files_are_named(tmp_path, name, content, message):
    BPE.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(tmp_path)
