"""Headers that a connection may add to every request, and those that it may not."""

from __future__ import annotations

import re

_REFUSED = {
    r"accept(-encoding)?|cache-control|connection|content-.+|expect|keep-alive|proxy-connection|te|trailer"
    r"|transfer-encoding|upgrade": "it controls how messages are framed and encoded, which the client does itself",
    r"if-.+|range": "the response would be incomplete",
    r"x-(http-)?method(-override)?": "it turns a request into a different one",
    r"proxy-authorization": "put the login in the proxy's address, in proxies",
    # Otherwise two servers would have the same address, and a wait could confuse them.
    r"host": "set host to that name and, for http, set proxies to the address that serves it",
}
"""Headers that would break requests or change their meaning, with the reason why each is refused."""

_HARMLESS_VALUES = {
    "accept": ("application/json", "*/*"),
    "accept-encoding": ("gzip", "deflate", "identity"),
    "cache-control": ("no-cache", "no-store", "max-age=0"),
    "connection": ("keep-alive", "close"),
    "content-type": ("application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"),
}
"""Values that are allowed for some of them: those that the client sends itself, or that are equally safe."""


def check_header_name(name: str, value: str) -> None:
    """Check that a header may be sent with every request.

    :raises ValueError: if it may not; says why. Never shows the value, which may be a secret.
    """
    if not name or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name):
        # The value may have been written there too.
        begins = re.match(r"[\w.-]{0,30}", name, re.ASCII)
        raise ValueError(f"headers: {begins and begins[0]!r}… is not the name of a header")
    # Some gateways treat an underscore as a hyphen.
    plain = name.lower().replace("_", "-")
    allowed = _HARMLESS_VALUES.get(plain, ())
    if allowed and {one.strip() for one in value.lower().split(",")} <= {*allowed}:
        return
    for pattern, why in _REFUSED.items():
        if re.fullmatch(pattern, plain):
            but = f". Only {', '.join(map(repr, allowed))} may be" if allowed else ""
            raise ValueError(f"headers: {name!r} must not be set: {why}{but}")


def check_header_value(name: str, value: str) -> None:
    """Check that a value can be sent in a header.

    :raises ValueError: if it cannot; names the setting. Never shows the value, which may be a secret.
    """
    if not value or value != value.strip():
        raise ValueError(f"{name} must not be empty, nor begin or end with white space or a line break")
    if not all(" " <= c <= "~" or c == "\t" for c in value):
        raise ValueError(f"{name} must hold only printable ASCII characters, on one line")
