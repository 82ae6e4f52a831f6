"""Refusals: how an error is carried inside the judge, and how each version of Arroyo words it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the query, as offsets of characters: from ``start`` up to but without ``end``."""

    start: int
    end: int

    def union(self, other: Span | None) -> Span:
        """Return the smallest span that holds both."""
        return self if other is None else Span(min(self.start, other.start), max(self.end, other.end))


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One reason for a refusal.

    :param text: the error in full, as 0.15 says it and 0.16 where it knows no better.
    :param headline: the shorter words that 0.16 has for it, if any.
    :param span: the place in the query that 0.16 names; only used together with ``headline``.
    """

    text: str
    headline: str | None = None
    span: Span | None = None


class RefusedError(Exception):
    """The query is refused; inside the package only."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__(*(diagnostic.text for diagnostic in diagnostics))
        self.diagnostics = diagnostics


class UnjudgedError(Exception):
    """A construct that the judge does not know; its statement is accepted as it is."""


def planning(message: str, *, headline: str | None = None, span: Span | None = None) -> RefusedError:
    """Return the refusal of a query that parses but cannot be planned."""
    return RefusedError(Diagnostic(f"Error during planning: {message}", headline, span))


def not_implemented(message: str) -> RefusedError:
    """Return the refusal of something that Arroyo has not built."""
    return RefusedError(Diagnostic(f"This feature is not implemented: {message}"))


def in_table(name: str, message: str) -> RefusedError:
    """Return the refusal of a CREATE TABLE whose options do not fit."""
    return RefusedError(
        Diagnostic(f"Failed to create table {name}\ncaused by\nError during planning: {message}")
    )


def schema_error(message: str, *, headline: str | None = None, span: Span | None = None) -> RefusedError:
    """Return the refusal of a name that the schema does not have."""
    return RefusedError(Diagnostic(f"Schema error: {message}", headline, span))


def syntax(message: str, *, kind: str = "ParserError") -> RefusedError:
    """Return the refusal of text that is not SQL."""
    escaped = "".join(_escape(character) for character in message)
    return RefusedError(Diagnostic(f'SQL error: {kind}("{escaped}")'))


def _escape(character: str) -> str:
    simple = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
    if character in simple:
        return simple[character]
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"


def levenshtein(left: str, right: str) -> int:
    """Return how many characters must be added, dropped or replaced to make one text of the other."""
    previous = list(range(len(right) + 1))
    for row, character in enumerate(left, start=1):
        current = [row]
        for column, other in enumerate(right, start=1):
            current.append(
                min(
                    previous[column] + 1,
                    current[column - 1] + 1,
                    previous[column - 1] + (character != other),
                )
            )
        previous = current
    return previous[-1]


def closest(names: Iterable[str], wanted: str) -> str:
    """Return the name nearest to the wanted one; of equally near ones the first by alphabet."""
    wanted = wanted[:200].lower()
    return min(names, key=lambda name: (levenshtein(name.lower(), wanted), name))


def quote(name: str) -> str:
    """Return a name with double quotes around it where SQL would need them."""
    plain = bool(name) and (name[0] == "_" or "a" <= name[0] <= "z")
    if plain and all(c == "_" or "a" <= c <= "z" or "0" <= c <= "9" for c in name):
        return name
    return '"' + name.replace('"', '""') + '"'


def flat_name(qualifier: str | None, name: str, *, quoted: bool = False) -> str:
    """Return ``qualifier.name``, each part quoted where needed when ``quoted``."""
    parts = [name] if qualifier is None else [qualifier, name]
    return ".".join(quote(part) if quoted else part for part in parts)


def no_field(
    qualifier: str | None,
    name: str,
    valid: Sequence[tuple[str | None, str]],
    span: Span | None,
    *,
    located: bool = True,
) -> RefusedError:
    """Return the refusal of a column that is not there.

    :param qualifier: the table that the query named for it, if any.
    :param name: the column.
    :param valid: table and name of every column that is there.
    :param span: where the query names it.
    :param located: False in the clauses for which Arroyo names no place.
    """
    text = f"No field named {flat_name(qualifier, name, quoted=True)}"
    flat = [flat_name(*field) for field in valid]
    if flat_name(qualifier, name).lower() in (field.lower() for field in flat):
        text += (
            ". Column names are case sensitive. You can use double quotes to refer to the "
            f'"{flat_name(qualifier, name, quoted=True)}" column or set the '
            "datafusion.sql_parser.enable_ident_normalization configuration"
        )
    similar = next((field for field in flat if _similar(field, name)), None)
    if similar is not None:
        text += f". Did you mean '{similar}'?"
    elif flat:
        text += ". Valid fields are " + ", ".join(flat_name(*field, quoted=True) for field in valid)
    headline = f"column '{name}' not found" + (f" in '{qualifier}'" if qualifier is not None else "")
    return schema_error(text + ".", headline=headline if located else None, span=span if located else None)


def _similar(field: str, name: str) -> bool:
    longest = max(len(field), len(name))
    if longest > 200:
        return field == name
    return longest == 0 or 1 - levenshtein(field, name) / longest >= 0.5


def worded(diagnostic: Diagnostic, *, arroyo_version: str, locate: Any) -> dict[str, Any]:
    """Return an error as the given version words it.

    :param diagnostic: the error.
    :param arroyo_version: ``"0.15"`` or ``"0.16"``.
    :param locate: turns an offset into ``{"line": …, "column": …}``.
    """
    if arroyo_version == "0.15" or diagnostic.headline is None:
        return {"message": diagnostic.text, "span": None}
    span = diagnostic.span
    return {
        "message": diagnostic.headline,
        "span": None if span is None else {"start": locate(span.start), "end": locate(span.end)},
    }
