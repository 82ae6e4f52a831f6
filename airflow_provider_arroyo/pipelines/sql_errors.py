"""Validates SQL on the server; errors for SQL that it refused, with the position marked in the SQL."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import PipelineGraph
from airflow_provider_arroyo.client.secret_names import MASK
from airflow_provider_arroyo.client.sql_secrets import find_secrets, secret_values, tokens_of
from airflow_provider_arroyo.client.text_secrets import redact_values
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.exceptions import PLACE, ArroyoQueryError, SqlDiagnostic

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
_FOUND = re.compile(r"found: (.+?) at Line: ", re.DOTALL)
_NAMED = re.compile(r"(?<!\w)'([^']+)'(?!\w)")
_GENERATED = re.compile(r"\b(GENERATED|WATERMARK)\b", re.IGNORECASE)
_SHOWN_DIAGNOSTICS = 10
_SHOWN_MESSAGE = 2000
_SHOWN_COLUMNS = 160
_SHOWN_INVISIBLE = 5


def moved_up(diagnostic: SqlDiagnostic, lines: int) -> SqlDiagnostic:
    """Return the diagnostic for SQL without its first lines, such as the line of the ownership label."""
    if diagnostic.line is None:
        return diagnostic
    return replace(
        diagnostic,
        message=re.sub(
            PLACE,
            lambda found: f"Line: {int(found[1]) - lines}, Column: {found[2]}",
            diagnostic.message,
        ),
        line=diagnostic.line - lines,
        end_line=None if diagnostic.end_line is None else diagnostic.end_line - lines,
    )


def _cut(message: str) -> str:
    return message if len(message) <= _SHOWN_MESSAGE else f"{message[:_SHOWN_MESSAGE]}…"


def stands_there(query: str, diagnostic: SqlDiagnostic) -> bool:
    """Return whether the text that a diagnostic names is at its position in the SQL.

    Arroyo also plans text of its own, such as a generated column's, and positions may refer to that.
    """
    lines = query.split("\n")
    if diagnostic.line is None or not 0 < diagnostic.line <= len(lines):
        return False
    start = max(0, (diagnostic.column or 1) - 1)
    has_end = diagnostic.end_line == diagnostic.line and diagnostic.end_column is not None
    text = _folded(lines[diagnostic.line - 1][start : (diagnostic.end_column or 1) - 1 if has_end else None])
    if found := _FOUND.search(diagnostic.message):
        return text.startswith(_folded(_unescaped(found[1])))
    names = [_folded(name) for name in _NAMED.findall(diagnostic.message)]
    if not names:
        return _GENERATED.search(query) is None
    return any(text.startswith(name) or (text and name.endswith(f".{text}")) for name in names)


def _unescaped(text: str) -> str:
    """Return text that Rust has escaped in a quoted string."""
    text = re.sub(r"\\u\{([0-9a-f]{1,6})\}", lambda found: chr(int(found[1], 16)), text)
    return text.replace("\\", "")


def _folded(text: str) -> str:
    return text.replace('"', "").casefold()


def invisible_characters(query: str) -> Iterator[str]:
    """Yield the name and position of each invisible character outside of strings, quoted names and comments."""
    for token in tokens_of(query):
        if token.kind in ("string", "comment") or token.text[0] in '"`':
            continue
        for at, character in enumerate(token.text, token.start):
            if unicodedata.category(character) in ("Cf", "Cc") and not character.isspace():
                name = unicodedata.name(character, "control character")
                line, column = query.count("\n", 0, at) + 1, at - query.rfind("\n", 0, at)
                yield f"U+{ord(character):04X} {name} (line {line}, column {column})"


def excerpt(query: str, diagnostic: SqlDiagnostic) -> str:
    """Return the line of SQL that a diagnostic is about, with the position marked below it; empty if it has none.

    Secrets are masked.
    """
    # Arroyo's parser knows only this line end, unlike splitlines.
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
    # A line may be a megabyte long; the surroundings of the position are enough.
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
    """Return a line of SQL without its secrets and control characters, with the columns adjusted."""
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
        # Columns count from 1, and the end is exclusive. A position in the secret becomes the whole mask.
        shown_column += shift if column > last else min(0, first + 1 - column)
        shown_end += shift if end > last + 1 else (last + 1 - end + shift if end > first + 1 else 0)
    return _visible(shown + line[at:]), shown_column, shown_end


def _visible(line: str) -> str:
    """Return a line in which each character is one column wide."""
    line = _CONTROL.sub(" ", line)
    if line.isascii():
        return line
    return "".join("·" if unicodedata.category(character) == "Cf" else character for character in line)


def refused(
    error: ArroyoQueryError, query: str, diagnostics: Sequence[SqlDiagnostic] = ()
) -> ArroyoQueryError:
    """Return the refusal with everything that is known about it.

    :param error: the refusal as it came.
    :param query: the user's SQL.
    :param diagnostics: the messages of a validation of that SQL, which may have positions that the create did not
        give.
    """
    found, secrets = [], secret_values(query)
    for one in diagnostics or error.diagnostics:
        placed = one.with_place()
        if not stands_there(query, placed):
            placed = replace(placed, line=None, column=None, end_line=None, end_column=None)
        found.append(replace(placed, message=redact_values(placed.message, secrets)))
    lines = ["Arroyo refused the SQL. Fix it, then clear this task."]
    if not found:
        lines.append(_cut(redact_values(error.server_message or error.message, secrets)))
    for diagnostic in found[:_SHOWN_DIAGNOSTICS]:
        where = ""
        if diagnostic.line is not None:
            where = f" (line {diagnostic.line}, column {diagnostic.column or 1})"
        lines.append(f"{_cut(diagnostic.message)}{where}")
        if shown := excerpt(query, diagnostic):
            lines.append(shown)
    if len(found) > _SHOWN_DIAGNOSTICS:
        lines.append(f"… and {len(found) - _SHOWN_DIAGNOSTICS} more")
    if invisible := list(islice(invisible_characters(query), _SHOWN_INVISIBLE)):
        lines.append(f"The SQL has invisible characters: {', '.join(invisible)}. Remove them.")
    return ArroyoQueryError(
        "\n".join(lines),
        diagnostics=tuple(found),
        status=error.status,
        method=error.method,
        path=error.path,
        server_message=redact_values(error.server_message, secrets),
    )


def check_query(client: ArroyoClient, query: str, udfs: Iterable[Udf] = ()) -> PipelineGraph:
    """Return the graph that Arroyo plans for some SQL. Changes nothing on the server.

    :param client: sends the request.
    :param query: the SQL.
    :param udfs: UDFs that it uses, default none.
    :raises ArroyoQueryError: if Arroyo refuses it; with all its messages and their positions in the SQL.
    """
    try:
        validation = client.validate_query(query, udfs=tuple(udfs))
    except ArroyoQueryError as err:
        # 0.16 refuses a UDF that cannot be parsed with an error status, not with a list of errors.
        raise refused(err, query) from err
    if validation.is_valid:
        return validation.graph or PipelineGraph()
    said = ArroyoQueryError(
        "",
        status=200,
        method="POST",
        path="/pipelines/validate_query",
        server_message="\n".join(diagnostic.message for diagnostic in validation.errors),
    )
    raise refused(said, query, validation.errors)
