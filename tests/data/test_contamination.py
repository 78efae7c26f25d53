"""Evaluation items in training data: planted ones are found where they are, common phrases and short items do not count."""

import random

import pytest

from cutaway.core.config import load_config
from cutaway.core.errors import ConfigError
from cutaway.data.contamination import Contamination, ContaminationConfig
from cutaway.data.read import Record, read_records

EN, ZH = [f"word{i}" for i in range(3000)], [chr(0x4E00 + i) for i in range(3000)]


def prose(draw, vocabulary=EN, n=60):
    return ("" if vocabulary is ZH else " ").join(draw.choices(vocabulary, k=n))


def records(texts, name):
    return [Record(text, f"{name}:{i}") for i, text in enumerate(texts, 1)]


def look(items, training, **settings):
    contamination = Contamination(records(items, "eval"), ContaminationConfig(**settings))
    for record in records(training, "train"):
        contamination.look(record)
    return contamination


@pytest.mark.parametrize("vocabulary", [EN, ZH])
def test_planted_items_are_found_where_they_stand(vocabulary):
    draw = random.Random(0)
    items = [prose(draw, vocabulary) for _ in range(50)]
    training = [prose(draw, vocabulary, 200) for _ in range(100)]
    training[30] += " " + items[7].upper() + "!"
    training[60] = items[9] + ". " + training[60]
    hits = look(items, training).hits()
    assert [(hit.where, hit.share, hit.found) for hit in hits] == [
        ("eval:8", 1.0, ("train:31",)),
        ("eval:10", 1.0, ("train:61",)),
    ]


def test_a_shared_part_gives_its_share():
    words = [f"w{i}" for i in range(20)]  # 8 n-grams of 13
    hits = look([" ".join(words)], ["x y " + ", ".join(words[2:16]) + " z"]).hits()
    assert [(hit.share, hit.example) for hit in hits] == [(2 / 8, " ".join(words[2:15]))]
    assert look([" ".join(words)], [" ".join(words[:12])]).hits() == []


def test_short_items_are_looked_for_whole():
    item = "one two three four five six seven eight nine"
    assert [hit.share for hit in look([item], [f"zero {item} ten"]).hits()] == [1.0]
    short = look(["one two three"], ["one two three"])
    assert (short.hits(), short.items, short.too_short) == ([], 1, 1)
    assert len(look(["one two three"], ["one two three"], least=3).hits()) == 1


def test_phrases_that_many_records_have_do_not_count():
    phrase = " ".join(f"w{i}" for i in range(13))
    assert len(look([phrase], [phrase] * 10).hits()) == 1
    assert look([phrase], [phrase] * 11).hits() == []
    assert len(look([phrase], [f"{phrase} {phrase}"] * 10).hits()) == 1  # records count, not occurrences


def test_places_are_the_first_few():
    phrase = " ".join(f"w{i}" for i in range(13))
    (hit,) = look([phrase], [phrase] * 8).hits()
    assert hit.found == tuple(f"train:{i}" for i in range(1, 6))


def test_items_of_any_shape(data):
    items = read_records(data / "rasbt_instruction_preference" / "instruction-data.json")
    contamination = Contamination(items, ContaminationConfig())
    held = [
        contamination.look(one)
        for one in read_records(data / "rasbt_instruction_preference" / "instruction-data-with-preference.json")
    ]
    hits = contamination.hits()
    assert contamination.items == len(held) == 1100
    assert len(hits) > 0.7 * 1100
    assert hits[0].share == 1.0


@pytest.mark.parametrize("given", ["n=0", "least=0", "common=0", "ngram=3"])
def test_wrong_settings_are_named(given):
    with pytest.raises(ConfigError, match=given.partition("=")[0]):
        load_config(ContaminationConfig, None, [given])
