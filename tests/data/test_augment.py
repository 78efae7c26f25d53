"""Changed copies of texts: what changes, what stays, and that the same seed changes the same."""

import json
import random
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, DataError
from cutaway.data.augment import AugmentConfig, Synonyms, augment, back_translate, drop_words, swap_words
from cutaway.data.counterfactual import Counterparts, own_pairs
from cutaway.data.read import Record
from cutaway.data.units import words
from cutaway.data.word_table import finder, like, read_table

TEXT = "The quick brown fox, they say, jumps over the lazy dog; then it sleeps until noon."
texts = st.text(st.sampled_from("ab 一二,.\n\t'é\ud800"), max_size=40)


def draw(seed=0):
    return np.random.default_rng(seed)


@settings(deadline=None)
@given(texts, st.integers(0, 99))
def test_dropout_keeps_the_order_and_at_least_one_word(text, seed):
    kept, rest = drop_words(text, 0.5, draw(seed)), iter(text)
    assert all(any(char == other for other in rest) for char in kept)
    assert bool(words(kept)) == bool(words(text))


def test_a_book_takes_seconds():
    """The time is in proportion to the length: 400,000 words."""
    book, started = "one two, three\n" * 133_000, time.perf_counter()
    drop_words(book, 0.5, draw())
    swap_words(book, 0.5, draw())
    assert time.perf_counter() - started < 15


@settings(deadline=None)
@given(texts, st.integers(0, 99))
def test_swaps_keep_the_words_and_what_stands_between(text, seed):
    swapped = swap_words(text, 0.5, draw(seed))
    assert sorted(swapped) == sorted(text)
    assert re.sub(r"\w", "", swapped) == re.sub(r"\w", "", text) or "'" in text


def test_dropout_and_swaps_change_their_share():
    text = " ".join(f"w{i}" for i in range(20_000))
    assert len(words(drop_words(text, 0.1, draw()))) == pytest.approx(18_000, abs=200)
    for share in (0.1, 0.9):
        moved = sum(a != b for a, b in zip(words(text), words(swap_words(text, share, draw())), strict=True))
        assert moved == pytest.approx(20_000 * share, rel=0.03)


def test_a_dropped_word_takes_one_space_with_it():
    found = {drop_words("a big, cat", 0.4, draw(seed)) for seed in range(60)}
    assert found == {"a big, cat", "a, cat", ", cat", "big, cat", "a big,", "a,", "big,"}
    assert {drop_words("one\ntwo three", 0.3, draw(seed)) for seed in range(60)} >= {
        "one\nthree",
        "one\ntwo",
        "\ntwo three",
    }
    assert set(drop_words("一二三四五", 0.3, draw(1))) < set("一二三四五")


def test_synonyms_keep_case_and_leave_other_words():
    synonyms = Synonyms({"glad": ["happy", "pleased"], "快": ["迅速"], "ice cream": ["gelato"], "ice": ["frost"]})
    assert synonyms.replace("Gladly, ice creams 快!", 1.0, draw()) == "Gladly, frost creams 迅速!"
    assert synonyms.replace("GLAD of Ice cream", 1.0, draw(1)) in ("HAPPY of Gelato", "PLEASED of Gelato")
    assert {synonyms.replace("glad", 0.5, draw(seed)) for seed in range(30)} == {"glad", "happy", "pleased"}


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("He said HER brother saw her.", "She said HIS sister saw him."),
        ("Other shepherds hear the theme", "Other shepherds hear the theme"),
        ("She’s proud of herself; her own", "He’s proud of himself; his own"),
        ("她和其他人说，他们的吉他是他爸爸的。", "他和其他人说，她们的吉他是她妈妈的。"),
        ("男女老少，子女双全", "男女老少，子女双全"),
        ("让he说", "让she说"),
    ],
)
def test_counterparts(text, other):
    assert Counterparts(own_pairs()).swap(text) == other


def test_two_swaps_give_the_text_back_where_no_pronoun_is_ambiguous():
    pick = random.Random(0)
    known = [word for pair in own_pairs() for word in pair if word not in ("him", "his", "her")]
    text = " ".join(pick.choices(known, k=500))
    counterparts = Counterparts(own_pairs())
    assert counterparts.swap(text) != text
    assert counterparts.swap(counterparts.swap(text)) == text


