from cutaway.text.sentences import sentences


def split(text: str) -> list[str]:
    return [text[a:b] for a, b in sentences(text)]


def test_endings_in_two_languages():
    assert split("One. Two? “Three!” 三。四！”五") == ["One.", "Two?", "“Three!”", "三。", "四！”", "五"]
    assert split("A list\n\nand more\nof it") == ["A list", "and more\nof it"]
    assert split(" \n ") == []


def test_what_ends_no_sentence():
    for text in ("See Holtzman et al. 2020 for it.", "Dr. A. Smith, e.g. here, vs. there.", "Fig. 3 costs 3.5 units."):
        assert split(text) == [text]
    assert split("We met Al. Then he left.") == ["We met Al.", "Then he left."]


def test_a_thousand_semicolons_in_one_line():
    line = "甲乙丙；" * 20_000
    assert len(split(line)) == 20_000
