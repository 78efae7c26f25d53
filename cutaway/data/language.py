"""Which language a text is in: a naive Bayes classifier over byte n-grams (Lui and Baldwin, 2012), which ships with py3langid."""

from functools import cache
from typing import Any

from cutaway.core.errors import ConfigError, ResourceError, near_matches

UNKNOWN = "und"  # ISO 639's code for undetermined
_ENOUGH = 1000  # characters; more seldom change the answer, and cost as much time again
_CONFIDENCE = 0.5  # below it the answer is `und`: a word or two of Latin letters could be anything


def language(text: str) -> str:
    """The ISO 639 code of a text's main language: `en`, `zh` …; `zxx` for no language (numbers, code); `und` when unsure.

    Raises:
        ResourceError: py3langid is not installed.
    """
    return _identifier().classify(text[:_ENOUGH].encode("utf-8", "replace"))[0] if text.strip() else UNKNOWN


def check_languages(codes: tuple[str, ...], field: str) -> None:
    """Raises: ConfigError: a code that `language` never gives."""
    known = {*_identifier().labels, UNKNOWN}
    for code in codes:
        if code not in known:
            raise ConfigError("unknown language", field=field, value=code, hint=near_matches(code, known))


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise ResourceError("languages need the package py3langid", hint="pip install py3langid") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=_CONFIDENCE)
