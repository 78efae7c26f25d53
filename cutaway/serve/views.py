"""`POST /v1/inspect/views`: the whole model on a text, or on parts where it reads such, in the ways of `lens.views`."""

import asyncio
from dataclasses import replace

import torch
from fastapi import APIRouter, Response
from pydantic_core import to_json

from cutaway.core.errors import BusyError, DataError, RequestError, near_matches
from cutaway.data.audio import duration
from cutaway.data.parts import Row
from cutaway.lens.inputs import read_parts
from cutaway.lens.layers import Input, ids_of
from cutaway.lens.views import VIEWS
from cutaway.models.load import Loaded
from cutaway.models.omni import Omni
from cutaway.models.twin import twin_of
from cutaway.nn.media import MediaConfig
from cutaway.quant.tensor import dequantise
from cutaway.serve.protocol import ViewRequest
from cutaway.serve.service import Service


def view_routes(service: Service) -> APIRouter:
    """The route, on this service; one view at a time."""
    router, looking = APIRouter(), asyncio.Lock()

    @router.post("/v1/inspect/views")
    async def views(body: ViewRequest) -> Response:
        if body.what not in VIEWS:
            raise RequestError("no such view", field="what", value=body.what, hint=near_matches(body.what, VIEWS))
        if looking.locked():
            raise BusyError("another view is being computed; try again shortly")
        loaded = service.loaded_as(body.model)
        async with looking:
            # Some views take half a minute: on the engine's thread, and on its model, every reply would wait for them.
            twin = await service.worker.call(lambda: twin_of(loaded.model))
            found = await asyncio.to_thread(_look, replace(loaded, model=twin), body, service.config.max_view_tokens)
        return Response(found, media_type="application/json")

    return router


def _look(loaded: Loaded, body: ViewRequest, most: int) -> bytes:
    dequantise(loaded.model)  # views read weights, and ask for their gradients
    view = VIEWS[body.what](loaded, _input(loaded, body, most))
    told = {"what": body.what, "title": view.title, "columns": view.columns, "rows": view.rows, "data": view.data}
    return to_json(told, inf_nan_mode="null")


def _input(loaded: Loaded, body: ViewRequest, most: int) -> Input:
    """What is looked at, of `most` positions at the most; files are decoded here, and not on the server's own thread.

    Raises:
        RequestError: more positions. CutawayError: what is wrong with a part.
    """
    if body.parts is None:
        ids = loaded.tokenizer.encode(body.text or "")
        x: Input = torch.tensor([ids], dtype=torch.int64, device=loaded.model.embedding.weight.device)
    else:
        row = Row(tuple(given.part for given in body.parts), "parts")
        if isinstance(loaded.model, Omni):
            _check_sounds(row, loaded.model.config.media, most)
        try:
            x = read_parts(loaded, row)
        except DataError as err:  # whose field reads `parts image`
            field = (err.field or "parts").replace(" ", ".")
            raise DataError(err.message, field=field, value=err.value, hint=err.hint) from None
    if ids_of(x).shape[1] > most:
        field, value = ("text" if body.parts is None else "parts"), f"{ids_of(x).shape[1]} tokens"
        raise RequestError("is too long for a view", field=field, value=value, hint=f"at most {most} tokens")
    return x


def _check_sounds(row: Row, media: MediaConfig, most: int) -> None:
    """Refuse long sounds before they are decoded: a few kilobytes can hold hours of silence."""
    limit = most * media.stack * media.hop_length / media.sampling_rate
    for part in row.parts:
        if part.kind == "audio" and (seconds := duration(part.files[0])) > limit:
            raise RequestError(
                "is too long for a view", field="parts.audio", value=f"{seconds:.3g} s", hint=f"at most {limit:.3g} s"
            )
