"""`documents`: passages into the prompt, and what each sentence of the reply rests on."""

from dataclasses import dataclass
from typing import Any

from cutaway.core.errors import RequestError
from cutaway.retrieve.index import Hit
from cutaway.serve.protocol import Documents
from cutaway.serve.service import Service


@dataclass(frozen=True)
class Grounding:
    """A conversation whose last question carries passages, and those passages, numbered from 1."""

    messages: list[dict[str, str]]
    hits: list[Hit]
    service: Service

    def explain(self, text: str) -> dict[str, Any]:
        """What the reply rests on, as docs/api.md has it."""
        from cutaway.retrieve.answer import attribute

        return attribute(text, self.hits)


async def ground(service: Service, messages: list[dict[str, str]], wanted: bool | Documents) -> Grounding:
    """Search for the last question and put what was found into the conversation.

    Raises:
        RequestError: the server has no index, or the conversation does not end with a question.
    """
    from cutaway.retrieve.answer import ground as put

    raise RequestError("the server has no index; start it with --index", field="documents")
