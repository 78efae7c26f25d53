"""Finding texts that came before: estimates against true similarities, planted duplicates, real ones."""

import math
import random
import sys

import pytest

from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError, ResourceError
from cutaway.data.duplicates import DuplicateConfig, Seen, clusters, jaccard, shingles
from cutaway.data.read import read_records
from cutaway.data.units import units

EN = [f"word{i}" for i in range(5000)]
ZH = [chr(0x4E00 + i) for i in range(5000)]


def sentence(draw: random.Random, vocabulary: list[str], n: int = 80) -> list[str]:
    return draw.choices(vocabulary, k=n)


def edited(draw: random.Random, words: list[str], vocabulary: list[str], n: int) -> list[str]:
    out = list(words)
    for place in draw.sample(range(len(out)), n):
        out[place] = draw.choice(vocabulary)
    return out


def test_shingles_are_of_words_and_of_chinese_characters():
    assert shingles("The cat,  the CAT sat.", 3) == {"the cat the", "cat the cat", "the cat sat"}
    assert shingles("两只猫在睡", 4) == {"两 只 猫 在", "只 猫 在 睡"}
    assert shingles("Short", 5) == {"short"}
    assert shingles("!?", 5) == {"!?"}


def test_exact_duplicates_are_equal_but_for_what_nobody_sees():
    seen = Seen(DuplicateConfig(near=False))
    assert seen.add("Café  au\nlait", "a:1") is None
    again = seen.add("CAFÉ au lait", "a:2")
    assert (again.first, again.similarity, again.exact) == ("a:1", 1.0, True)
    assert seen.add("Cafe au lait", "a:3") is None


@pytest.mark.parametrize("vocabulary", [EN, ZH])
def test_the_estimate_is_within_its_error_of_the_true_similarity(vocabulary):
    """Of 200 pairs, no estimate is more than 4 standard deviations away, and there is no bias."""
    draw, join = random.Random(1), "" if vocabulary is ZH else " "
    seen, errors = Seen(DuplicateConfig(threshold=0.3, shingle=2, permutations=256)), []
    for i in range(200):
        words = sentence(draw, vocabulary)
        one, other = join.join(words), join.join(edited(draw, words, vocabulary, draw.randint(1, 12)))
        assert seen.add(one, str(i)) is None
        found, true = seen.add(other, "other"), jaccard(one, other, 2)
        assert found.first == str(i)
        errors.append((found.similarity - true) / math.sqrt(true * (1 - true) / 256))
    assert max(map(abs, errors)) < 4
    assert abs(sum(errors) / 200) < 4 / math.sqrt(200)


@pytest.mark.parametrize("vocabulary", [EN, ZH])
def test_planted_near_duplicates_are_found_and_nothing_else(vocabulary):
    draw, seen, join = random.Random(2), Seen(DuplicateConfig()), "" if vocabulary is ZH else " "
    originals = [sentence(draw, vocabulary) for _ in range(300)]
    assert not any(seen.add(join.join(words), f"original {i}") for i, words in enumerate(originals))
    found = []
    for i, words in enumerate(originals):
        # one word of 80 changed: 5 of 76 shingles differ, similarity 71/81 = 0.88
        if one := seen.add(join.join(edited(draw, words, vocabulary, 1)), f"copy {i}"):
            assert one.first == f"original {i}"
            found.append(one)
    assert len(found) >= 0.97 * 300


def test_the_most_similar_is_named_and_the_first_kept():
    seen = Seen(DuplicateConfig(threshold=0.5, shingle=1))
    assert seen.add("a b c d e f g h", "a:1") is None
    assert seen.add("a b c d p q r s", "a:2") is None
    found = [seen.add("a b c d e f g x", "a:3"), seen.add("a b c d e f g h", "a:4"), seen.add("a b c d p q r", "a:5")]
    assert [one.first for one in found] == ["a:1", "a:1", "a:2"]
    assert {first: len(listed) for first, listed in clusters(found).items()} == {"a:1": 2, "a:2": 1}


def test_the_same_texts_give_the_same_answers():
    def run():
        draw, seen = random.Random(3), Seen(DuplicateConfig(threshold=0.4))
        words = sentence(draw, EN)
        return [seen.add(" ".join(edited(draw, words, EN, n)), str(n)) for n in range(20)]

    assert run() == run()
    assert any(run())


def test_lone_surrogates_are_only_characters():
    seen = Seen(DuplicateConfig())
    assert seen.add("bad \ud800", "a:1") is None
    assert seen.add("bad \ud800", "a:2").exact


@pytest.mark.parametrize("given", ["threshold=0", "threshold=1.5", "shingle=0", "permutations=1", "treshold=0.5"])
def test_wrong_settings_are_named(given):
    with pytest.raises(ConfigError, match=given.partition("=")[0]):
        load_config(DuplicateConfig, None, [given])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ResourceError, match="datasketch"):
        Seen(DuplicateConfig())
    assert Seen(DuplicateConfig(near=False)).add("a", "a:1") is None


def test_poems_under_two_names_are_found(data):
    poems = list(units(read_records(data / "chinese_poetry" / "songci.txt"), "paragraph"))[6000:9000]
    seen, by_place = Seen(DuplicateConfig()), {one.where: one.value for one in poems}
    found = [one for poem in poems if (one := seen.add(poem.value, poem.where))]
    assert ("songci.txt:92033", "songci.txt:66383") in [(one.where, one.first) for one in found]
    assert all(jaccard(by_place[one.where], by_place[one.first], 5) > 0.65 for one in found)
