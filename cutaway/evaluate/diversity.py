"""How varied, or how repetitive, generated text is."""

from collections.abc import Hashable, Sequence


def distinct_n(sequences: Sequence[Sequence[Hashable]], n: int) -> float:
    """Different n-grams over all n-grams of all sequences, 0 to 1 (Li et al. 2016); 1 where there is none to repeat.

    >>> distinct_n([[1, 2, 1, 2, 1]], 2)
    0.5
    """
    grams = [tuple(one[i : i + n]) for one in sequences for i in range(len(one) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def self_bleu(texts: Sequence[str]) -> float:
    """The mean BLEU of each text against all the others, 0 to 100 (Zhu et al. 2018): high when they resemble each other."""
    from sacrebleu.metrics import BLEU

    assert len(texts) > 1, "one text has no others"
    bleu = BLEU(effective_order=True)
    scores = [bleu.sentence_score(text, [*texts[:i], *texts[i + 1 :]]).score for i, text in enumerate(texts)]
    return sum(scores) / len(scores)
