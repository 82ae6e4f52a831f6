"""Finds secrets in the path of an address: tokens of webhooks and gateways."""

from __future__ import annotations

import re
from collections.abc import Iterator

MASK = "***"

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
"""A word or a number within a name such as ``apiKey2``."""

_PART = re.compile(r"[^/]+")
_BEFORE_SECRET = re.compile(
    r"(access|api|auth)?[-_]?(token|key|secret|password|passwd|pwd|signature|sig)", re.IGNORECASE
)
_UUID = re.compile(r"[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}", re.IGNORECASE)


def is_uuid(part: str) -> bool:
    """Return whether a path segment is a UUID."""
    return _UUID.fullmatch(part) is not None


def names_secret(part: str) -> bool:
    """Return whether a path segment, such as ``token``, says that the next one is a secret."""
    return _BEFORE_SECRET.fullmatch(part) is not None


def is_secret_part(part: str) -> bool:
    """Return whether a path segment looks like a secret, as in Slack's webhooks."""
    # The secret of a webhook often is a UUID.
    return is_uuid(part) or any(map(_is_random, re.split(r"[^a-zA-Z\d]", part)))


def _is_random(run: str) -> bool:
    """Return whether letters and digits look random; words are short and in one case."""
    if len(run) >= 16:
        return re.search(r"\d", run) is not None or run != run.lower()
    pieces = len(WORD.findall(run))
    # One that is all capitals is an id, such as that of a workspace.
    return pieces >= 5 and len(run) <= 2 * pieces and run != run.upper()


def secret_parts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the positions of path segments that look like secrets, or that the segment before names as secrets."""
    before = ""
    for part in _PART.finditer(text, start, end):
        if is_secret_part(part[0]) or names_secret(before):
            yield part.span()
        before = part[0]


def redact_path(path: str) -> str:
    """Return the path of an address without segments that look like secrets."""
    for start, end in reversed([*secret_parts(path, 0, len(path))]):
        path = path[:start] + MASK + path[end:]
    return path
