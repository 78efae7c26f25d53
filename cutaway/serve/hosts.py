"""Which names a server answers to.

A page from elsewhere can have its own name point to 127.0.0.1 (DNS rebinding) and then read what a server without a key
tells. Its requests carry that name in `Host`, so a server that listens on a loopback address answers only to names of such
addresses.
"""

from collections.abc import Sequence
from ipaddress import ip_address


def answers_to(host: str, bound: str, allowed: Sequence[str] = ()) -> bool:
    """Whether a request with this `Host` header is meant for the server.

    Args:
        bound: the address that the server listens on.
        allowed: more names; given ones count for every address.

    >>> answers_to("localhost:8000", "127.0.0.1"), answers_to("evil.example:8000", "127.0.0.1")
    (True, False)
    >>> answers_to("any.example", "0.0.0.0"), answers_to("any.example", "0.0.0.0", ["one.example"])
    (True, False)
    """
    name = _name(host)
    if name in {_name(one) for one in allowed}:
        return True
    return is_loopback(name) if is_loopback(_name(bound)) else not allowed or name == _name(bound)


def is_loopback(name: str) -> bool:
    """Whether a name or address can only be this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """Without port, brackets and the dot at the end."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name = host if host.count(":") > 1 else host.partition(":")[0]
    return name.removesuffix(".")
