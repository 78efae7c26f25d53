"""One line of JSON per request: what was asked for, how it ended, how long it took; what people wrote only where it is wanted."""

import json
import logging
import re
import sys
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from starlette.types import Scope

from cutaway.serve.service import Replies
from cutaway.text.tokenizer import Tokenizer

log = logging.getLogger("cutaway.requests")
_ID = re.compile(r"[\w.-]{1,128}")


def to_stderr() -> None:
    """Write the lines, and nothing else, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def request_id(given: bytes | None) -> str:
    """The client's own `X-Request-Id`, if it is a short word; else a new one."""
    text = (given or b"").decode("latin-1")
    return text if _ID.fullmatch(text) else uuid4().hex


def note(scope: Scope, id: str, status: int, seconds: float, texts: Tokenizer | None = None) -> None:
    """Log a request that ended.

    Args:
        texts: decodes prompts and replies, which are then logged too.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    told: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "id": id,
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", "other"),
        "status": status,
        "seconds": round(seconds, 4),
    }
    if isinstance(replies := scope.get("replies"), Replies):
        told |= _of_replies(replies, texts)
    log.info(json.dumps(told))


def _of_replies(replies: Replies, texts: Tokenizer | None) -> dict[str, Any]:
    usage, ends = replies.usage, [outputs[-1].finish_reason if outputs else None for outputs in replies.outputs]
    told: dict[str, Any] = {
        "model": replies.model,
        "first_token_seconds": replies.timings["first_token_seconds"],
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "finish": [end or "cancelled" for end in ends],
    }
    if texts:
        told["prompts"] = [texts.decode(request.prompt_ids, skip_special=False) for request in replies.requests]
        told["replies"] = [_joined(outputs) for outputs in replies.outputs]
    return told


def _joined(outputs: Sequence[Any]) -> str:
    return "".join(output.text for output in outputs)