def test_counterparts_of_real_pairs(data):
    """WinoBias has every sentence with the pronoun of either sex: of 1,584, 96 % become the other, her/his/him included."""
    counterparts, right, total = Counterparts(own_pairs()), 0, 0
    for name in ("type1.txt.dev", "type2.txt.dev", "type1.txt.test", "type2.txt.test"):
        pro, anti = (
            re.sub(r"(?m)^\d+ |[\[\]]", "", (data / "winobias" / f"{kind}_{name}").read_text()).splitlines()
            for kind in ("pro_stereotyped", "anti_stereotyped")
        )
        right += sum(counterparts.swap(one) == other for one, other in zip(pro, anti, strict=True))
        total += len(pro)
    assert total == 1584
    assert right / total > 0.96


def rows(values, *settings):
    records = [Record(value, f"a:{i}") for i, value in enumerate(values, 1)]
    return [one.value for one in augment(records, load_config(AugmentConfig, None, settings))]


def test_the_same_seed_gives_the_same_copies():
    values = [TEXT, {"text": TEXT}, TEXT]
    settings = ("method=dropout", "copies=3", "share=0.3")
    assert rows(values, *settings) == rows(values, *settings)
    assert rows(values, *settings) != rows(values, *settings, "seed=1")
    assert rows(values, *settings)[:3] == rows(values[:1], *settings)[:3]
    assert len(set(rows([TEXT, TEXT], *settings, "keep=false"))) == 6  # equal texts are changed differently


def test_a_copy_like_another_is_left_out():
    assert rows(["one"], "method=dropout", "copies=5") == ["one"]
    assert rows(["no such words"], "method=counterfactual") == ["no such words"]
    assert rows(["no such words"], "method=counterfactual", "keep=false") == []


CHAT = [
    {"role": "system", "content": "Be kind to him."},
    {"role": "user", "content": "Where is he today, and where was he before?"},
    {"role": "assistant", "content": "He is at home with his sister, where he was before."},
]


def test_replies_are_not_made_noisy_and_have_counterparts():
    (noisy,) = rows([{"messages": CHAT, "id": 7}], "method=dropout", "share=0.5", "keep=false")
    assert noisy["id"] == 7
    assert noisy["messages"][2] == CHAT[2]
    assert noisy["messages"][1] != CHAT[1]
    (other,) = rows([{"messages": CHAT}], "method=counterfactual", "keep=false")
    assert [turn["content"] for turn in other["messages"]] == [
        "Be kind to her.",
        "Where is she today, and where was she before?",
        "She is at home with her brother, where she was before.",
    ]


@pytest.mark.parametrize(
    ("value", "read", "learned"),
    [
        ({"instruction": TEXT, "input": "", "output": TEXT}, "instruction", "output"),
        ({"prompt": TEXT, "chosen": TEXT, "rejected": "no"}, "prompt", "chosen"),
        ({"text": TEXT, "label": TEXT}, "text", "label"),
    ],
)
def test_every_shape(value, read, learned):
    (changed,) = rows([value], "method=swap", "share=0.5", "keep=false")
    assert changed[read] != TEXT
    assert changed[learned] == TEXT


def test_sharegpt():
    value = {"conversations": [{"from": "human", "value": TEXT}, {"from": "gpt", "value": TEXT}]}
    (changed,) = rows([value], "method=swap", "share=0.5", "keep=false")
    assert [turn["value"] == TEXT for turn in changed["conversations"]] == [False, True]


