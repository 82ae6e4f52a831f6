"""Finds secrets in SQL: the values of options such as ``'auth.password'``, which must never be shown.

Works on text, so that it also masks SQL that cannot be parsed. If in doubt, it masks too much.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

from airflow_provider_arroyo.client.secret_names import is_no_secret, is_secret_name, names_user
from airflow_provider_arroyo.client.text_secrets import (
    Secret,
    echoed_values,
    mask,
    merged,
    pairs,
    recognized,
    secrets_in_comment,
)
from airflow_provider_arroyo.text import REPLACED, UNSTORABLE

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
# A column of such a name is compared with a password; one named key or token may hold anything.
_PASSWORD = re.compile(r"passw|passphrase|pwd|(api|access|private|secret)[._-]?key", re.IGNORECASE)

MAX_READABLE = 10_000
"""How many characters of a server's text are read: it may be megabytes long, and masking that takes seconds."""

_MARGIN = 1000
"""Maximum length of the login in an address, in characters."""

_EXPRESSIONS_BEGIN = frozenset(["AS", "INSERT", "SELECT", "VALUES", "WHERE"])
_STATEMENTS_BEGIN = frozenset(["CREATE", "INSERT", "SELECT", "SET"])


class Token(NamedTuple):
    """A token of some SQL: ``space``, ``comment``, ``string``, ``name``, ``separator`` or another ``sign``."""

    kind: str
    text: str
    start: int
    end: int


def tokens_of(sql: str) -> list[Token]:
    """Return the tokens of some SQL, which may be broken; every character belongs to one."""
    return [
        Token(str(found.lastgroup if found["tag"] is None else "string"), found[0], *found.span())
        for found in _TOKEN.finditer(sql)
    ]


def find_secrets(sql: str) -> tuple[Secret, ...]:
    """Return the secrets in some SQL, which may be broken, in order. They do not overlap."""
    tokens = tokens_of(sql)
    found = [*_options(tokens), *recognized(sql)]
    if _is_broken(tokens):
        found += pairs(sql)
    for token in tokens:
        if token.kind == "comment":
            found += secrets_in_comment(token.text, token.start)
        elif token.kind == "string" and len(token.text) > 4:
            found += pairs(token.text, token.start)
    return tuple(merged(found))


def redact_sql(sql: str) -> str:
    """Return SQL with ``***`` in place of each secret."""
    return mask(sql, find_secrets(sql))


def readable(text: str) -> str:
    """Return a server's text, such as the reason of a failure, in a form that can be shown and stored.

    It has no secrets, at most :data:`MAX_READABLE` characters, and no characters that some databases cannot store.
    """
    shown = _readable(text[:MAX_READABLE])
    # A secret that was cut off cannot be recognized, so the last part of the text is left out.
    return shown if len(text) <= MAX_READABLE else f"{shown[:-_MARGIN]}… ({len(text)} characters)"


@lru_cache(maxsize=1000)
def _readable(text: str) -> str:
    # Every poll brings the same text.
    return re.sub(UNSTORABLE, REPLACED, redact_sql(text))


def secret_values(sql: str) -> frozenset[str]:
    """Return the secret values in some SQL, in forms in which a server may repeat them.

    :param sql: any text. Names of users and values of less than 5 characters are left out: they are as likely words
        of any text.
    """
    return echoed_values(
        sql[secret.start : secret.end] for secret in find_secrets(sql) if not names_user(secret.name)
    )


def _options(tokens: list[Token]) -> Iterator[Secret]:
    """Yield the secrets among the options of statements: ``WITH (key = value, …)`` and what it may have been."""
    code = [token for token in tokens if token.kind not in ("space", "comment")]
    # In an expression, `key = 'x'` is a comparison. There, only parentheses after WITH contain options.
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
        sign = code[at + 1].text if at + 1 < len(code) and code[at + 1].kind == "separator" else ""
        is_argument = sign in ("=>", ":=") or (token.kind == "string" and follows)
        if not is_option and not is_argument:
            if sign in ("=", "==") and _PASSWORD.search(token.text) and _is_string(code, at + 2):
                yield from _secret(token.text, code[at + 2 : at + 3])
            continue
        value_at = at + 1
        if sign:
            value_at += 1
        elif not (with_depth and follows and _is_string(code, value_at)):
            continue
        skip_to = _value_end(code, value_at)
        # In an expression, an argument without a string is a column.
        if is_option or any(one.kind == "string" for one in code[value_at:skip_to]):
            yield from _secret(token.text, code[value_at:skip_to])


def _is_string(code: list[Token], at: int) -> bool:
    return at < len(code) and code[at].kind == "string"


def _value_end(code: list[Token], start: int) -> int:
    """Return the index after the last token of an option's value."""
    depth = 0
    for at in range(start, len(code)):
        text = code[at].text
        if depth == 0 and (text in (",", ")", ";") or (at > start and text.upper() in _STATEMENTS_BEGIN)):
            return at
        depth += (text in ("(", "[")) - (text in (")", "]"))
    return len(code)


def _secret(name: str, value: list[Token]) -> Iterator[Secret]:
    if not value:
        return
    start, end = value[0].start, value[-1].end
    if len(value) == 1:
        text, quote = value[0].text, value[0].text[0]
        if quote in "'\"`":
            start += 1
            end -= len(text) > 1 and text[-1] == quote
        if is_no_secret(text.strip(quote) if quote in "'\"`" else text):
            return
    yield Secret(start, end, name.strip("'\"`").lower())


def _is_broken(tokens: list[Token]) -> bool:
    """Return whether quotes are unbalanced: one is open at the end, or a word directly follows a string."""
    for token, after in zip_longest(tokens, tokens[1:]):
        quote = token.text[0]
        if token.kind in ("string", "name") and quote in "'\"`":
            if len(token.text) < 2 or token.text[-1] != quote:
                return True
            if after is not None and after.kind == "name" and re.match(r"\w", after.text):
                return True
    return False
