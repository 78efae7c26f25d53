"""The same text about the other sex (or any other pair): every word of a table becomes its counterpart, in its case.

Sources: Zhao et al. (2018), Gender Bias in Coreference Resolution; Lu et al. (2018), Gender Bias in Neural NLP. Names are left
as they are (Hall Maudslay et al., 2019, swap them too).
"""

from collections.abc import Iterable, Mapping

import regex

from cutaway.data.word_table import finder, like

ENGLISH = """he she, him her, his her, himself herself, man woman, men women, boy girl, boys girls, father mother,
fathers mothers, dad mom, daddy mommy, son daughter, sons daughters, brother sister, brothers sisters, husband wife,
husbands wives, boyfriend girlfriend, uncle aunt, uncles aunts, nephew niece, nephews nieces, grandfather grandmother,
grandson granddaughter, gentleman lady, gentlemen ladies, male female, males females, king queen, kings queens,
prince princess, mr mrs, sir madam, actor actress, waiter waitress, businessman businesswoman, policeman policewoman,
salesman saleswoman, chairman chairwoman, spokesman spokeswoman"""
CHINESE = """他 她, 他们 她们, 男 女, 男人 女人, 男性 女性, 男孩 女孩, 男生 女生, 男子 女子, 男士 女士, 男友 女友, 男朋友 女朋友,
父亲 母亲, 爸爸 妈妈, 儿子 女儿, 哥哥 姐姐, 弟弟 妹妹, 兄弟 姐妹, 丈夫 妻子, 爷爷 奶奶, 叔叔 阿姨, 舅舅 舅妈, 侄子 侄女,
国王 女王, 王子 公主, 男女 男女, 子女 子女, 其他 其他, 吉他 吉他, 他人 他人, 他乡 他乡, 他日 他日, 利他 利他, 排他 排他"""

# `her` is him or his: what follows an object pronoun is seldom the first word of a noun phrase without an article.
_AFTER_OBJECT = """a about after again against all an and any anymore as at away because before but by did do does down during for
from had has he how i if in instead into is it it's like no not of off often on or out over she since so some something
than that the them then there these they this those though through to today together tomorrow tonight too under until
up very was we well were what when where whether which while who why will with without would yesterday yet you"""
_NEXT = regex.compile(r"[^\S\n]+([\p{L}']+)")


class Counterparts:
    """What every word of a table becomes.

    Args:
        pairs: words that turn into each other; a word of several pairs turns into its first partner. A word paired with
            itself stays, and protects the words in it.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]):
        self._other: dict[str, str] = {}
        listed = [(one.casefold(), other.casefold()) for one, other in pairs]
        for one, other in [*listed, *((other, one) for one, other in listed)]:
            self._other.setdefault(one, other)
        self._find = finder(self._other)
        self._after_object = frozenset(_AFTER_OBJECT.split())
        self._her = self._other.get("her") in ("him", "his") and self._other.get("his") == "her"

    def swap(self, text: str) -> str:
        """The text with every word of the table turned into its counterpart."""
        return self._find.sub(self._replace, text)

    def _replace(self, match: regex.Match) -> str:
        word = match[0]
        other = self._other.get(word.casefold(), word)  # only `regex` holds İ to be i
        if self._her and word.casefold() == "her":
            following = _NEXT.match(match.string, match.end())
            possessive = following and following[1].lower() not in self._after_object
            other = "his" if possessive else "him"
        return like(other, word)


def pairs_of(table: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    """The pairs of a user's table."""
    return [(word, other) for word, others in table.items() for other in others]


def own_pairs() -> list[tuple[str, str]]:
    """The pairs that Cutaway brings, English and Chinese."""
    listed = (pair.split() for pair in f"{ENGLISH}, {CHINESE}".split(","))
    return [(one, other) for one, other in listed]
