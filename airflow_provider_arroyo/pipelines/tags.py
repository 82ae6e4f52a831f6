"""The user's tags of a pipeline, and the names among them that the ownership label needs."""

from __future__ import annotations

from typing import Any

from airflow_provider_arroyo.client.checks import check_string_map

TAG_PREFIX = "airflow."


def check_tags(value: Any, argument: str = "tags") -> dict[str, str]:
    """Return a user's tags. Names and values must be strings; names that this package reserves are refused.

    :raises ValueError: if a tag is invalid; names it.
    """
    tags = check_string_map(value, argument)
    if reserved := sorted(name for name in tags if name.startswith(TAG_PREFIX)):
        raise ValueError(
            f"{argument}: names that begin with {TAG_PREFIX!r} are reserved for this package, got {reserved}"
        )
    return tags
