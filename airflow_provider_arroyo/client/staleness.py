"""Whether a response is an old one, which a cache sent: it says nothing of what runs now."""

from __future__ import annotations

import re

from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.text import shorten

MAX_AGE_SECONDS = 2
"""How much older than its request a response may be, where a cache says so in ``age``. Arroyo sends none."""

_CACHES_SAY = (
    "cache-status",
    "cf-cache-status",
    "x-cache",
    "x-cache-status",
    "x-proxy-cache",
    "x-varnish-cache",
)
"""Headers in which a cache says whether it had the response, with an age or without one, as nginx."""

_STALE_WARNING = re.compile(r"(?:^|,)\s*11[0-3] ")
"""What older caches say in the header ``warning``: stale, not validated again, disconnected, kept by a guess."""

_HAD_IT = re.compile(r"(?:^|[\s,;_])(hit|stale|updating)(?![^\s,;])", re.IGNORECASE)


def what_a_cache_says(response: HttpResponse) -> str | None:
    """Return how old a response is, in words; None where it is fresh, as far as its headers tell.

    :param response: whose headers count.
    """
    ages = [one.strip() for one in response.headers.get("age", "").split(",")]
    # Each of several caches may add its own.
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
