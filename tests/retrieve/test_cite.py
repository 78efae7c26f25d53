"""What supports a sentence of a reply, what is only related to it, and where that stands."""

import pytest

from cutaway.retrieve.cite import attribute
from cutaway.retrieve.index import Hit

HEAT = "Copper conducts heat well. It melts at 1085 degrees. Not every metal conducts heat as well as copper."
温度 = "温度越高，分布越平。温度为零时，只选最可能的词元。"


def hit(text: str, heading: str = "", start: int = 0) -> Hit:
    return Hit("", "a.md", "", heading, None, start, start + len(text), text)


def judged(said: str, *passages: Hit) -> tuple[bool, tuple[int, ...]]:
    (sentence,) = attribute(said, passages)
    return sentence.supported, sentence.passages


@pytest.mark.parametrize(
    ("said", "passage", "supported", "related"),
    [
        ("Copper conducts heat well.", HEAT, True, True),
        ("Well, copper conducts heat, and it melts at 1085 degrees.", HEAT, True, True),
        ("Copper melts at 1085 degrees.", HEAT, True, True),
        ("Copper melts at 1084 degrees.", HEAT, False, False),
        ("No heat does copper conduct well.", "Copper conducts heat well.", False, True),
        ("Only copper conducts heat well.", HEAT, False, True),
        ("Copper isn't a metal that conducts heat.", "Copper is a metal that conducts heat.", False, True),
        ("Silver shines.", HEAT, False, False),
        ("温度越高，分布越平。", 温度, True, True),
        ("温度越高，分布不平。", 温度, False, True),
        ("温度为零时，都选最可能的词元。", 温度, False, True),
        ("猫在睡觉。", 温度, False, False),
    ],
)
def test_supported_related_or_neither(said, passage, supported, related):
    assert judged(said, hit(passage, "Copper" if passage == HEAT else "")) == (supported, (1,) if related else ())


def test_evidence_is_the_sentences_of_the_source():
    (sentence,) = attribute("Well, copper conducts heat, and it melts at 1085 degrees.", [hit(HEAT, "Copper", 200)])
    assert [HEAT[one.start - 200 : one.end - 200] for one in sentence.evidence] == [
        "Copper conducts heat well.",
        "It melts at 1085 degrees.",
    ]
    assert {(one.passage, one.source) for one in sentence.evidence} == {(1, "a.md")}


def test_a_passage_that_supports_goes_before_any_that_is_related():
    related = hit("Copper, which conducts heat, is red.")
    assert judged("Copper conducts heat well.", related, hit(HEAT)) == (True, (2,))


def test_a_heading_helps_but_supports_nothing_alone():
    assert judged("Copper.", hit("It melts at 1085 degrees.", "Copper")) == (False, ())
    assert attribute("", [hit(HEAT)]) == attribute("?", []) == []
    assert judged("Copper melts.") == (False, ())
