"""SQL that Arroyo refused, with its words and the place marked, as a person would want to read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from airflow_provider_arroyo.arroyo.details import SqlDiagnostic
from airflow_provider_arroyo.exceptions import ArroyoQueryError

_PLACE = re.compile(r"Line: (\d+), Column: (\d+)")
_SHOWN_DIAGNOSTICS = 10
_SHOWN_COLUMNS = 160


def with_place(diagnostic: SqlDiagnostic) -> SqlDiagnostic:
    """Return the diagnostic with the place that its text names, where it has none of its own."""
    if diagnostic.line is None and (found := _PLACE.search(diagnostic.message)):
        return replace(diagnostic, line=int(found[1]), column=int(found[2]))
    return diagnostic


def excerpt(query: str, diagnostic: SqlDiagnostic) -> str:
    """Return the line of SQL that a diagnostic speaks of, with the place marked below it; empty without one."""
    lines = query.splitlines()
    if diagnostic.line is None or not 0 < diagnostic.line <= len(lines):
        return ""
    line = lines[diagnostic.line - 1].replace("\t", " ")
    column = max(1, diagnostic.column or 1)
    length = 1
    if diagnostic.end_line == diagnostic.line and diagnostic.end_column is not None:
        length = max(1, diagnostic.end_column - column)
    # A line may be a megabyte long; what surrounds the place is enough.
    start = max(0, column - 1 - _SHOWN_COLUMNS // 2)
    shown = line[start : start + _SHOWN_COLUMNS]
    before, after = ("…" if start else ""), ("…" if start + _SHOWN_COLUMNS < len(line) else "")
    offset = column - 1 - start + len(before)
    marks = "^" * min(length, max(1, len(shown) + len(before) - offset))
    prefix = f"  line {diagnostic.line} | "
    return f"{prefix}{before}{shown}{after}\n{' ' * (len(prefix) + offset)}{marks}"


def refused(
    error: ArroyoQueryError, query: str, diagnostics: Sequence[SqlDiagnostic] = ()
) -> ArroyoQueryError:
    """Return the refusal with everything that is known of it.

    :param error: the refusal as it came.
    :param query: the user's SQL.
    :param diagnostics: what a validation of that SQL said, which may know places that a create did not tell.
    """
    found = [with_place(diagnostic) for diagnostic in diagnostics or error.diagnostics]
    lines = ["Arroyo refused the SQL. Mend it, then clear this task."]
    if not found:
        lines.append(error.server_message or error.message)
    for diagnostic in found[:_SHOWN_DIAGNOSTICS]:
        where = (
            f" (line {diagnostic.line}, column {diagnostic.column})" if diagnostic.line is not None else ""
        )
        lines.append(f"{diagnostic.message}{where}")
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
        server_message=error.server_message,
    )
