"""Finds secrets in the source of UDFs in Rust or Python: the strings assigned or passed under a secret name.

Works on text, without a parser. If in doubt, it masks too much.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from airflow_provider_arroyo.client.secret_names import is_secret_name
from airflow_provider_arroyo.client.text_secrets import (
    Secret,
    echoed_values,
    mask,
    secrets_in_comment,
    secrets_in_text,
    without_values,
)

_WORD = r"(?P<word>[A-Za-z_]\w*+) | (?P<open>[(\[{]) | (?P<close>[)\]}]) | (?P<end>[;\n])"
_RUST = re.compile(
    rf"""
    (?P<comment>//[^\n]*+|/\*.*?(?:\*/|\Z))
    | (?P<string>\bb?r(?P<hashes>\#*+)".*?(?:"(?P=hashes)|\Z)|"(?:[^"\\]|\\.)*+"?|'(?:[^'\\\n]|\\[^\n]{{1,10}}?)')
    | {_WORD}
    """,
    re.VERBOSE | re.DOTALL,
)
_PYTHON = re.compile(
    rf"""
    (?P<comment>\#[^\n]*+)
    | (?P<string>(?P<quotes>\"{{3}}|'{{3}}).*?(?:(?P=quotes)|\Z)|"(?:[^"\\\n]|\\.)*+"?|'(?:[^'\\\n]|\\.)*+'?)
    | {_WORD}
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[\w.-]{1,100}")


def redact_code(source: str, language: str | None, values: Iterable[str] = ()) -> str:
    """Return source with ``***`` in place of its secrets.

    These are the strings that follow a secret name in the same statement, and the same secrets in strings and
    comments as in SQL.

    :param source: source of a function; it may be broken.
    :param language: ``python``; anything else is read as Rust.
    :param values: further secrets, such as values in the SQL that uses it; default none.
    """
    return without_values(mask(source, _secrets(source, language)), values)


def code_secret_values(source: str, language: str | None) -> frozenset[str]:
    """Return the secret values in some source, in forms in which a compiler may repeat them.

    :param source, language: see :func:`redact_code`.
    """
    return echoed_values(source[one.start : one.end] for one in _secrets(source, language))


def _secrets(source: str, language: str | None) -> Iterator[Secret]:
    """Yield the positions of the secrets; they may overlap."""
    is_python = language == "python"
    depth, is_secret = 0, False
    for found in (_PYTHON if is_python else _RUST).finditer(source):
        kind, text = found.lastgroup or "", found[0]
        if kind in ("hashes", "quotes"):
            kind = "string"
        if kind == "comment":
            yield from secrets_in_comment(text, found.start())
        elif kind == "end" and text == "\n":
            # In Python, a line is a statement, except within brackets and if it obviously continues.
            before = source[max(0, found.start() - 100) : found.start()].rstrip(" \t\r")[-1:]
            is_secret = is_secret and not (is_python and depth == 0 and before not in ("=", "\\"))
        elif kind == "end" or (not is_python and text in ("{", "}")):
            is_secret = False
        elif kind in ("open", "close"):
            depth = max(0, depth + (1 if kind == "open" else -1))
        elif kind == "word":
            is_secret = is_secret or is_secret_name(text)
        elif kind == "string":
            start, inner = _inner(text)
            if is_secret and inner:
                yield Secret(found.start() + start, found.start() + start + len(inner), "")
            elif _NAME.fullmatch(inner):
                is_secret = is_secret_name(inner)
            else:
                yield from secrets_in_text(text, found.start())


def _inner(text: str) -> tuple[int, str]:
    """Return where the content of a string begins, and the content."""
    opened = re.match(r"""(?:br?|r)?\#*("{3}|'{3}|"|')""", text)
    if opened is None:
        return 0, text
    end = text.rfind(opened[1])
    return opened.end(), text[opened.end() : end if end >= opened.end() else len(text)]
