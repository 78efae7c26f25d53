"""The sentences of passages that say most about a question: what a small model can keep in mind.

A model of a hundred million parameters loses the question among several hundred tokens of context; among a handful of
sentences it does not, and the reply starts several times sooner.
"""

from collections.abc import Sequence

from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.full_text import coverage, is_chinese, terms
from cutaway.text.sentences import sentences

WORDS_WEIGHT = 0.5  # of shared words, beside the similarity of meaning (both 0…1)


def best_sentences(question: str, passages: Sequence[str], embedder: Embedder, n: int) -> tuple[list[str], str]:
    """The n sentences nearest to the question in meaning and words, in the order in which they stand, each once; and the
    nearest of them. For a Chinese question words alone count, since the packaged encoder reads English."""
    found = list(dict.fromkeys(" ".join(text[a:b].split()) for text in passages for a, b in sentences(text)))
    if not found:
        return [], ""
    wanted = terms(question)
    scores = [WORDS_WEIGHT * coverage(wanted, terms(sentence)) for sentence in found]
    if not is_chinese(question):
        question_D, vectors_ND = embedder.encode([question])[0], embedder.encode(found)
        scores = [score + cosine for score, cosine in zip(scores, (vectors_ND @ question_D).tolist(), strict=True)]
    best = sorted(range(len(found)), key=lambda i: -scores[i])[:n]
    return [found[i] for i in sorted(best)], found[best[0]]
