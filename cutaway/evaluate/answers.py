"""How well answers rest on the documents: a small evaluation by questions whose source is known."""

from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.retrieve.answer import Answer


@dataclass(frozen=True)
class Asked:
    """A question's answer and the source that holds it; None when the documents hold no answer."""

    answer: Answer
    source: str | None


def measure_answers(asked: Sequence[Asked]) -> dict[str, float]:
    """Shares, 0…1, over what each can be counted on; a share of nothing is left out.

    `hit_rate`: the source is among the passages. `unsupported_sentences`: sentences that no passage supports.
    `false_refusals`, `false_answers`: refused though a source holds the answer, answered though none does.
    """
    held = [one for one in asked if one.source is not None]
    not_held = [one for one in asked if one.source is None]
    sentences = [sentence for one in asked for sentence in one.answer.sentences]
    shares = {
        "hit_rate": [any(hit.source == one.source for hit in one.answer.passages) for one in held],
        "unsupported_sentences": [not sentence.supported for sentence in sentences],
        "false_refusals": [not one.answer.answerable for one in held],
        "false_answers": [one.answer.answerable for one in not_held],
    }
    return {name: sum(values) / len(values) for name, values in shares.items() if values}
