"""What one request may ask for at most."""

from cutaway.core.errors import RequestError
from cutaway.serve.config import ServeConfig
from cutaway.serve.protocol import Generation


def check_limits(config: ServeConfig, body: Generation, prompts: int, max_tokens: int | None) -> None:
    """Refuse a request that asks for too much.

    Raises:
        RequestError: names the field, and the limit.
    """

    def refuse(field: str, what: str, most: int) -> None:
        raise RequestError(what, field=field, hint=f"at most {most}")

    if body.n * prompts > config.max_n:
        field = "n" if body.n > 1 else "prompt"
        refuse(field, "more replies than one request may ask for", config.max_n)
    if config.max_tokens and (max_tokens or 0) > config.max_tokens:
        refuse("max_tokens", "more than this server writes", config.max_tokens)
    if len(body.stops) > config.max_stop:
        refuse("stop", "holds too many strings", config.max_stop)
    if any(len(stop) > config.max_stop_chars for stop in body.stops):
        refuse("stop", "holds a string with too many characters", config.max_stop_chars)
    if len(body.logit_bias or ()) > config.max_logit_bias:
        refuse("logit_bias", "names too many tokens", config.max_logit_bias)
