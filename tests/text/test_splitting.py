"""How text is cut into words, against the patterns that others publish, on text where such patterns differ."""

import importlib
import inspect
import random
from unittest import mock

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from cutaway.core.errors import TokenizerError
from cutaway.text.corpus import HARD
from cutaway.text.gguf import tokenizer_from_gguf
from cutaway.text.splitting import ALIASES, PATTERNS, splitter
from cutaway.text.tokenizer import BYTE_CHARACTERS

TRICKY = [
    *HARD,
    "3 33 333 3333 33333 3333333 3.3 ³ ½ Ⅷ ٣٤ ១២",
    "I'm I'M don't DON'T we'Ll 'tis 'S ’s it's'll",
    " a  b   c\t\td \n e\n\nf\r\n\r\ng \u3000h\u00a0\u00a0i  ",
    "\n\n\n a\n b  \n",
    "你好，世界！３３３ 10月25日。こんにちは、カタカナーです 안녕하세요 한국어",
    "👍👍🏽 👩‍👩‍👧‍👦!? ☃️—🇨🇳",
    "HelloWorld helloWorld HTTPServer ǅungla ʼn ß İi",
    "e\u0301e\u0301 हिन्दी ကမ္ဘာ ไทย العَرَبِيَّة Ѐ Ա ա Ა ა 𝐀𝐁",
    "a/b//c\\d_e__f <<<>>> $5.00+$6=~|`^ #include<x> ==/\n/// //\r\n",
    "",
]
BYTES = {char: byte for byte, char in BYTE_CHARACTERS.items()}
ALPHABET = "aB '’sStTlLrRe3½\n\r\t \u3000中文あア한é\u0301\u0300ǅ👍\u200d.,!/$+~`#_"


def words(name, text):
    """What our pre-tokeniser cuts, as text."""
    found = [piece for piece, _ in splitter(name).pre_tokenize_str(text)]
    return [bytes(BYTES[char] for char in piece).decode() for piece in found]


def cut(patterns, text):
    """Patterns one after another, by another engine than the library's: what one matches and what it leaves are kept apart."""
    parts = [text]
    for pattern in patterns:
        after = []
        for part in parts:
            place = 0
            for match in regex.finditer(pattern, part):
                after += [part[place : match.start()], match[0]]
                place = match.end()
            after.append(part[place:])
        parts = [part for part in after if part]
    return parts


def openai(encoding):
    """The pattern in tiktoken's definition; the file of ranks that goes with it is not fetched."""
    with mock.patch("tiktoken_ext.openai_public.load_tiktoken_bpe", return_value={}):
        return [getattr(importlib.import_module("tiktoken_ext.openai_public"), encoding)()["pat_str"]]


def qwen(family):
    return [importlib.import_module(f"transformers.models.{family}.tokenization_{family}").PRETOKENIZE_REGEX]


def llama3():
    converter = importlib.import_module("transformers.convert_slow_tokenizer").TikTokenConverter
    return [inspect.signature(converter.__init__).parameters["pattern"].default]


def tekken():
    """Mistral's, as transformers converts it: GPT-4o's without contractions, digits one by one."""
    [pattern] = openai("o200k_base")
    return [pattern.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}")]


REFERENCES = {
    "gpt2": lambda: openai("r50k_base"),
    "digits": lambda: [r"\p{N}", *openai("r50k_base")],
    "cl100k": llama3,
    "cl100k_base": lambda: openai("cl100k_base"),
    "o200k": lambda: openai("o200k_base"),
    "qwen2": lambda: qwen("qwen2"),
    "qwen35": lambda: qwen("qwen3_5"),
    "tekken": tekken,
    "falcon": lambda: [r"[\p{P}$+<=>^~|`]+", *openai("r50k_base"), r"[0-9][0-9][0-9]"],
}


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_published_patterns(name):
    patterns = REFERENCES[name]()
    draw = random.Random(0)
    for text in [*TRICKY, *("".join(draw.choices(ALPHABET, k=draw.randint(0, 16))) for _ in range(500))]:
        assert words(name, text) == cut(patterns, text), text


@pytest.mark.parametrize("name", sorted(PATTERNS))
@given(text=st.text(alphabet=ALPHABET))
@settings(deadline=None)
def test_nothing_is_lost(name, text):
    assert "".join(words(name, text)) == text


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_two_engines_agree(name):
    """Oniguruma, and `regex`, which writes some things otherwise."""
    patterns = [pattern.replace(r"\x{d7ff}", "\ud7ff").replace(r"\z", r"\Z") for pattern in PATTERNS[name]]
    patterns = [regex.sub(r"\$$", r"(?=\\n|\\Z)", pattern) for pattern in patterns]
    for text in TRICKY:
        assert words(name, text) == cut(patterns, text), text


def test_the_library_has_the_same_gpt2():
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in TRICKY:
        assert splitter("default").pre_tokenize_str(text) == theirs.pre_tokenize_str(text)


def gguf(pre, **more):
    values = {
        "model": "gpt2",
        "tokens": ["a", "b", "ab", "abab", "<s>"],
        "token_type": [1, 1, 1, 1, 3],
        "merges": ["a b"],
    }
    return {f"tokenizer.ggml.{key}": value for key, value in {**values, "pre": pre, "bos_token_id": 4, **more}.items()}


@pytest.mark.parametrize("name", sorted({*PATTERNS, *ALIASES}))
def test_every_name_reads_a_gguf(name):
    assert ALIASES.get(name, name) in PATTERNS
    assert tokenizer_from_gguf(gguf(name)).encode("ab") == [2]


def test_llama3_takes_words_whole_and_begins_with_bos():
    llama3, qwen2 = (tokenizer_from_gguf(gguf(name)) for name in ("llama-bpe", "qwen2"))
    assert (llama3.encode("abab"), qwen2.encode("abab")) == ([3], [2, 2])
    assert (llama3.adds_bos, qwen2.adds_bos) == (True, False)
    assert not tokenizer_from_gguf(gguf("llama-bpe", add_bos_token=False)).adds_bos


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (gguf("llama-bep"), r"tokenizer\.ggml\.pre='llama-bep': unknown way to split text \(did you mean llama-bpe"),
        (gguf("deepseek"), "did you mean deepseek-"),
        (gguf("nobody"), r"tokenizer\.ggml\.pre='nobody'"),
        (gguf("gpt-2", merges=["a x"]), r"tokenizer\.ggml\.merges: do not fit"),
        (gguf("gpt-2", merges=["ab"]), r"tokenizer\.ggml\.merges: do not fit"),
    ],
)
def test_bad_files_are_named(values, message):
    with pytest.raises(TokenizerError, match=message):
        tokenizer_from_gguf(values)
