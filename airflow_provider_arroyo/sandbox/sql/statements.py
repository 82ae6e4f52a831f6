"""CREATE VIEW and SET, and what else may be created."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import Token, TokenType, exp

from airflow_provider_arroyo.sandbox.sql.parsing import Text, parse_query
from airflow_provider_arroyo.sandbox.sql.reader import Reader

_BEFORE_OBJECTS = (
    "OR",
    "REPLACE",
    "LOCAL",
    "GLOBAL",
    "TRANSIENT",
    "VOLATILE",
    "TEMP",
    "TEMPORARY",
    "EXTERNAL",
    "UNBOUNDED",
    "MATERIALIZED",
    "UNIQUE",
)
_OBJECTS = (
    "TABLE",
    "VIEW",
    "POLICY",
    "FUNCTION",
    "TRIGGER",
    "MACRO",
    "SECRET",
    "INDEX",
    "VIRTUAL",
    "SCHEMA",
    "DATABASE",
    "ROLE",
    "SEQUENCE",
    "TYPE",
    "PROCEDURE",
    "CONNECTOR",
    "EXTENSION",
    "STAGE",
)


@dataclass(frozen=True, slots=True)
class CreateView:
    """A CREATE VIEW as it was written."""

    name: str
    columns: tuple[str, ...]
    query: exp.Expression


def created_object(text: Text, tokens: Sequence[Token]) -> str:
    """Return what a CREATE makes, in capitals, such as ``TABLE``.

    :raises RefusedError: it is nothing that can be created.
    """
    reader = Reader(text, tokens)
    reader.need("CREATE")
    while any(reader.skip(before) for before in _BEFORE_OBJECTS):
        pass
    for what in _OBJECTS:
        if reader.ahead(what):
            return what
    raise reader.expected("an object type after CREATE")


def read_create_view(text: Text, tokens: Sequence[Token]) -> CreateView:
    """Read a CREATE VIEW.

    :raises RefusedError: it is not SQL.
    """
    reader = Reader(text, tokens)
    while not reader.skip("VIEW"):
        reader.next("VIEW")
    reader.skip("IF", "NOT", "EXISTS")
    name = _name(reader)
    columns: list[str] = []
    if reader.skip("("):
        while True:
            columns.append(_name(reader))
            if reader.skip(")"):
                break
            reader.need(",", what="',' or ')'")
    reader.need("AS")
    query = reader.whole(reader.place, len(reader.tokens))
    return CreateView(name, tuple(columns), parse_query(text, query))


def read_set(text: Text, tokens: Sequence[Token]) -> tuple[str, exp.Expression]:
    """Read a SET; return the name of the setting and its value.

    :raises RefusedError: it is not SQL.
    """
    reader = Reader(text, tokens)
    reader.need("SET")
    for scope in ("SESSION", "LOCAL", "GLOBAL"):
        reader.skip(scope)
    parts = [reader.name()]
    while reader.token is not None and reader.token.token_type == TokenType.DOT:
        reader.place += 1
        parts.append(reader.name())
    if not (reader.skip("=") or reader.skip("TO")):
        raise reader.expected("equals sign or TO")
    value = reader.expression()
    if reader.token is not None:
        raise reader.expected("end of statement")
    return ".".join(parts), value


def _name(reader: Reader) -> str:
    """Read a name as Arroyo compares it."""
    token = reader.token
    name = reader.name()
    quoted = token is not None and token.token_type == TokenType.IDENTIFIER
    return name if quoted else "".join(c.lower() if c.isascii() else c for c in name)
