"""What a response says about its origin: Arroyo's own words, from recordings and the sources of 0.15 and 0.16, and
what caches say in headers.

A gateway may refuse a request in the same form, ``{"error": text}``, so only the words tell who refused it.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.text import shorten

ID_TAKEN = re.compile(r"A record already exists with that name( or id)?")
"""0.15 knows no id of the caller's."""

NAME_TAKEN = re.compile(r"\w+ with that name already exists")
UNKNOWN_CONNECTOR = re.compile(r"Unknown connector\b")
CHECKPOINT_GONE = re.compile(r"Checkpoint with epoch \d+ for job '.*' not found")

_PHRASES = frozenset(status.phrase.lower() for status in HTTPStatus)
"""What a gateway says where it knows no more than the status. Arroyo's words always say more."""

_MAX_PHRASE = 100

_ABOUT_SQL = re.compile(
    # 0.16
    r"Failed to plan query:"
    # 0.15: the errors of its planner, DataFusion, also within what it did at that moment
    r"|(Arrow|Avro|Execution|ExecutionJoin|External|IO|Internal|Object Store|Parquet|SQL|Schema|Substrait) error: "
    r"|Error during planning: |This feature is not implemented: |Resources exhausted: "
    r"|Invalid or Unsupported Configuration: |.{1,2000}\ncaused by\n"
    # both
    r"|invalid (Python )?UDF: |Invalid UDF .{1,200}: |Failed to build UDF: ",
    re.DOTALL,
)

_ABOUT_THE_REQUEST = re.compile(
    r"Field \w+ must be set|checkpoint_interval_micros must be between|Failed to parse the request body"
    r"|Failed to deserialize the JSON body|Expected request with `Content-Type|A record already exists"
    r"|Pipeline's jobs must be in a terminal state|cannot restart job |Cannot delete|invalid node_id"
    # The registry may be away for a moment.
    r"|Failed to register schemas|Your plan allows|You have exceeded|This pipeline is too large",
    re.IGNORECASE,
)


def only_names_status(words: str) -> bool:
    """Return whether an error's text says no more than a status does, as ``404 Not Found``."""
    # The pattern takes minutes for a long text.
    phrase = re.sub(r"^\d{3}\W*|\W+$", "", words).lower() if len(words) <= _MAX_PHRASE else words
    return not phrase or phrase in _PHRASES


def is_about_sql(words: str) -> bool:
    """Return whether Arroyo refuses SQL, or its UDFs, in these words."""
    return _ABOUT_SQL.match(words) is not None


def is_about_request(words: str) -> bool:
    """Return whether Arroyo refuses a request about a pipeline in these words, whatever SQL is in it."""
    return _ABOUT_THE_REQUEST.match(words) is not None


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
