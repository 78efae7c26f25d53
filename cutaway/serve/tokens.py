"""`POST /tokenize`, `POST /detokenize` (as vLLM has them) and `POST /v1/tokenize`: texts and conversations to tokens and back."""

import asyncio
from typing import Any

from fastapi import APIRouter

from cutaway.core.errors import RequestError
from cutaway.serve.completions import Prompt
from cutaway.serve.protocol import DetokenizeRequest, PiecesRequest, TokenizeRequest
from cutaway.serve.service import Service
from cutaway.serve.tools import ToolUse
from cutaway.text.chat import CHATML


def token_routes(service: Service) -> APIRouter:
    """The routes, on this service."""
    router = APIRouter()
    tokenizer = service.tokenizer

    @router.post("/v1/tokenize")
    async def pieces(body: PiecesRequest) -> dict[str, Any]:
        service.check_model(body.model)
        found = await asyncio.to_thread(tokenizer.pieces, body.text)
        tokens = [{"id": piece.id, "text": piece.text, "start": piece.start, "end": piece.end} for piece in found]
        return {"ids": [piece.id for piece in found], "tokens": tokens, "count": len(found)}

    @router.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        service.check_model(body.model)
        ids = await asyncio.to_thread(_ids, service, body)
        return {"tokens": ids, "count": len(ids), "max_model_len": service.engine.context}

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> dict[str, Any]:
        service.check_model(body.model)
        for number, id in enumerate(body.tokens):
            if not 0 <= id < tokenizer.vocab_size:
                raise RequestError("no such token", field=f"tokens.{number}", value=id)
        return {"prompt": await asyncio.to_thread(tokenizer.decode, body.tokens, False)}

    return router


def _ids(service: Service, body: TokenizeRequest) -> list[int]:
    if body.messages:
        use = ToolUse(body, service.tokenizer.chat_template or CHATML)
        messages = use.messages(body.messages)
        return service.renderer.render(messages, use.offered(), generation_prompt=body.add_generation_prompt).ids
    read = Prompt.read(body.prompt or "", service.tokenizer)
    return read.ids if body.add_special_tokens else read.ids[read.added :]
