"""Lab 20: its rows and the end of a prompt."""

import pytest

from cutaway.labs import lab20_gpt3_gpt4 as lab
from cutaway.labs.senses import WORDS, Writer


@pytest.fixture(scope="module")
def asker():
    return lab.Asker(Writer((*WORDS, "plain", "plus", "so", "say")), seed=0)


def words(asker, row):
    return asker.writer.tokenizer.decode(row.ids).split()


def test_rows(asker):
    assert words(asker, asker.row(word=4)) == ["four", "say", "four"]
    assert words(asker, asker.row("plus", word=9, idle=2)) == ["plus", "nine", "so", "so", "say", "zero"]
    assert words(asker, asker.row("plus", user="plain", word=1)) == ["plus", "plain", "one", "say", "two"]
    row = asker.row("plain", picture=7)
    assert words(asker, row) == ["plain", "say", WORDS[int(asker.digits[7])]]
    assert (row.ids == asker.writer.ids["image"]).sum() == 4


def test_the_end_of_a_prompt_keeps_the_answer(asker):
    row = asker.row(word=4, idle=30)
    end = lab.ending(row, 6)
    assert words(asker, end) == ["so"] * 5 + ["say", "four"]
    assert end.learned.sum() == row.learned.sum() == 2
    assert len(lab.ending(asker.row(word=4), 50).ids) == len(asker.row(word=4).ids)
