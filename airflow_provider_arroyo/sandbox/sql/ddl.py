"""CREATE TABLE: read from tokens, because its column options are Arroyo's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlglot import Token, TokenType, exp

from airflow_provider_arroyo.sandbox.sql.diagnostics import Span, planning
from airflow_provider_arroyo.sandbox.sql.options import Option
from airflow_provider_arroyo.sandbox.sql.parsing import Text, parse, parse_query, word
from airflow_provider_arroyo.sandbox.sql.reader import OPENING, Reader
from airflow_provider_arroyo.sandbox.sql.types import Type, from_sql

# Words that go on with the name of a type.
_TYPE_TAILS = {
    "DOUBLE": ("PRECISION",),
    "CHARACTER": ("VARYING",),
    "CHAR": ("VARYING",),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a CREATE TABLE.

    :param name: as written; Arroyo keeps capitals here.
    :param type: its type.
    :param generated: the expression that computes it, if it is computed.
    :param primary: whether it is the primary key.
    :param metadata: what it takes from a message's envelope, if it does.
    """

    name: str
    type: Type | None
    generated: exp.Expression | None = None
    primary: bool = False
    metadata: str | None = None


@dataclass(slots=True)
class CreateTable:
    """A CREATE TABLE as it was written."""

    name: str
    temporary: bool = False
    columns: list[Column] = field(default_factory=list)
    options: dict[str, Option] = field(default_factory=dict)
    watermarks: list[tuple[str, exp.Expression | None]] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    query: exp.Expression | None = None


def read_create_table(text: Text, tokens: Sequence[Token]) -> CreateTable:
    """Read a CREATE TABLE.

    :raises RefusedError: it is not SQL, or names a type that Arroyo lacks.
    """
    reader = Reader(text, tokens)
    reader.need("CREATE")
    reader.skip("OR", "REPLACE")
    temporary = False
    while not reader.skip("TABLE"):
        temporary = temporary or word(reader.token) in ("TEMPORARY", "TEMP")
        reader.place += 1
    reader.skip("IF", "NOT", "EXISTS")
    parts = [reader.name()]
    while reader.token is not None and reader.token.token_type == TokenType.DOT:
        reader.place += 1
        parts.append(reader.name())
    created = CreateTable(".".join(parts), temporary)
    if reader.skip("(") and not reader.skip(")"):
        _items(reader, created)
    while (token := reader.token) is not None:
        if reader.skip("WITH"):
            _options(reader, created)
        elif reader.skip("PARTITIONED", "BY"):
            reader.need("(")
            while not reader.skip(")"):
                reader.expression()
                if not reader.ahead(")"):
                    reader.need(",", what="',' or ')'")
        elif reader.skip("AS"):
            created.query = parse_query(text, reader.whole(reader.place, len(reader.tokens)))
            break
        else:
            raise text.expected("end of statement", token)
    return created


def _items(reader: Reader, created: CreateTable) -> None:
    while True:
        if reader.skip("WATERMARK"):
            reader.need("FOR")
            name = reader.name()
            expression = reader.expression() if reader.skip("AS") else None
            created.watermarks.append((name, expression))
        elif (
            word(reader.token) in ("CONSTRAINT", "FOREIGN", "CHECK")
            or reader.ahead("PRIMARY", "KEY")
            or reader.ahead("UNIQUE", "(")
        ):
            created.constraints.append(" ".join(reader.text.raw(token) for token in reader.until()))
        else:
            created.columns.append(_column(reader))
        if reader.skip(")"):
            return
        reader.need(",", what="',' or ')' after column definition")


def _column(reader: Reader) -> Column:
    name = reader.name()
    column_type = _type(reader)
    generated: exp.Expression | None = None
    primary = False
    metadata: str | None = None
    while (token := reader.token) is not None and token.token_type not in (
        TokenType.COMMA,
        TokenType.R_PAREN,
    ):
        if reader.skip("NOT", "NULL") or reader.skip("NULL") or reader.skip("UNIQUE"):
            continue
        if reader.skip("PRIMARY", "KEY"):
            primary = True
        elif reader.skip("METADATA", "FROM"):
            if reader.token is None or reader.token.token_type != TokenType.STRING:
                raise reader.expected("string literal for metadata key")
            metadata = reader.next("string literal for metadata key").text
        elif reader.skip("GENERATED", "ALWAYS", "AS"):
            reader.need("(")
            generated = reader.expression()
            reader.need(")")
            _ = reader.skip("STORED") or reader.skip("VIRTUAL")
        elif (
            reader.skip("DEFAULT") or reader.skip("COMMENT") or reader.skip("CHECK") or reader.skip("COLLATE")
        ):
            reader.until("NOT", "NULL", "PRIMARY", "UNIQUE", "GENERATED", "METADATA")
        else:
            raise reader.expected("',' or ')' after column definition")
    return Column(name, column_type, generated, primary, metadata)


