"""ROUGE (Lin 2004): how much of a reference text another text says, by the words they share. The usual measure of summaries."""

import re
from collections.abc import Sequence

from cutaway.core.errors import ResourceError
from cutaway.data.units import words

KINDS = ("rouge1", "rouge2", "rougeL")  # single words, pairs of neighbours, the longest common subsequence


class Words:
    """The tokeniser that rouge-score asks for, for every script.

    On English its words are those of ROUGE-1.5.5 without stemming, so that scores can be compared with published ones. The
    tokeniser of rouge-score keeps a-z and 0-9 alone: a Chinese text would have no words. Here each Chinese character is one.
    """

    def tokenize(self, text: str) -> list[str]:
        return words(re.sub("['’]", " ", text.lower()))


def rouge(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The mean F1 of all pairs, 0 to 100, for each of `KINDS`. Pairs without a word on either side are left out, as in BLEU.

    Raises:
        ResourceError: rouge-score is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError:
        raise ResourceError("rouge-score is not installed, and ROUGE needs it", hint="pip: rouge-score") from None
    scorer = RougeScorer(KINDS, tokenizer=Words())
    pairs = [pair for pair in zip(texts, references, strict=True) if any(map(words, pair))]
    scores = [scorer.score(reference, text) for text, reference in pairs]
    return {kind: 100 * sum(score[kind].fmeasure for score in scores) / max(1, len(scores)) for kind in KINDS}
