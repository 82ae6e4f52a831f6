"""Secrets in SQL: the values of options such as ``'auth.password'``, which nothing that is shown may hold.

Works on text alone, so that it also masks in SQL that no parser accepts. In doubt it masks too much.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from airflow_provider_arroyo.client.path_secrets import MASK, WORD, secret_parts
from airflow_provider_arroyo.text import REPLACED

_SECRET = re.compile(
    r"passw|passphrase|pwd|secret|token(?!i[sz]er)|credential|sasl|jwt|authorization|cookie|signature|headers\b"
)
_KEY = re.compile(r"keys?\b")
# HTTP headers are masked whole: which of them hold a secret depends on the server that reads them.
# Keys of tables and messages: what stands there is a format, or names columns.
_HARMLESS = re.compile(
    r"\b(primary|foreign|partition|sort|order|unique|cluster|clustering|routing|shuffle|row)\.keys?\b"
    r"|\bkeys?\.(format|fields?|columns?|prefix|suffix|schema|subject|type|(de)?serializer|encoding)\b"
    r"|\b(monkey|turkey)s?\b"
)

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<comment>--[^\n]*|/\*(?:.*?\*/|.*))
    | (?P<string>[eE]'(?:[^'\\]|\\.|'')*+'?|'(?:[^']|'')*+'?|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<name>"(?:[^"]|"")*+"?|`[^`]*+`?|\w+(?:[.-]\w+)*+)
    | (?P<separator>:?=>?|=+|:(?!:))
    | (?P<sign>::|.)
    """,
    re.VERBOSE | re.DOTALL,
)
# An option inside a string or a comment, or in SQL whose quotes do not pair.
_PAIR = re.compile(
    r"""
    (?<![\w.-]) (?<!://) (?P<name>[A-Za-z_][\w.-]*+) (?:\\?["'`]){0,2} \s*+ (?:=>|:=|=+|:(?!:|//)) \s*+
    (?P<value> ''(?!')[^']*+'' | '(?:[^']|'')*+'? | "(?:[^"\\]|\\.|"")*+"? | \\"[^"]*+"? | \\'[^']*+'? | `[^`]*+`?
      | (?:(?:bearer|basic|token|digest|apikey)\s++)?+ [^\s,;)&'"}\]]++ )
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
# Up to the last @: an @ or a / in a password is often not escaped. Clients of NATS and others take a login without a
# scheme; there an address of e-mail and the digest of an image are none.
_LOGIN = re.compile(
    r"""
    (?<=://) (?: [^/\s'"]+ | [^/\s'"\[:@]{0,200}+ : (?!\d{0,5}+(?:[/?\#]|\Z)) [^\s'"@]{1,200}+ ) (?=@)
    | (?<![^\s'",(=]) (?!(?:mailto|e?mail|owner|author|contact|team|from|to|cc|by|sip|acct|xmpp):)
      (?: [^/@\s'",():=]{0,200}+ : [^/@\s'",()]{1,200}+ (?=@(?!sha\d+:)[\w.-])
        | [^/@\s'",()]{1,200}+ (?=@[\w.-]++:\d) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_QUERY = re.compile(r"[?&](?P<name>[\w.-]++)=(?P<value>[^\s&#'\"]++)")
# The signatures and keys of Azure's addresses.
_SECRET_PARAMETERS = ("sig", "code")
_PATH = re.compile(r"\b(?:https?|wss?)://[^/\s'\"`?#]++/(?P<path>[^\s'\"`?#<>,;)]++)", re.IGNORECASE)
_MIN_VALUE_LENGTH = 5

MAX_READABLE = 10_000
"""How many characters of what a server says are read: it may be megabytes, and masking them takes seconds."""

_MARGIN = 1000
"""How long the login in an address may be."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

_EXPRESSIONS_BEGIN = frozenset(["AS", "INSERT", "SELECT", "VALUES", "WHERE"])
_STATEMENTS_BEGIN = frozenset(["CREATE", "INSERT", "SELECT", "SET"])


class SqlSecret(NamedTuple):
    """A secret in some SQL.

    :param start, end: where its value is, without its quotes.
    :param name: the option, in lower case; empty for the login in an address, and a part of its path.
    """

    start: int
    end: int
    name: str


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def is_secret_name(name: str) -> bool:
    """Return whether the name of an option speaks of a password, secret, token, key, credential or SASL.

    :param name: ``auth.password``, ``apiKey`` …; the keys of tables and messages, such as ``key.format`` and
        ``primary_key``, are no secrets.
    """
    words = ".".join(WORD.findall(name)).lower()
    return bool(_SECRET.search(name.lower()) or _KEY.search(_HARMLESS.sub("", words)))


def find_secrets(sql: str) -> tuple[SqlSecret, ...]:
    """Return the secrets in some SQL, in order. They do not overlap.

    :param sql: any text; SQL that is broken, too.
    """
    tokens = [
        _Token(str(found.lastgroup if found["tag"] is None else "string"), found[0], *found.span())
        for found in _TOKEN.finditer(sql)
    ]
    found = [*_options(tokens), *_in_addresses(sql)]
    if _is_broken(tokens):
        found += _pairs(sql, 0)
    for token in tokens:
        if token.kind == "comment" or (token.kind == "string" and len(token.text) > 4):
            found += _pairs(token.text, token.start)
    return tuple(_merged(found))


def redact_sql(sql: str) -> str:
    """Return SQL as it may be shown: ``***`` in place of each secret.

    :param sql: any text.
    """
    return _replaced(sql, find_secrets(sql))


def readable(text: str) -> str:
    """Return what a server says of its work, such as why it failed, as it may be shown and stored.

    Without secrets, at most :data:`MAX_READABLE` characters, and without what not every database stores.

    :param text: the server's words.
    """
    shown = _readable(text[:MAX_READABLE])
    # A secret that the cut parts is not known as one: what may be a part of it is left out.
    return shown if len(text) <= MAX_READABLE else f"{shown[:-_MARGIN]}… ({len(text)} characters)"


@lru_cache(maxsize=1000)
def _readable(text: str) -> str:
    # Each poll brings the same again.
    return _UNSTORABLE.sub(REPLACED, redact_sql(text))


def secret_values(sql: str) -> frozenset[str]:
    """Return the values that are secret in some SQL, such as may be echoed.

    :param sql: any text. Values of less than 5 characters are left out: they are as likely words of any text.
    """
    values = {sql[secret.start : secret.end] for secret in find_secrets(sql)}
    # What follows a value may belong to it, or be what is broken.
    values |= {part for value in values for part in re.split("['\"]", value)}
    return frozenset(value for value in values if len(value.strip()) >= _MIN_VALUE_LENGTH)


def redact_echo(text: str, sql: str) -> str:
    """Return what a server says about some SQL without the secrets of that SQL, and without any of its own.

    :param text: the server's words, which may repeat parts of the SQL.
    :param sql: what they are about.
    """
    return redact_values(text, secret_values(sql))


def redact_values(text: str, values: Iterable[str]) -> str:
    """Return a text without values that are secret, and without any secret of its own.

    :param text: what a server says about some SQL.
    :param values: of that SQL, as :func:`secret_values` returns them.
    """
    # The longest first, since one may be part of another.
    for value in sorted((one for one in values if one in text), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", lambda _: MASK, text)
    return _replaced(text, _merged([*_pairs(text, 0), *_in_addresses(text)]))


def redact_logins(text: str) -> str:
    """Return a text without the logins in it, such as the name of a topic that was written as an address.

    :param text: any text.
    """
    return _replaced(text, (SqlSecret(*found.span(), "") for found in _LOGIN.finditer(text)))


def _replaced(text: str, secrets: Iterable[SqlSecret]) -> str:
    shown, at = [], 0
    for secret in secrets:
        shown += [text[at : secret.start], MASK]
        at = secret.end
    return "".join([*shown, text[at:]])


def _options(tokens: list[_Token]) -> Iterator[SqlSecret]:
    """Yield the secrets among the options of statements: ``WITH (key = value, …)`` and what it may have been."""
    code = [token for token in tokens if token.kind not in ("space", "comment")]
    # In an expression, `key = 'x'` is a comparison. Only the parentheses after WITH hold options there.
    is_expression, depth, with_depth, skip_to = False, 0, 0, 0
    for at, token in enumerate(code):
        before = code[at - 1] if at else None
        word = token.text.upper() if token.kind == "name" else ""
        if token.text == "(":
            depth += 1
            if before and before.text.upper() == "WITH":
                with_depth, is_expression = depth, False
        elif token.text == ")":
            if depth == with_depth:
                with_depth = 0
            depth = max(0, depth - 1)
        elif token.text == ";" or word == "CREATE":
            is_expression, depth, with_depth = False, 0, 0
        elif word in _EXPRESSIONS_BEGIN and not (at + 1 < len(code) and code[at + 1].kind == "separator"):
            is_expression, with_depth = True, 0
        if at < skip_to or token.kind not in ("string", "name") or not is_secret_name(token.text):
            continue
        is_option = with_depth > 0 or not is_expression
        follows = before is None or before.text in ("(", ",")
        if not is_option and not (token.kind == "string" and follows):
            continue
        value_at = at + 1
        if value_at < len(code) and code[value_at].kind == "separator":
            value_at += 1
        elif not (with_depth and follows and value_at < len(code) and code[value_at].kind == "string"):
            continue
        skip_to = _value_end(code, value_at)
        if skip_to > value_at:
            yield _secret(token.text, code[value_at:skip_to])


def _value_end(code: list[_Token], start: int) -> int:
    """Return the index after the last token of an option's value."""
    depth = 0
    for at in range(start, len(code)):
        text = code[at].text
        if depth == 0 and (text in (",", ")", ";") or (at > start and text.upper() in _STATEMENTS_BEGIN)):
            return at
        depth += (text in ("(", "[")) - (text in (")", "]"))
    return len(code)


def _secret(name: str, value: list[_Token]) -> SqlSecret:
    start, end = value[0].start, value[-1].end
    quote = value[0].text[0]
    if len(value) == 1 and quote in "'\"`":
        start += 1
        end -= len(value[0].text) > 1 and value[0].text[-1] == quote
    return SqlSecret(start, end, name.strip("'\"`").lower())


def _is_broken(tokens: list[_Token]) -> bool:
    """Return whether the quotes do not pair: one is open at the end, or a word stands right after a string."""
    for at, token in enumerate(tokens):
        quote = token.text[0]
        if token.kind in ("string", "name") and quote in "'\"`":
            if len(token.text) < 2 or token.text[-1] != quote:
                return True
            after = tokens[at + 1] if at + 1 < len(tokens) else None
            if (
                after is not None
                and after.kind == "name"
                and (after.text[0].isalnum() or after.text[0] == "_")
            ):
                return True
    return False


def _pairs(text: str, offset: int) -> Iterator[SqlSecret]:
    for found in _PAIR.finditer(text):
        if is_secret_name(found["name"]):
            start, end = found.span("value")
            quote = text[start]
            if quote in "'\"`":
                start += 1
                end -= end > start and text[end - 1] == quote
            yield SqlSecret(start + offset, end + offset, found["name"].lower())


def _in_addresses(text: str) -> Iterator[SqlSecret]:
    """Yield the logins in addresses, and what is secret in their paths and queries."""
    for found in _LOGIN.finditer(text):
        yield SqlSecret(*found.span(), "")
    for found in _QUERY.finditer(text):
        if is_secret_name(found["name"]) or found["name"].lower() in _SECRET_PARAMETERS:
            yield SqlSecret(*found.span("value"), found["name"].lower())
    for found in _PATH.finditer(text):
        yield from (SqlSecret(*span, "") for span in secret_parts(text, *found.span("path")))


def _merged(secrets: list[SqlSecret]) -> Iterator[SqlSecret]:
    last: SqlSecret | None = None
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
