"""The difference between two pieces of SQL, without their secrets; changed secrets are marked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from airflow_provider_arroyo.client.secret_names import MASK
from airflow_provider_arroyo.client.sql_secrets import find_secrets

CHANGED = f"{MASK} (changed)"


def redacted_diff(old: str, new: str, *, context_lines: int = 3, has_places: bool = False) -> tuple[str, ...]:
    """Return the difference of two pieces of SQL, in lines that begin with ``-``, ``+`` or a blank; empty if equal.

    In the new line, a changed secret is :data:`CHANGED`.

    :param old, new: the SQL.
    :param context_lines: number of equal lines around each difference, default 3.
    :param has_places: whether each part begins with its place, ``@@ -1,7 +1,6 @@``; default False.
    """
    before, after = _lines(old), _lines(new)
    # A line that differs only in a secret differs, too.
    lines = {_key(line): line for line in (*before, *after)}
    diff = difflib.unified_diff([*map(_key, before)], [*map(_key, after)], n=context_lines, lineterm="")
    shown: list[str] = []
    known: list[tuple[str, str]] = []
    for text in [*diff][2:]:
        sign = text[0]
        if sign == "@":
            shown += [text] if has_places else []
            continue
        line = lines[text[1:]]
        shown.append(f"{sign} {line.marked(known) if sign == '+' else line.text}")
        if sign == "-":
            # The next new lines replace this one.
            known += line.secrets
        elif sign == " ":
            known = []
    return tuple(shown)


class _Line(NamedTuple):
    """A line without its secrets, and those secrets: names and values."""

    text: str
    secrets: tuple[tuple[str, str], ...]

    def marked(self, known: Iterable[tuple[str, str]]) -> str:
        """Return the line; a secret that has a known name but another value is marked as changed."""
        known = set(known)
        names = {name for name, _ in known}
        pieces = self.text.split(MASK)
        if len(pieces) != len(self.secrets) + 1:
            # The SQL itself contains the mask, so it is not clear which is which.
            return self.text if known >= set(self.secrets) else self.text.replace(MASK, CHANGED)
        text = pieces[0]
        for secret, piece in zip(self.secrets, pieces[1:], strict=True):
            text += (CHANGED if secret not in known and secret[0] in names else MASK) + piece
        return text


def _key(line: _Line) -> str:
    return f"{line.text}\0{line.secrets}"


def _lines(sql: str) -> list[_Line]:
    lines, at = [_Line("", ())], 0

    def add(text: str) -> None:
        first, *others = text.split("\n")
        lines[-1] = lines[-1]._replace(text=lines[-1].text + first)
        lines.extend(_Line(other, ()) for other in others)

    for secret in find_secrets(sql):
        add(sql[at : secret.start])
        value = secret.name, sql[secret.start : secret.end]
        lines[-1] = _Line(lines[-1].text + MASK, (*lines[-1].secrets, value))
        at = secret.end
    add(sql[at:])
    return lines
