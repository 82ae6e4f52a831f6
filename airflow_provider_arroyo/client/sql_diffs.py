"""The difference between two pieces of SQL, without their secrets; changed secrets are marked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from airflow_provider_arroyo.client.path_secrets import MASK
from airflow_provider_arroyo.client.sql_secrets import find_secrets

CHANGED = f"{MASK} (changed)"


def redacted_diff(old: str, new: str, *, context_lines: int = 3) -> tuple[str, ...]:
    """Return the difference of two pieces of SQL, in lines that begin with ``-``, ``+`` or a blank; empty if equal.

    In the new line, a changed secret is :data:`CHANGED`.

    :param old, new: the SQL.
    :param context_lines: number of equal lines around each difference, default 3.
    """
    shown = _diff(old, new)
    return tuple(shown[at] for hunk in _hunks(shown, context_lines) for at in hunk)


def redacted_unified_diff(old: str, new: str) -> tuple[str, ...]:
    """Return the same as :func:`redacted_diff`, with each hunk below its ``@@ -1,7 +1,6 @@``."""
    shown = _diff(old, new)
    lines: list[str] = []
    for hunk in _hunks(shown):
        before, within = shown[: hunk.start], shown[hunk.start : hunk.stop]
        places = []
        for sign, other in (("-", "+"), ("+", "-")):
            count = sum(text[0] != other for text in within)
            places.append(f"{sign}{sum(text[0] != other for text in before) + (count > 0)},{count}")
        lines += [f"@@ {' '.join(places)} @@", *within]
    return tuple(lines)


def _diff(old: str, new: str) -> list[str]:
    """Return all lines of two pieces of SQL, without secrets."""
    before, after = _lines(old), _lines(new)
    shown: list[str] = []
    texts = [line.text for line in before], [line.text for line in after]
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, *texts).get_opcodes():
        if tag == "equal":
            for one, other in zip(before[i1:i2], after[j1:j2], strict=True):
                differs = one.secrets != other.secrets
                shown += [f"- {one.text}", f"+ {other.marked(one.secrets)}"] if differs else [f"  {one.text}"]
        else:
            known = [secret for line in before[i1:i2] for secret in line.secrets]
            shown += [f"- {line.text}" for line in before[i1:i2]]
            shown += [f"+ {line.marked(known)}" for line in after[j1:j2]]
    return shown


def _hunks(shown: Sequence[str], context_lines: int = 3) -> Iterator[range]:
    """Yield the ranges of lines around differences; adjacent ranges are merged."""
    hunk: range | None = None
    for at, text in enumerate(shown):
        if text[0] == " ":
            continue
        start, stop = max(0, at - context_lines), min(len(shown), at + context_lines + 1)
        if hunk is not None and start > hunk.stop:
            yield hunk
            hunk = None
        hunk = range(hunk.start if hunk is not None else start, stop)
    if hunk is not None:
        yield hunk


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