def _type(reader: Reader) -> Type:
    first = reader.token
    if first is None or not (first.text[:1].isalpha() or first.text[:1] == "_"):
        raise reader.expected("a data type name")
    name = word(first) or first.text
    reader.place += 1
    if name == "STRUCT" and reader.skip("<"):
        return _brackets(reader, _struct(reader))
    if name == "ARRAY" and reader.skip("<"):
        item = _type(reader)
        _close(reader)
        return _brackets(reader, Type("List", item=item))
    while word(reader.token) in _TYPE_TAILS.get(name, ()):
        name += f" {word(reader.token)}"
        reader.place += 1
    arguments: list[str] = []
    if reader.skip("("):
        while not reader.skip(")"):
            arguments.append(reader.next("a number").text)
            if not reader.ahead(")"):
                reader.need(",", what=")")
    if reader.skip("UNSIGNED"):
        name += " UNSIGNED"
    elif name in ("TIMESTAMP", "TIME"):
        if reader.skip("WITHOUT"):
            reader.need("TIME", "ZONE")
        elif reader.skip("WITH"):
            reader.need("TIME", "ZONE")
            raise planning(f"Unsupported SQL type '{name} WITH TIME ZONE'")
    # One token in sqlglot, two words in SQL.
    name = {"CHARACTER VARYING": "VARCHAR", "CHAR VARYING": "VARCHAR", "CHARACTER": "CHAR"}.get(name, name)
    found = from_sql(" ".join(name.split()), tuple(arguments))
    if found is None:
        if name == "TIMESTAMP":
            raise planning(
                f"unsupported precision {arguments[0]} -- supported precisions are 0 (seconds), "
                "3 (milliseconds), 6 (microseconds), and 9 (nanoseconds)"
            )
        message = f"Unsupported SQL type '{reader.text.raw(first)}'"
        raise planning(message, headline=message, span=Span(first.start, first.end + 1))
    return _brackets(reader, found)


def _struct(reader: Reader) -> Type:
    fields: list[tuple[str, Type | None]] = []
    while True:
        fields.append((reader.name(), _type(reader)))
        if not reader.skip(","):
            break
    _close(reader)
    return Type("Struct", tuple(fields))


def _close(reader: Reader) -> None:
    """Go past the end of ``<…>``; the ends of two come as one token."""
    if reader.skip(">"):
        return
    token = reader.token
    if token is not None and token.text == ">>":
        half = Token(TokenType.GT, ">", token.line, token.col, token.end, token.end, [])
        reader.tokens = [*reader.tokens[: reader.place], half, *reader.tokens[reader.place + 1 :]]
        return
    raise reader.expected(">")


def _brackets(reader: Reader, inner: Type) -> Type:
    while reader.skip("["):
        if not reader.skip("]"):
            reader.next("]")
            reader.need("]")
        inner = Type("List", item=inner)
    return inner


def _options(reader: Reader, created: CreateTable) -> None:
    reader.need("(")
    while not reader.skip(")"):
        token = reader.next("identifier")
        named = token.token_type in (TokenType.STRING, TokenType.IDENTIFIER)
        if not named and not (token.text[:1].isalpha() or token.text[:1] == "_"):
            reader.place -= 1
            raise reader.expected("identifier")
        reader.need("=")
        created.options[token.text] = _option(reader)
        if not reader.ahead(")"):
            reader.need(",", what=")")


def _option(reader: Reader) -> Option:
    tokens = reader.until()
    if not tokens:
        raise reader.expected("an expression")
    raw = reader.text.text[tokens[0].start : tokens[-1].end + 1]
    first = tokens[0]
    if len(tokens) == 1:
        if first.token_type == TokenType.STRING:
            return Option("string", first.text)
        if first.token_type == TokenType.NUMBER:
            return Option("number", first.text)
        if word(first) in ("TRUE", "FALSE"):
            return Option("boolean", first.text)
        return Option("name", first.text)
    if [word(token) for token in tokens[:1]] == ["-"] and len(tokens) == 2:
        return Option("expression", raw)
    if first.token_type not in OPENING:
        parse(reader.text, tokens)
    return Option("expression", raw)
