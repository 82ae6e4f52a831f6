"""Checks of names and ids, which templates often render. Each raises a ``ValueError`` that names the argument."""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_arroyo.client.checks import check_characters, check_id
from airflow_provider_arroyo.text import shorten

MAX_NAME_LENGTH = 200

_NOTHING = frozenset({"", "none", "null", "nan", "undefined", "[]", "()", "{}", "[none]", "[null]"})
"""What templates render to if there is no value: None, null in JSON, a missing number, an empty XCom."""

_SEVERAL = r"(?s)(\[.*\]|\(.*\)|\{.*\})"
_SEVERAL_NAMES = r"""(?s)[\[(][\[({]*\s*['"].*[\])]"""
"""A list of strings as text. A name such as ``(draft)`` is none."""


def check_rendered(value: Any, argument: str) -> str:
    """Return a string, unless it looks as if an upstream task returned nothing.

    :raises ValueError: if it is not a string, is empty or white space, or is ``"None"``, ``"null"``, ``"[]"`` or the
        like.
    """
    if not isinstance(value, str):
        raise ValueError(f"{argument} must be a string, got {type(value).__name__}")
    if value.strip().lower() in _NOTHING:
        raise ValueError(f"{argument} must not be empty, got {value!r}; did the upstream task return one?")
    return check_characters(value, argument)


def check_name(value: Any, argument: str = "pipeline_name") -> str:
    """Return a name, of a pipeline for example, unless it was rendered from no value or from several.

    :raises ValueError: see :func:`check_rendered`; also if it has white space around it, as a Variable may have, or
        is a list of strings as text, which is what several pulled XComs render to.
    """
    return _single(check_rendered(value, argument), argument, _SEVERAL_NAMES, "name")


def check_pipeline_id(value: Any, argument: str = "pipeline_id") -> str:
    """Return the id of a pipeline, unless it was rendered from no value or from several.

    :raises ValueError: see :func:`check_name`; also if it cannot be a path segment.
    """
    return _single(check_id(check_rendered(value, argument), argument), argument, _SEVERAL, "id")


def check_pipeline_name(value: Any, argument: str = "pipeline_name") -> str:
    """Return the name of a deployed pipeline: one line of at most 200 characters.

    Arroyo accepts longer ones, but its console cannot show them.

    :raises ValueError: if it is invalid; see also :func:`check_name`.
    """
    name = check_name(value, argument)
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"{argument} must have at most {MAX_NAME_LENGTH} characters, got {len(name)}")
    if len(name.splitlines()) > 1:
        raise ValueError(f"{argument} must be one line, got {name!r}")
    return name


def _single(text: str, argument: str, several: str, what: str) -> str:
    shown = shorten(repr(text), 100)
    if text != text.strip():
        raise ValueError(f"{argument} must not have white space around it, got {shown}")
    if re.fullmatch(several, text):
        raise ValueError(
            f"{argument} must be one {what}, got {shown}, which looks like a list or a mapping; pull a single value, "
            f"such as xcom_pull(task_ids='submit', key='pipeline_{what}')"
        )
    return text
