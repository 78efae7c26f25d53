"""What a multimodal model says to interleaved parts."""

from collections.abc import Sequence
from typing import Any

from cutaway.core.errors import ConfigError, RequestError, near_matches
from cutaway.data.parts import Part, Row, encode_prompt
from cutaway.infer.request import Request
from cutaway.models.load import Loaded
from cutaway.models.omni import Omni
from cutaway.nn.media import MEDIA


def part_from_word(word: str) -> Part:
    """A part as it is typed: `text=what is this?`, `image=cat.png`, `audio=meow.wav`, `video=1.png,2.png`.

    Raises:
        RequestError: it is none of these.
    """
    kind, sign, content = word.partition("=")
    if kind not in ("text", *MEDIA) or not sign or not content:
        raise RequestError(
            "is no part", field="parts", value=word, hint=f"kind=content; {near_matches(kind, ('text', *MEDIA))}"
        )
    if kind == "text":
        return Part(kind, content)
    return Part(kind, files=tuple(content.split(",")) if kind == "video" else (content,))


def request(loaded: Loaded, parts: Sequence[Part], **settings: Any) -> Request:
    """The request that continues the parts; `settings` are those of `Request`.

    Raises:
        ConfigError: the model reads no media.
        DataError: a file is missing or does not decode.
    """
    model = loaded.model
    if not isinstance(model, Omni):
        raise ConfigError("reads no media", field="model", value=loaded.name, hint="train one: cutaway omni train")
    prompt = encode_prompt(Row(tuple(parts), "parts"), loaded.tokenizer, model.config.media, model.config.media_ids)
    inputs = {"features_BTF": prompt.features_TF, "places_BT": prompt.places_T}
    return Request(prompt.ids.tolist(), inputs=inputs, **settings)
