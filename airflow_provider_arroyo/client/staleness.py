"""Whether a response is an old one, which a cache sent: it says nothing of what runs now."""

from __future__ import annotations

import re

from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.text import shorten

MAX_AGE_SECONDS = 2
"""How old a response may be, where a cache says so in the header ``age``. Arroyo sends none."""

_CACHES_SAY = (
    "cache-status",
    "cf-cache-status",
    "x-cache",
    "x-cache-status",
    "x-proxy-cache",
    "x-varnish-cache",
)
"""Headers in which a cache says whether it had the response, with an age or without one, as nginx."""

_HAD_IT = re.compile(r"(?:^|[\s,;_])(hit|stale|updating)(?![^\s,;])", re.IGNORECASE)


def what_a_cache_says(response: HttpResponse) -> str | None:
    """Return how old a response is, in words; None where it is fresh, as far as its headers tell.

    :param response: whose headers count.
    """
    ages = [one.strip() for one in response.headers.get("age", "").split(",")]
    # Each of several caches may add its own.
    if known := [int(one[:10]) for one in ages if one.isdecimal()]:
        return f"{max(known)} s old" if max(known) > MAX_AGE_SECONDS else None
    for name in _CACHES_SAY:
        if _HAD_IT.search(said := response.headers.get(name, "")):
            return f"of unknown age ({name}: {shorten(said, 40)})"
    return None
