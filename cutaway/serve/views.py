"""`POST /v1/inspect/views`: the whole model on a text, in the ways of `lens.views`."""

import asyncio
import copy
from dataclasses import replace

import torch
from fastapi import APIRouter, Response
from pydantic_core import to_json
from torch import nn

from cutaway.core.errors import BusyError, RequestError, near_matches
from cutaway.lens.views import VIEWS
from cutaway.models.load import Loaded
from cutaway.serve.protocol import ViewRequest
from cutaway.serve.service import Service


def view_routes(service: Service) -> APIRouter:
    """The route, on this service; one view at a time."""
    router, looking = APIRouter(), asyncio.Lock()

    @router.post("/v1/inspect/views")
    async def views(body: ViewRequest) -> Response:
        service.check_model(body.model)
        if body.what not in VIEWS:
            raise RequestError("no such view", field="what", value=body.what, hint=near_matches(body.what, VIEWS))
        ids = service.tokenizer.encode(body.text)
        if len(ids) > service.config.max_view_tokens:
            limit = f"at most {service.config.max_view_tokens} tokens"
            raise RequestError("is too long for a view", field="text", value=f"{len(ids)} tokens", hint=limit)
        if looking.locked():
            raise BusyError("another view is being computed; try again shortly")
        async with looking:
            twin = await service.worker.call(lambda: twin_of(service.loaded.model))
            found = await asyncio.to_thread(_look, replace(service.loaded, model=twin), body.what, ids)
        return Response(found, media_type="application/json")

    return router


def twin_of(model: nn.Module) -> nn.Module:
    """A model with modules and parameters of its own on the same memory.

    Hooks and `requires_grad` of the twin are not those of the model, so it can be looked at while the model serves. Some
    views take half a minute and more (singular values of everything): on the engine's thread every reply would wait for them.
    """
    shared: dict[int, object] = {id(weight): nn.Parameter(weight.detach(), False) for weight in model.parameters()}
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, shared)


def _look(loaded: Loaded, what: str, ids: list[int]) -> bytes:
    x = torch.tensor([ids], dtype=torch.int64, device=loaded.model.embedding.weight.device)
    view = VIEWS[what](loaded, x)
    told = {"what": what, "title": view.title, "columns": view.columns, "rows": view.rows, "data": view.data}
    return to_json(told, inf_nan_mode="null")
