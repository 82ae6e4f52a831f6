"""What identifies a secret (its option's name, its own form, its place in an address), and how it may be spelled."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MASK = "***"

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
"""A word or a number within a name such as ``apiKey2``."""

_PART = re.compile(r"[^/]+")
_BEFORE_SECRET = re.compile(
    r"(access|api|auth)?[-_]?(token|key|secret|password|passwd|pwd|signature|sig)", re.IGNORECASE
)
_UUID = re.compile(r"[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}", re.IGNORECASE)

# HTTP headers are masked as a whole: which of them are secret depends on the server that reads them.
_SECRET = re.compile(
    r"passw|passphrase|passcode|pwd|secret|token(?!i[sz]er)|credential|sasl|jwt|jaas|authorization|cookie|signature"
    r"|headers\b"
)
_SECRET_WORDS = re.compile(
    r"\bbearer\b|keys?\b|\b(o?auth(\.2)?|user\.?info|pass|pat|sas|sig|psk|otp|creds?|keytab|hmac|salt)$"
)
# Keys of tables and messages are not secrets: their values are formats or column names.
_HARMLESS_KEYS = re.compile(
    r"\b(primary|foreign|partition|sort|order|unique|cluster|clustering|routing|shuffle|row)\.keys?\b"
    r"|\bkeys?\.(columns?|converter|encoding|fields?|format|prefix|suffix|schema|subject|type|(de)?serializer)\b"
    r"|\b(monkey|turkey)s?\b"
)
# Metadata of a secret, or where it is stored.
_ABOUT = re.compile(
    r"^(max|min|num|number)\."
    r"|\b(algorithm|changes|class|counts?|enabled|encoding|endpoint|expiration|expiry|file|format|interval|length"
    r"|lifetime|limit|location|mechanisms?|method|ms|path|policy|protocol|provider|required|resets|seconds|size"
    r"|timeout|ttl|types?|ur[il]|version)$"
)

_USER = re.compile(r"user(_?(name|id))?$", re.IGNORECASE)

_SHAPES = re.compile(
    r"""
    -----BEGIN\ [A-Z\d ]{0,30}PRIVATE\ KEY[A-Z ]{0,10}-----
      (?:(?!-----END)[\w\s+/=\\:,-])*+ (?:-----END\ [A-Z\d ]{1,40}-----)?
    | (?:(?<=(?i:bearer)\ )|(?<=(?i:basic)\ )) (?=[\w.~+/-]*(?:\d|[a-z][A-Z]|=)) [\w.~+/-]{8,}+=*+
    | \beyJ[\w-]{5,1000}+\.[\w-]{5,}+\.[\w-]*+
    # Those that begin as the keys and tokens of well-known services do.
    | \b(?:AKIA|ASIA)[A-Z\d]{16}\b
    | \b(?:gh[opusr]_|github_pat_|glpat-|hf_|npm_|dapi|AIza|xox[a-z]-|hv[sb]\.|sk-|[rs]k_(?:live|test)_)
      (?=[\w-]{0,40}\d)[\w-]{16,255}+
    | \bSG\.[\w-]{16,}+\.[\w-]{16,}+
    | \bS[ACNOUX][A-Z2-7]{56}\b
    """,
    re.VERBOSE,
)
"""Private keys, values of HTTP's header Authorization, JSON web tokens, keys of AWS and others, seeds of NATS."""

_NO_SECRET = re.compile(
    r"\W{0,2}|basic|bearer|digest|false|none|null|oauth2?|plain|sasl|true|\{\{\s*\w*\s*(\}\})?",
    re.IGNORECASE,
)
"""Values that mean "none" or name a kind of secret, and the names of Arroyo's variables."""


def is_secret_name(name: str) -> bool:
    """Return whether an option's name suggests a password, secret, token, key, credential or SASL.

    :param name: ``auth.password``, ``apiKey`` …; keys of tables and messages, such as ``key.format`` and
        ``primary_key``, are not secrets, nor are metadata such as ``token_count``.
    """
    words = ".".join(WORD.findall(name)).lower()
    if _ABOUT.search(words):
        return False
    return bool(_SECRET.search(name.lower()) or _SECRET_WORDS.search(_HARMLESS_KEYS.sub("", words)))


def names_user(name: str) -> bool:
    """Return whether an option names a user, like ``sasl.username``; its value may be a word of any text."""
    return _USER.search(name) is not None


def is_no_secret(value: str) -> bool:
    """Return whether an unquoted value is no secret, whatever its name: ``none``, ``true``, an Arroyo variable."""
    return _NO_SECRET.fullmatch(value.strip()) is not None


def secret_shapes(text: str) -> list[tuple[int, int]]:
    """Return the positions of what looks like a secret by itself, in order."""
    return [found.span() for found in _SHAPES.finditer(text)]


def encoded(secret: str) -> Iterator[str]:
    """Yield a secret in all spellings: plain, and as encoded in addresses, JSON, HTML and base64."""
    yield secret
    yield quote(secret, errors="replace")
    yield quote(secret, safe="", errors="replace")
    yield quote_plus(secret, errors="replace")
    yield json.dumps(secret)[1:-1]
    yield html.escape(secret)
    yield b64encode(secret.encode(errors="replace")).decode().rstrip("=")


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
