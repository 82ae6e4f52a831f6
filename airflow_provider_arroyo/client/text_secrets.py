"""Finds secrets in any text: SQL that cannot be parsed, strings, comments, and a server's messages.

These are options such as ``password=…``, logins and tokens in addresses, and what looks like a secret by itself. If
in doubt, it masks too much.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from airflow_provider_arroyo.client.secret_names import (
    MASK,
    encoded,
    is_no_secret,
    is_secret_name,
    secret_parts,
    secret_shapes,
)

# An option inside a string or a comment, or in SQL with unbalanced quotes.
_PAIR = re.compile(
    r"""
    (?<![\w.]) (?<![\w.]-) (?<!://) (?P<name>[A-Za-z_][\w.-]*+) (?:\\?["'`]){0,2} \s*+
    (?:=>|:=|=+|(?P<colon>:(?!:|//))) \s*+
    (?P<value> [a-z]{1,20}\("(?:[^"\\]|\\.)*+"?
      | ''(?!')[^']*+'' | '(?:[^']|'')*+'? | "(?:[^"\\]|\\.|"")*+"? | \\"[^"]*+"? | \\'[^']*+'? | `[^`]*+`?
      | (?:(?:bearer|basic|token|digest|apikey)\s++)?+
        (?:[^\s,;)&'"}\]]|,(?=[^\s,;)&'"}\]])(?![\w.-]++\s*+[=:]))++ )
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
# In a comment, words may replace the sign between a name and its value.
_SAID = re.compile(
    r"""
    \b (?:passw(?:or)?d|passphrase|pwd|secret|token|credentials?|(?:api|access|private)[\s_-]?key) \b
    (?:\s++(?:for|of|to|on|at)\s++(?:the\s++)?+[\w.-]++)?+ (?:\s++(?:is|was|are|were|now|still))*+
    (?:\s*+[:=])?+ \s++ ["'`]?+
    (?P<value>(?=[^\s"'`,;]*[A-Za-z])(?=[^\s"'`,;]*[\d!@\#$%^&*])[^\s"'`,;]{6,}+)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SPOKEN = re.compile(r"(.*[._-])?(sasl|o?auth2?|tokens?|credentials?|signature|keys?)", re.IGNORECASE)
"""Names that also precede a message about them: ``SASL: handshake failed``, ``Invalid token: expected …``."""
_IDENTIFIER = re.compile(r"[a-z]+(_([a-z]+|\d+))+")
# Up to the last @: an @ or a / in a password is often not escaped. Clients of NATS and others accept a login without
# a scheme; in that form, e-mail addresses and image digests are not logins. In Azure's file addresses, it is a
# container.
_LOGIN = re.compile(
    r"""
    (?<=://) (?<!abfs://) (?<!abfss://)
      (?: [^/\s'"]+ | [^/\s'"\[:@]{0,200}+ : (?!\d{0,5}+(?:[/?\#]|\Z)) [^\s'"@]{1,200}+ ) (?=@)
    | (?<![^\s'",(=]) (?!(?:mailto|e?mail|owner|author|contact|team|from|to|cc|by|sip|acct|xmpp|todo|fixme|\d\d?):)
      (?: [^/@\s'",():=]{0,200}+ : [^/@\s'",()]{1,200}+ (?=@(?!sha\d+:)[\w.-])
        | [^/@\s'",()]{1,200}+ (?=@[\w.-]++:\d) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_QUERY = re.compile(r"[?&](?P<name>[\w.-]++)=(?P<value>[^\s&#'\"]++)")
# The signatures and keys in Azure addresses.
_SECRET_PARAMETERS = ("sig", "code")
_PATH = re.compile(r"\b(?:https?|wss?)://[^/\s'\"`?#]++/(?P<path>[^\s'\"`?#<>,;)]++)", re.IGNORECASE)
_PART = re.compile(r"(?=[^\s,;:=]*[A-Za-z])[^\s,;:=]{6,}+")
_QUOTES = re.compile(r"['\"\n]|\$\w*\$")
_MIN_VALUE_LENGTH = 5
_MIN_LENGTH = 16
"""Shorter values without a digit may be words or column names."""


class Secret(NamedTuple):
    """A secret in some SQL or other text.

    :param start, end: position of its value, without quotes.
    :param name: the option, in lower case; empty for the login in an address or a part of its path.
    """

    start: int
    end: int
    name: str


def secrets_in_text(text: str, offset: int = 0) -> Iterator[Secret]:
    """Yield the secrets in some text; they may overlap.

    :param text: a string of SQL or of source, or a server's message.
    :param offset: its position, default 0.
    """
    yield from pairs(text, offset)
    for one in recognized(text):
        yield Secret(one.start + offset, one.end + offset, one.name)


def secrets_in_comment(text: str, offset: int = 0) -> Iterator[Secret]:
    """Yield the secrets in a comment, also after words instead of a sign: ``the password is …``.

    :param text: the comment.
    :param offset: its position, default 0.
    """
    yield from secrets_in_text(text, offset)
    for found in _SAID.finditer(text):
        yield Secret(found.start("value") + offset, found.end("value") + offset, "")


def redact_values(text: str, values: Iterable[str]) -> str:
    """Return a text without the given secret values, and without secrets of its own.

    :param text: a server's text about some SQL.
    :param values: the SQL's secret values, from :func:`.secret_values`.
    """
    text = without_values(text, values)
    return mask(text, secrets_in_text(text))


def without_values(text: str, values: Iterable[str]) -> str:
    """Return a text with ``***`` in place of some values where they are whole words, even if they are encoded."""
    forms = {form for value in values for form in encoded(value) if form in text}
    # The longest first, since one may be part of another.
    for value in sorted(forms, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", lambda _: MASK, text)
    return text


def redact_logins(text: str) -> str:
    """Return a text without the logins in it, for example the name of a topic that is written as an address."""
    return mask(text, (Secret(*found.span(), "") for found in _LOGIN.finditer(text)))


def mask(text: str, secrets: Iterable[Secret]) -> str:
    """Return a text with ``***`` in place of its secrets, which may overlap."""
    shown, at = [], 0
    for secret in merged(secrets):
        shown += [text[at : secret.start], MASK]
        at = secret.end
    return "".join([*shown, text[at:]])


def echoed_values(secrets: Iterable[str]) -> frozenset[str]:
    """Return the values to search for in texts that may repeat secrets: each secret and its parts, unless short."""
    values = set(secrets)
    # The text after a value may belong to it, or be the syntax error.
    pieces = {piece for value in values for piece in _QUOTES.split(value)}
    # The password of a login, and the value of a header. Values without a digit may be words.
    parts = {part for piece in pieces for part in _PART.findall(piece) if re.search(r"\d", part)}
    return frozenset(value for value in values | pieces | parts if len(value.strip()) >= _MIN_VALUE_LENGTH)


def merged(secrets: Iterable[Secret]) -> Iterator[Secret]:
    """Yield secrets in order; overlapping ones are merged."""
    last: Secret | None = None
    for secret in sorted(secrets):
        if secret.end <= secret.start:
            continue
        if last is None or secret.start >= last.end:
            if last is not None:
                yield last
            last = secret
        else:
            last = last._replace(end=max(last.end, secret.end))
    if last is not None:
        yield last


def pairs(text: str, offset: int = 0, *, depth: int = 2) -> Iterator[Secret]:
    """Yield the values of secret options in some text.

    :param text: any text.
    :param offset: its position, default 0.
    :param depth: how deep options may nest in the quoted values of others, default 2.
    """
    for found in _PAIR.finditer(text):
        start, end = found.span("value")
        quote = text[start]
        if quote in "'\"`":
            start += 1
            end -= end > start and text[end - 1] == quote
        if not is_secret_name(found["name"]):
            if depth and quote in "'\"`":
                yield from pairs(text[start:end], offset + start, depth=depth - 1)
        elif not _is_prose(found) and not is_no_secret(text[start:end]):
            yield Secret(start + offset, end + offset, found["name"].lower())


def _is_prose(pair: re.Match[str]) -> bool:
    """Return whether an apparent option is a sentence: ``SASL: handshake failed``, ``key: see below``."""
    name, value = pair["name"].lower(), pair["value"]
    bare = value.strip("'\"`")
    is_word = len(bare) < _MIN_LENGTH and re.search(r"\d", bare) is None
    if name in ("key", "keys"):
        # Keys of tables and messages are more frequent than secrets.
        return is_word or (bare == value and _IDENTIFIER.fullmatch(value) is not None)
    is_spaced = pair["colon"] is not None and pair.start("value") > pair.end("colon")
    return is_spaced and is_word and bare == value and _SPOKEN.fullmatch(name) is not None


def recognized(text: str) -> Iterator[Secret]:
    """Yield what is recognized as a secret anywhere: by its form, as a login, or in addresses."""
    yield from (Secret(*span, "") for span in secret_shapes(text))
    for found in _LOGIN.finditer(text):
        yield Secret(*found.span(), "")
    for found in _QUERY.finditer(text):
        if is_secret_name(found["name"]) or found["name"].lower() in _SECRET_PARAMETERS:
            yield Secret(*found.span("value"), found["name"].lower())
    for found in _PATH.finditer(text):
        yield from (Secret(*span, "") for span in secret_parts(text, *found.span("path")))
