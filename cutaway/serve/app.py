"""The application: every route on one service.

app = create_app(ServeConfig(), load("smollm2-135m-instruct"), index=Index.open(folder))
run(app)
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from torch import nn

from cutaway import __version__
from cutaway.core.files import resource
from cutaway.models.load import Loaded
from cutaway.retrieve.embed import Embedder
from cutaway.retrieve.index import Index
from cutaway.serve import errors
from cutaway.serve.chat import chat_routes
from cutaway.serve.completions import completion_routes
from cutaway.serve.config import ServeConfig
from cutaway.serve.gallery import gallery_routes
from cutaway.serve.guard import Guard, Traffic
from cutaway.serve.page import Page
from cutaway.serve.responses import response_routes
from cutaway.serve.routes import health_routes, inspection_routes, model_routes
from cutaway.serve.service import Service
from cutaway.serve.tokens import token_routes
from cutaway.serve.views import view_routes


def create_app(
    config: ServeConfig,
    loaded: Loaded,
    index: Index | None = None,
    embedder: Embedder | None = None,
    adapters: Mapping[str, nn.Module] | None = None,
) -> FastAPI:
    """Build the application; its engine's thread runs from start-up to shut-down.

    Args:
        index: what `documents: true` answers from.
        embedder: what `/v1/embeddings` serves; that of the index by default.
        adapters: variants of the model by name (`serve.adapters`), served beside it.

    Raises:
        ResourceError: no memory for the engine's cache.
    """
    service, traffic, page = (
        Service(config, loaded, index, embedder, adapters or {}),
        Traffic(),
        Page(resource("web")),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await service.worker.stop()

    # No pages of API documentation: they load scripts from elsewhere.
    app = FastAPI(
        title="Cutaway", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.service, app.state.traffic = service, traffic
    errors.install(app, config.retry_after)
    for router in (
        chat_routes(service),
        completion_routes(service),
        response_routes(service),
        token_routes(service),
        model_routes(service),
        inspection_routes(service),
        view_routes(service),
        gallery_routes(config.labs),
        health_routes(service, traffic),
    ):
        app.include_router(router)
    app.router.default = page  # not a mount at /, which would take the wrong methods of other routes for its own
    app.add_middleware(
        Guard,
        config=config,
        traffic=traffic,
        metrics=service.metrics,
        texts=service.tokenizer if config.log_texts else None,
        is_open=lambda path: path in ("/health", "/ready") or page.has(path),
    )
    return app