@pytest.mark.parametrize("value", [{"messages": ["hi"]}, {"messages": None}, {"text": 3}, 7, None])
def test_a_malformed_record_is_named(value):
    with pytest.raises(DataError, match="a:2"):
        rows(["fine", value], "method=counterfactual")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '{"glad": ["happy", "pleased"], "he": "she"}'),
        ("a.json", '[["glad", "happy", "pleased"], ["he", "she"]]'),
        ("a.tsv", "\ufeffglad\thappy\tpleased\r\n\r\nhe\tshe\r\n"),
    ],
)
def test_tables_of_each_kind(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_table(tmp_path / name) == {"glad": ["happy", "pleased"], "he": ["she"]}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b'{"glad": ', "is not JSON"),
        ("a.json", b"3", "no table"),
        ("a.json", b"{}", "no table"),
        ("a.json", b'{"glad": 3}', "row 1"),
        ("a.json", b'[["glad", "happy"], "sad"]', "row 2.*'sad'"),
        ("a.tsv", b"glad\thappy\nsad\n", "row 2.*sad"),
        ("a.tsv", b"glad\t\n", "row 1"),
        ("a.tsv", b"", "no table"),
        ("a.tsv", b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_wrong_tables_are_named(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"table=.*{says}"):
        read_table(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none.tsv")


def test_the_users_pairs_come_before_ours(tmp_path):
    (tmp_path / "pairs.json").write_text(json.dumps({"he": "they", "cat": "dog"}))
    table = f"table={tmp_path / 'pairs.json'}"
    assert rows(["He, a man, has a cat"], "method=counterfactual", table, "keep=false") == ["They, a woman, has a dog"]
    assert rows(["A man has a dog"], "method=counterfactual", table, "own=false", "keep=false") == ["A man has a cat"]


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ("method=shuffle", "method"),
        ("share=0.1", "method"),
        ("method=dropout share=0", "share"),
        ("method=dropout share=1", "share"),
        ("method=dropout copies=0", "copies"),
        ("method=synonyms", "needs table"),
        ("method=swap table=x.tsv", "takes no table"),
        ("method=counterfactual copies=2", "copies must be 1"),
        ("method=counterfactual own=false", "needs table"),
        ("method=back-translation copies=2", "copies must be 1"),
        ("method=dropout by=word", "by"),
    ],
)
def test_wrong_settings_are_named(given_, says):
    with pytest.raises(ConfigError, match=says):
        load_config(AugmentConfig, None, given_.split())


def test_back_translation_goes_there_and_back():
    german = {"the cat": "die Katze"}
    there, back = lambda texts: [german[text] for text in texts], lambda texts: [text + "!" for text in texts]
    assert back_translate(["the cat"], there, back) == ["die Katze!"]
    with pytest.raises(DataError, match="2 texts has 1"):
        back_translate(["a", "b"], lambda texts: texts[:1], back)


def test_back_translation_of_records_changes_what_is_read_only():
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "ok"},
    ]
    values = [{"messages": turns}, "one", {"source": "two", "target": "zwei"}, {"text": "THREE", "label": "x"}] * 100
    calls = []

    def upper(texts):
        calls.append(len(texts))
        return [text.upper() for text in texts]

    config = AugmentConfig(method="back-translation", keep=False)
    records = [Record(value, f"a:{i}") for i, value in enumerate(values)]
    made = [one.value for one in augment(records, config, upper, lambda texts: texts)]
    changed = [{**turn, "content": turn["content"].upper()} if turn["role"] == "user" else turn for turn in turns]
    assert made == [{"messages": changed}, "ONE", {"source": "TWO", "target": "zwei"}] * 100  # the fourth is as it was
    assert len(calls) == 2
    with pytest.raises(ConfigError, match="needs two translations"):
        list(augment(records, config))


def test_words_are_found_whole_and_the_longest_first():
    find = finder(["he", "he said", "c++", "他", "其他"])
    assert find.findall("The hen; He said: he, C++ 他 其他 用he,c++") == [
        "He said",
        "he",
        "C++",
        "他",
        "其他",
        "he",
        "c++",
    ]
    assert finder([]).findall("anything") == []


def test_like():
    assert [like("she", one) for one in ("he", "He", "HE", "I", "它")] == ["she", "She", "SHE", "She", "she"]


def test_every_way_to_write_a_word_in_another_case_has_its_counterpart():
    """`regex` ignores case by Unicode's full folding (ſ and s, ß and ss); so must what is looked up."""
    counterparts = Counterparts([("she", "he"), ("straße", "weg"), ("kilo", "mega"), ("ii", "x")])
    assert counterparts.swap("\u017fhe STRASSE \u212ailo") == "he WEG Mega"
    assert counterparts.swap("iI, \u0130I") == "x, \u0130I"
    assert Synonyms({"ii": ["x"]}).replace("\u0130I", 1.0, draw()) == "\u0130I"
