"""The names of classes as the `config.json` of a Hugging Face folder has them: number to name, and name to number."""

from typing import Any


def labels_from_hf(values: dict[str, Any]) -> tuple[str, ...]:
    """Names by number; two that nobody named are not written there.

    >>> labels_from_hf({"id2label": {"1": "dog", "0": "cat"}})
    ('cat', 'dog')
    """
    names = values.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return tuple(str(names[key]) for key in sorted(names, key=int))


def labels_to_hf(labels: tuple[str, ...]) -> dict[str, Any]:
    """The two fields, or none of them where there is no label."""
    if not labels:
        return {}
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
