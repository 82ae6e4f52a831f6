"""Arroyo's errors in planning, in the words of each version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airflow_provider_arroyo.sql.errors import RefusedError, Span

_PLANNING = "Error during planning: "
#: Table and name of a column.
Column = tuple[str | None, str]


def planning(message: str, headline: str | None = None, span: Span | None = None) -> RefusedError:
    """Return the error for a query that parses but cannot be planned."""
    return RefusedError(_PLANNING + message, headline, span)


def in_table(name: str, refusal: RefusedError) -> RefusedError:
    """Return the error for a CREATE TABLE with wrong options."""
    message = refusal.text.removeprefix(_PLANNING)
    return RefusedError(f"Failed to create table {name}\ncaused by\n{_PLANNING}{message}")


def no_table(name: str, span: Span | None) -> RefusedError:
    """Return the error for a table that does not exist."""
    return planning(f"Table {name} not found", f"table '{name}' not found", span)


def no_column(column: Column, valid: Sequence[Column], span: Span | None) -> RefusedError:
    """Return the error for a column that does not exist.

    :param column: the column, with its qualifier if it has one.
    :param valid: every column that exists.
    :param span: its position in the query; None: Arroyo gives no position.
    """
    qualifier, name = column
    text = f"Schema error: No field named {_flat(column, quoted=True)}"
    flat = [_flat(field) for field in valid]
    if _flat(column).lower() in (field.lower() for field in flat):
        text += (
            f". Column names are case sensitive. You can use double quotes to refer to the "
            f'"{_flat(column, quoted=True)}" column or set the '
            "datafusion.sql_parser.enable_ident_normalization configuration"
        )
    similar = next((field for field in flat if _similar(field, name)), None)
    if similar is not None:
        text += f". Did you mean '{similar}'?"
    elif flat:
        text += ". Valid fields are " + ", ".join(_flat(field, quoted=True) for field in valid)
    headline = f"column '{name}' not found" + (f" in '{qualifier}'" if qualifier is not None else "")
    return RefusedError(text + ".", None if span is None else headline, span)


def no_function(name: str, known: Iterable[str], span: Span | None) -> RefusedError:
    """Return the error for a function that does not exist."""
    near = min(known, key=lambda one: (_distance(one, name[:200]), one))
    headline = f"Invalid function '{name}'"
    return planning(f"{headline}.\nDid you mean '{near}'?", headline, span)


def _flat(column: Column, *, quoted: bool = False) -> str:
    parts = [part for part in column if part is not None]
    return ".".join(_quote(part) if quoted else part for part in parts)


def _quote(name: str) -> str:
    plain = name.isascii() and name.isidentifier() and name == name.lower()
    return name if plain else '"' + name.replace('"', '""') + '"'


def _similar(field: str, name: str) -> bool:
    longest = max(len(field), len(name), 1)
    return field == name if longest > 200 else _distance(field, name) <= longest / 2


def _distance(left: str, right: str) -> int:
    """Return the Levenshtein distance of two texts."""
    previous = list(range(len(right) + 1))
    for row, character in enumerate(left, start=1):
        current = [row]
        for column, other in enumerate(right, start=1):
            changed = previous[column - 1] + (character != other)
            current.append(min(previous[column] + 1, current[column - 1] + 1, changed))
        previous = current
    return previous[-1]
