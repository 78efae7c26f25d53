"""Every error in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

import json
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from cutaway.core.errors import BusyError, ContextLengthError, CutawayError

TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    499: "cancelled",
    500: "server_error",
    503: "unavailable_error",
}


class Missing(HTTPException):
    """Something named in the request does not exist."""

    def __init__(self, message: str, param: str, code: str | None = None):
        super().__init__(404, message)
        self.param, self.code = param, code


class EngineFailed(Exception):  # noqa: N818 - what happened
    """A step of the engine raised; the requests that ran are lost, the server goes on."""


def error_body(message: str, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The object that is sent."""
    return {
        "error": {"message": message, "type": TYPES.get(status, "invalid_request_error"), "param": param, "code": code}
    }


def error_response(
    status: int, message: str, param: str | None = None, code: str | None = None, retry_after: int | None = None
) -> Response:
    """The object as a response. Escaped, since a message may quote what is no valid Unicode."""
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = json.dumps(error_body(message, status, param, code))
    return Response(body, status, headers, media_type="application/json")


def told(err: Exception) -> dict[str, Any]:
    """The error object of whatever ended a reply that was already on its way."""
    if isinstance(err, CutawayError):
        return error_body(str(err), err.http_status, err.field)
    return error_body(str(err) if isinstance(err, EngineFailed) else "the server failed", 500)


def install(app: FastAPI, retry_after: int) -> None:
    """Answer every kind of error in that shape."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, err: RequestValidationError) -> Response:
        message, param = explain(err)
        return error_response(400, message, param)

    @app.exception_handler(CutawayError)
    async def mistake(request: Request, err: CutawayError) -> Response:
        code = "context_length_exceeded" if isinstance(err, ContextLengthError) else None
        again = retry_after if isinstance(err, BusyError) else None
        return error_response(err.http_status, str(err), err.field, code, again)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, err: HTTPException) -> Response:
        return error_response(err.status_code, err.detail, getattr(err, "param", None), getattr(err, "code", None))

    @app.exception_handler(EngineFailed)
    async def failed(request: Request, err: EngineFailed) -> Response:
        return error_response(500, str(err))

    @app.exception_handler(Exception)
    async def defect(request: Request, err: Exception) -> Response:
        return error_response(500, "the server failed; its log says why")


def explain(err: RequestValidationError) -> tuple[str, str | None]:
    """What is wrong with one field, and its path.

    Where a field may have several types pydantic reports each. The path is followed in the body so that their names drop out,
    and the deepest is told: it is the type that nearly fitted.
    """
    found: dict[str, list[str]] = {}
    for item in err.errors():
        if item["type"] == "json_invalid":
            return f"the body is not JSON: {item.get('ctx', {}).get('error', item['msg'])}", None
        path, value = [], err.body
        *parents, last = item["loc"]
        for part in parents:
            if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
                path.append(str(part))
                value = value[part]
        if item["type"] == "missing" or (isinstance(value, dict | list) and last != "body" and _holds(value, last)):
            path.append(str(last))
        message = {"extra_forbidden": "is unknown or not supported", "missing": "is required"}.get(item["type"])
        found.setdefault(".".join(path), []).append(message or item["msg"].removeprefix("Value error, "))
    param, messages = max(found.items(), key=lambda item: item[0].count("."))
    text = " or ".join(dict.fromkeys(messages))
    return (f"{param}: {text}" if param else text), param or None


def _holds(value: Any, part: Any) -> bool:
    return part in value if isinstance(value, dict) else isinstance(part, int)
