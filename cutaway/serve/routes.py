"""The small routes: models, embeddings, tokens opened, passages, health, readiness, metrics."""

import base64
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse

from cutaway.core.errors import RequestError
from cutaway.lens.layers import inputs_of
from cutaway.lens.token_report import token_report
from cutaway.retrieve.embed import Embedder
from cutaway.serve.errors import Missing
from cutaway.serve.guard import Traffic
from cutaway.serve.protocol import EmbeddingRequest, InspectRequest, RerankRequest
from cutaway.serve.service import Service


def model_routes(service: Service) -> APIRouter:
    """`/v1/models`, `/v1/embeddings`, `/v1/rerank`."""
    router = APIRouter()

    def listed() -> list[dict[str, Any]]:
        base = {"object": "model", "created": 0, "owned_by": "cutaway"}
        chat = {"kind": "chat", "context": service.engine.context, "documents": service.index is not None}
        chat["parts"] = "parts" in inputs_of(service.loaded.model)
        found: list[dict[str, Any]] = [{"id": service.loaded.name, **base, **chat}]
        found += [{"id": name, **base, **chat, "parent": service.loaded.name} for name in service.adapters]
        if service.embedder:
            found.append(
                {"id": service.embedder.name, **base, "kind": "embedding", "context": service.embedder.max_tokens}
            )
        return found

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": listed()}

    @router.get("/v1/models/{id:path}")
    async def model(id: str) -> dict[str, Any]:
        for found in listed():
            if found["id"] == id:
                return found
        raise Missing(f"no such model: {id!r}", "model", "model_not_found")

    def embedding_model(name: str | None) -> Embedder:
        if service.embedder is None:
            raise Missing("no embedding model is served", "model", "model_not_found")
        service.check_model(name, service.embedder.name)
        return service.embedder

    @router.post("/v1/rerank")
    async def rerank(body: RerankRequest) -> dict[str, Any]:
        embedder, texts = embedding_model(body.model), body.texts
        if len(texts) > service.config.max_inputs:
            raise RequestError("has too many texts", field="documents", hint=f"at most {service.config.max_inputs}")
        vectors = await service.worker.call(lambda: embedder.encode([body.query, *texts]).float())
        scores = (vectors[1:] @ vectors[0]).tolist()
        best = sorted(range(len(texts)), key=lambda number: -scores[number])[: body.top_n]
        results = [
            {"index": number, "relevance_score": scores[number]}
            | ({"document": {"text": texts[number]}} if body.return_documents else {})
            for number in best
        ]
        tokens = sum(min(count, embedder.max_tokens) for count in embedder.count([body.query, *texts]))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"id": f"rerank-{uuid4().hex}", "model": embedder.name, "results": results, "usage": usage}

    @router.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest) -> dict[str, Any]:
        embedder = embedding_model(body.model)
        texts = [body.input] if isinstance(body.input, str) else body.input
        if not texts or "" in texts:
            raise RequestError("holds no text", field="input")
        if len(texts) > service.config.max_inputs:
            raise RequestError("has too many texts", field="input", hint=f"at most {service.config.max_inputs}")
        vectors = await service.worker.call(lambda: embedder.encode(texts).float().numpy())
        as_text = body.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if as_text else row.tolist(),
            }
            for index, row in enumerate(vectors)
        ]
        tokens = sum(min(count, embedder.max_tokens) for count in embedder.count(texts))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": embedder.name, "data": data, "usage": usage}

    return router


def inspection_routes(service: Service) -> APIRouter:
    """`/v1/inspect`, `/v1/passages`."""
    router = APIRouter()

    @router.post("/v1/inspect")
    async def inspect(body: InspectRequest) -> dict[str, Any]:
        loaded = service.loaded_as(body.model)
        grammar = await service.compile("grammar", body.grammar) if body.grammar else None
        return await service.worker.call(
            lambda: token_report(
                loaded,
                body.ids,
                body.position,
                prompt_length=body.prompt_length,
                sampling=body.sampling,
                alternatives=body.alternatives,
                grammar=grammar.start() if grammar else None,
            )
        )

    @router.get("/v1/passages/{id}")
    async def passage(id: str) -> dict[str, Any]:
        found = service.index.passage(id) if service.index else None
        if found is None:
            raise Missing(f"no such passage: {id!r}", "id")
        return {name: value for name, value in asdict(found).items() if name not in ("score", "cosine", "bm25")}

    return router


def health_routes(service: Service, traffic: Traffic) -> APIRouter:
    """`/health`: whether it lives; `/ready`: whether to send it requests now; `/metrics`."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> JSONResponse:
        alive = service.worker.alive
        return JSONResponse({"status": "alive" if alive else "failed"}, 200 if alive else 503)

    @router.get("/ready")
    async def ready() -> JSONResponse:
        worker = service.worker
        not_ready = {"failed": not worker.alive, "stopping": traffic.draining, "full": not worker.room}
        status = next((name for name, holds in not_ready.items() if holds), "ready")
        return JSONResponse({"status": status}, 200 if status == "ready" else 503)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
