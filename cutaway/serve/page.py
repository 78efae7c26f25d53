"""The page at `/`: files, with the headers that keep it to itself."""

from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


class Page(StaticFiles):
    """The folder `web`. A browser keeps files and asks each time whether they are still right (ETag)."""

    def __init__(self, folder: Path):
        super().__init__(directory=folder, html=True)
        self._paths = {
            "/",
            *(f"/{file.relative_to(folder).as_posix()}" for file in folder.rglob("*") if file.is_file()),
        }

    def has(self, path: str) -> bool:
        """Whether the path of a request is one of the page's files."""
        return path in self._paths

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, with the headers that keep the page to itself."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response
