"""A small evaluation of an index and a model on the user's own documents, for which nobody has written questions.

Known-item search: a sentence of a passage is asked for, and its document must be found. Answers: headings become questions.
And a few questions about nothing that documents are likely to hold must be refused.
"""

import random
from typing import Any

from cutaway.evaluate.answers import Asked, measure_answers
from cutaway.retrieve.answer import Generate, answer
from cutaway.retrieve.full_text import is_chinese
from cutaway.retrieve.index import Hit, Index
from cutaway.text.sentences import sentences

SEARCHES, ANSWERS = 20, 2
FOREIGN = (
    "Which striker scored the winning goal in the 1934 village cup?",
    "How many eggs does my grandmother's sponge cake need?",
    "What colour is the mayor's bicycle?",
    "一九三四年村庄杯足球赛的制胜球是谁踢进的？",
    "奶奶做的海绵蛋糕要放几个鸡蛋？",
    "市长的自行车是什么颜色的？",
)


def evaluate_documents(index: Index, generate: Generate, seed: int = 0) -> dict[str, Any]:
    """Measure; the shares of `measure_answers`, and `known_item` for the searches.

    Args:
        generate: messages to a reply.
        seed: picks the passages.
    """
    passages = [passage for passage in map(index.passage, index.ids) if passage]
    chosen = random.Random(seed).sample(passages, min(SEARCHES, len(passages)))
    found = [any(hit.source == one.source for hit in index.search(_sentence(one), k=3)) for one in chosen]
    titled = [one for one in chosen if one.heading][:ANSWERS]
    asked = [Asked(answer(_question(one), index, generate), one.source) for one in titled]
    asked += [Asked(answer(question, index, generate), None) for question in FOREIGN]
    shares = {"known_item": sum(found) / len(found)} if found else {}
    return {
        "passages": len(index),
        "documents": len(index.sources),
        **{name: round(share, 3) for name, share in {**shares, **measure_answers(asked)}.items()},
        "questions": [one.answer.question for one in asked],
    }


def _question(passage: Hit) -> str:
    heading = passage.heading.split(" › ")[-1]
    return f"{heading}是什么？" if is_chinese(heading) else f"What about {heading}?"


def _sentence(passage: Hit) -> str:
    """The longest sentence: the one that says most."""
    start, end = max(sentences(passage.text), key=lambda span: span[1] - span[0])
    return passage.text[start:end]
