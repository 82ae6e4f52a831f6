"""SQL that Arroyo refused: its words, with the place marked in the SQL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from airflow_provider_arroyo.client.details import PLACE, SqlDiagnostic
from airflow_provider_arroyo.client.sql_secrets import MASK, find_secrets, redact_echo
from airflow_provider_arroyo.exceptions import ArroyoQueryError

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
_SHOWN_DIAGNOSTICS = 10
_SHOWN_MESSAGE = 2000
_SHOWN_COLUMNS = 160


def moved_up(diagnostic: SqlDiagnostic, lines: int) -> SqlDiagnostic:
    """Return the diagnostic for SQL without its first lines, such as the one with the ownership label."""
    if diagnostic.line is None:
        return diagnostic
    return replace(
        diagnostic,
        message=PLACE.sub(
            lambda found: f"Line: {int(found[1]) - lines}, Column: {found[2]}", diagnostic.message
        ),
        line=diagnostic.line - lines,
        end_line=None if diagnostic.end_line is None else diagnostic.end_line - lines,
    )


def _cut(message: str) -> str:
    return message if len(message) <= _SHOWN_MESSAGE else f"{message[:_SHOWN_MESSAGE]}…"


def excerpt(query: str, diagnostic: SqlDiagnostic) -> str:
    """Return the line of SQL that a diagnostic is about, with the place marked below it; empty without one.

    Secrets in it are masked.
    """
    # Arroyo's parser knows only this line end; splitlines knows more.
    lines = query.split("\n")
    if diagnostic.line is None or not 0 < diagnostic.line <= len(lines):
        return ""
    line = lines[diagnostic.line - 1].rstrip("\r")
    column = min(max(1, diagnostic.column or 1), len(line) + 1)
    end = column + 1
    if diagnostic.end_line == diagnostic.line and diagnostic.end_column is not None:
        end = max(end, diagnostic.end_column)
    elif diagnostic.end_line is not None and diagnostic.end_line > diagnostic.line:
        end = max(end, len(line) + 1)
    line, column, end = _masked(query, lines, diagnostic.line, line, column, end)
    length = max(1, end - column)
    # A line may be a megabyte long; the surroundings of the place are enough.
    start = max(0, column - 1 - _SHOWN_COLUMNS // 2)
    shown = line[start : start + _SHOWN_COLUMNS]
    before, after = ("…" if start else ""), ("…" if start + _SHOWN_COLUMNS < len(line) else "")
    offset = column - 1 - start + len(before)
    marks = "^" * min(length, max(1, len(shown) + len(before) - offset))
    prefix = f"  line {diagnostic.line} | "
    return f"{prefix}{before}{shown}{after}\n{' ' * (len(prefix) + offset)}{marks}"


def _masked(
    query: str, lines: Sequence[str], number: int, line: str, column: int, end: int
) -> tuple[str, int, int]:
    """Return a line of SQL without its secrets and control characters, with the columns moved accordingly."""
    line_start = sum(len(other) + 1 for other in lines[: number - 1])
    shown, at = "", 0
    shown_column, shown_end = column, end
    for secret in find_secrets(query):
        first, last = (max(0, min(place - line_start, len(line))) for place in (secret.start, secret.end))
        if first == last:
            continue
        shown += line[at:first] + MASK
        at = last
        shift = len(MASK) - (last - first)
        # Columns count from 1, and the end is that after the last one. A place in the secret is all of the mask.
        shown_column += shift if column > last else min(0, first + 1 - column)
        shown_end += shift if end > last + 1 else (last + 1 - end + shift if end > first + 1 else 0)
    return _CONTROL.sub(" ", shown + line[at:]), shown_column, shown_end


def refused(
    error: ArroyoQueryError, query: str, diagnostics: Sequence[SqlDiagnostic] = ()
) -> ArroyoQueryError:
    """Return the refusal with all that is known about it.

    :param error: the refusal as it came.
    :param query: the user's SQL.
    :param diagnostics: what a validation of that SQL said, which may have places that the create did not give.
    """
    found = [diagnostic.with_place() for diagnostic in diagnostics or error.diagnostics]
    found = [replace(one, message=redact_echo(one.message, query)) for one in found]
    lines = ["Arroyo refused the SQL. Fix it, then clear this task."]
    if not found:
        lines.append(_cut(redact_echo(error.server_message or error.message, query)))
    for diagnostic in found[:_SHOWN_DIAGNOSTICS]:
        where = ""
        if diagnostic.line is not None:
            where = f" (line {diagnostic.line}, column {diagnostic.column or 1})"
        lines.append(f"{_cut(diagnostic.message)}{where}")
        if shown := excerpt(query, diagnostic):
            lines.append(shown)
    if len(found) > _SHOWN_DIAGNOSTICS:
        lines.append(f"… and {len(found) - _SHOWN_DIAGNOSTICS} more")
    return ArroyoQueryError(
        "\n".join(lines),
        diagnostics=tuple(found),
        status=error.status,
        method=error.method,
        path=error.path,
        server_message=redact_echo(error.server_message, query),
    )
