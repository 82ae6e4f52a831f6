"""Arroyo's own words, from recordings and the sources of 0.15 and 0.16.

A gateway may refuse a request in the same form, ``{"error": text}``, so only the words tell who refused it.
"""

from __future__ import annotations

import re
from http import HTTPStatus

ID_TAKEN = re.compile(r"A record already exists with that name( or id)?")
"""0.15 knows no id of the caller's."""

NAME_TAKEN = re.compile(r"\w+ with that name already exists")
CHECKPOINT_GONE = re.compile(r"Checkpoint with epoch \d+ for job '.*' not found")

_PHRASES = frozenset(status.phrase.lower() for status in HTTPStatus)
"""What a gateway says where it knows no more than the status. Arroyo's words always say more."""

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
    phrase = re.sub(r"^\d{3}\W*|\W+$", "", words).lower()
    return not phrase or phrase in _PHRASES


def is_about_sql(words: str) -> bool:
    """Return whether Arroyo refuses SQL, or its UDFs, in these words."""
    return _ABOUT_SQL.match(words) is not None


def is_about_request(words: str) -> bool:
    """Return whether Arroyo refuses a request about a pipeline in these words, whatever SQL is in it."""
    return _ABOUT_THE_REQUEST.match(words) is not None
