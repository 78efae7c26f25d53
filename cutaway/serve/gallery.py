"""`/v1/labs`: what `cutaway labs run` wrote, read from its folder at each request."""

import json
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import FileResponse

from cutaway.core.errors import DataError
from cutaway.serve.errors import Missing

_PLOT = re.compile(r"lab\d\d\.(png|svg)")
# A picture is opened on its own only by hand; even then it may run nothing.
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-cache"}


def gallery_routes(folder: Path | None) -> APIRouter:
    """The routes, on this folder."""
    router = APIRouter()

    @router.get("/v1/labs")
    def labs() -> dict[str, Any]:
        return {"labs": _records(folder)}

    @router.get("/v1/labs/{name}", response_model=None)
    def lab(name: str) -> dict[str, Any] | FileResponse:
        if folder and _PLOT.fullmatch(name) and (folder / name).is_file():
            return FileResponse(folder / name, headers=_HEADERS)
        for record in _records(folder):
            if str(record["id"]) == name:
                return record
        raise Missing(f"no such lab: {name!r}", "name")

    return router


def _records(folder: Path | None) -> list[dict[str, Any]]:
    report = folder / "report.json" if folder else None
    if report is None or not report.is_file():
        return []
    try:
        records = json.loads(report.read_text(encoding="utf-8"))
        return [{**record, "plots": [f"/v1/labs/{name}" for name in record["plots"]]} for record in records]
    except (ValueError, KeyError, TypeError):
        raise DataError("is damaged", field="labs", value=str(report), hint="run the labs again") from None
