"""The sentences of passages that say most about a question: what a small model can keep in mind.

A model of a hundred million parameters loses the question among several hundred tokens of context; among a handful of
sentences it does not, and the reply starts several times sooner.
"""

import re
from collections.abc import Sequence

from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.full_text import coverage, is_chinese, terms
from cutaway.retrieve.index import Hit
from cutaway.text.sentences import sentences

_QUESTION = re.compile(r"[?？][\"'”’」』*]*$")
WORDS_WEIGHT = 0.5  # of shared words, beside the similarity of meaning (both 0…1)


def best_sentences(question: str, passages: Sequence[Hit], embedder: Embedder, n: int) -> tuple[list[str], str]:
    """The n sentences nearest to the question in meaning and words, in the order in which they stand, each once; and the
    nearest of them. What a sentence means is read under its heading, which often names what it only calls 'it'. Questions are
    left out: one in the passages that is like the user's would be the nearest, and say nothing.

    For a Chinese question words alone count, since the packaged encoder reads English.
    """
    headings = {
        " ".join(hit.text[start:end].split()): hit.heading
        for hit in passages
        for start, end in sentences(hit.text)
        if not _QUESTION.search(hit.text, start, end)
    }
    if not headings:
        return [], ""
    found, wanted = list(headings), terms(question)
    scores = [WORDS_WEIGHT * coverage(wanted, terms(sentence)) for sentence in found]
    if not is_chinese(question):
        question_D = embedder.encode([question])[0]
        vectors_ND = embedder.encode([": ".join(filter(None, (heading, one))) for one, heading in headings.items()])
        scores = [score + cosine for score, cosine in zip(scores, (vectors_ND @ question_D).tolist(), strict=True)]
    best = sorted(range(len(found)), key=lambda i: -scores[i])[:n]
    return [found[i] for i in sorted(best)], found[best[0]]
