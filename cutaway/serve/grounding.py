"""`documents`: passages into the prompt before the reply, and what each of its sentences rests on after it."""

from typing import Any

from cutaway.core.errors import RequestError
from cutaway.retrieve.answer import Grounding, conclude, ground
from cutaway.serve.protocol import Documents
from cutaway.serve.service import Service


async def put_passages(service: Service, messages: list[dict[str, Any]], wanted: bool | Documents) -> Grounding:
    """Search for the last question, on the engine's thread, and put what was found before it.

    Raises:
        RequestError: the server has no index, or the conversation does not end with a question.
    """
    index = service.index
    if index is None:
        raise RequestError("the server has no index", field="documents", hint="start it with --index FOLDER")
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise RequestError("must end with a question of the user's", field="messages")
    asked = wanted if isinstance(wanted, Documents) else Documents()

    def search() -> Grounding:
        index.refresh()
        return ground(messages[-1]["content"], index, messages[:-1], asked.k, asked.where)

    return await service.worker.call(search)


def explain(grounding: Grounding, text: str) -> dict[str, Any]:
    """What a reply rests on, as docs/api.md has it."""
    told = conclude(text, grounding).json()
    told["answered"] = told.pop("answerable")
    return {name: value for name, value in told.items() if name not in ("question", "timings")}
