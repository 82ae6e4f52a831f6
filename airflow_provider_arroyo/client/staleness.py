"""Detects stale responses from a cache, which say nothing about the current state."""

from __future__ import annotations

import re

from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.text import shorten

MAX_AGE_SECONDS = 2
"""How much older than its request a response may be, by its header ``age``. Arroyo sends none."""

_CACHES_SAY = (
    "cache-status",
    "cf-cache-status",
    "x-cache",
    "x-cache-status",
    "x-proxy-cache",
    "x-varnish-cache",
)
"""Headers in which a cache, such as nginx, says whether it had the response, with or without an age."""

_STALE_WARNING = re.compile(r"(?:^|,)\s*11[0-3] ")
"""What older caches say in the header ``warning``: stale, revalidation failed, disconnected, heuristic expiration."""

_HAD_IT = re.compile(r"(?:^|[\s,;_])(hit|stale|updating)(?![^\s,;])", re.IGNORECASE)


def what_a_cache_says(response: HttpResponse) -> str | None:
    """Return how old a response is, in words; None if its headers do not say that it is old."""
    ages = [one.strip() for one in response.headers.get("age", "").split(",")]
    # Several caches may each add their own value.
    if known := [int(one[:10]) for one in ages if one.isdecimal()]:
        # Some count the time that the server took for it.
        allowed = MAX_AGE_SECONDS + response.took_seconds
        if max(known) <= allowed:
            return None
        return f"{max(known)} s old by its Age, or the clock of the gateway or of Arroyo's machine is wrong"
    for name, means_old in {**dict.fromkeys(_CACHES_SAY, _HAD_IT), "warning": _STALE_WARNING}.items():
        if means_old.search(said := response.headers.get(name, "")):
            return f"of unknown age ({name}: {shorten(said, 40)})"
    return None
