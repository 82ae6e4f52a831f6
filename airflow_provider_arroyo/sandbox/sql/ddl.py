"""CREATE TABLE: read from tokens, because its column options are Arroyo's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlglot import Token, TokenType, exp

from airflow_provider_arroyo.sandbox.sql.diagnostics import RefusedError, Span, planning
from airflow_provider_arroyo.sandbox.sql.options import Option
from airflow_provider_arroyo.sandbox.sql.parsing import Text, parse, word
from airflow_provider_arroyo.sandbox.sql.types import Type, from_sql

# Words that go on with the name of a type.
_TYPE_TAILS = {
    "DOUBLE": ("PRECISION",),
    "CHARACTER": ("VARYING",),
    "CHAR": ("VARYING",),
}
_CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
_OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)


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


class _Reader:
    """Goes through the tokens of one statement."""

    def __init__(self, text: Text, tokens: Sequence[Token]) -> None:
        self.text = text
        self._whole = tokens
        self.tokens: Sequence[Token] = [part for token in tokens for part in _words(text, token)]
        self.place = 0

    @property
    def token(self) -> Token | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def ahead(self, *words: str) -> bool:
        """Tell whether these words come next."""
        found = self.tokens[self.place : self.place + len(words)]
        return [word(token) for token in found] == list(words)

    def skip(self, *words: str) -> bool:
        """Go past these words if they come next."""
        if not self.ahead(*words):
            return False
        self.place += len(words)
        return True

    def need(self, *words: str, what: str | None = None) -> None:
        for wanted in words:
            if not self.skip(wanted):
                raise self.expected(what or wanted)

    def expected(self, what: str) -> RefusedError:
        return self.text.expected(what, self.token)

    def next(self, what: str) -> Token:
        token = self.token
        if token is None:
            raise self.expected(what)
        self.place += 1
        return token

    def name(self) -> str:
        """Read a name; as written, without its quotes."""
        token = self.token
        plain = token is not None and (token.text[:1].isalpha() or token.text[:1] == "_")
        if token is None or token.token_type == TokenType.STRING:
            raise self.expected("identifier")
        if not plain and token.token_type != TokenType.IDENTIFIER:
            raise self.expected("identifier")
        self.place += 1
        return token.text

    def until(self, *stops: str) -> list[Token]:
        """Take all up to a comma, a closing bracket, or one of these words outside of brackets."""
        start = self.place
        depth = 0
        while (token := self.token) is not None:
            if depth == 0 and (
                token.token_type == TokenType.COMMA or token.token_type in _CLOSING or word(token) in stops
            ):
                break
            depth += (token.token_type in _OPENING) - (token.token_type in _CLOSING)
            self.place += 1
        return self.whole(start, self.place)

    def whole(self, start: int, end: int) -> list[Token]:
        """Return a stretch of tokens as sqlglot cut them."""
        if start >= end:
            return []
        first, last = self.tokens[start].start, self.tokens[end - 1].end
        return [token for token in self._whole if first <= token.start <= last]

    def expression(self, *stops: str) -> exp.Expression:
        """Read an expression."""
        tokens = self.until(*stops)
        if not tokens:
            raise self.expected("an expression")
        return parse(self.text, tokens)


def _words(text: Text, token: Token) -> list[Token]:
    """Cut a token of several words, such as ``PRIMARY KEY``, into its words."""
    raw = text.raw(token)
    if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER) or len(raw.split()) < 2:
        return [token]
    return [
        Token(TokenType.VAR, found.group(), token.line, token.col, *_place(token, found), [])
        for found in re.finditer(r"\S+", raw)
    ]


def _place(token: Token, found: re.Match[str]) -> tuple[int, int]:
    return token.start + found.start(), token.start + found.end() - 1


def is_create_table(tokens: Sequence[Token]) -> bool:
    """Tell whether a statement creates a table."""
    words = [word(token) for token in tokens[:6]]
    rest = words[1:]
    if rest[:2] == ["OR", "REPLACE"]:
        rest = rest[2:]
    while rest[:1] and rest[0] in ("TEMPORARY", "TEMP", "GLOBAL", "LOCAL", "EXTERNAL", "UNBOUNDED"):
        rest = rest[1:]
    return words[:1] == ["CREATE"] and rest[:1] == ["TABLE"]


def read_create_table(text: Text, tokens: Sequence[Token]) -> CreateTable:
    """Read a CREATE TABLE.

    :raises RefusedError: it is not SQL, or names a type that Arroyo lacks.
    """
    reader = _Reader(text, tokens)
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
            created.query = parse(text, reader.whole(reader.place, len(reader.tokens)))
            break
        else:
            raise text.expected("end of statement", token)
    return created


def _items(reader: _Reader, created: CreateTable) -> None:
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


def _column(reader: _Reader) -> Column:
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


def _type(reader: _Reader) -> Type:
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


def _struct(reader: _Reader) -> Type:
    fields: list[tuple[str, Type | None]] = []
    while True:
        fields.append((reader.name(), _type(reader)))
        if not reader.skip(","):
            break
    _close(reader)
    return Type("Struct", tuple(fields))


def _close(reader: _Reader) -> None:
    """Go past the end of ``<…>``; the ends of two come as one token."""
    if reader.skip(">"):
        return
    token = reader.token
    if token is not None and token.text == ">>":
        half = Token(TokenType.GT, ">", token.line, token.col, token.end, token.end, [])
        reader.tokens = [*reader.tokens[: reader.place], half, *reader.tokens[reader.place + 1 :]]
        return
    raise reader.expected(">")


def _brackets(reader: _Reader, inner: Type) -> Type:
    while reader.skip("["):
        if not reader.skip("]"):
            reader.next("]")
            reader.need("]")
        inner = Type("List", item=inner)
    return inner


def _options(reader: _Reader, created: CreateTable) -> None:
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


def _option(reader: _Reader) -> Option:
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
    if first.token_type not in _OPENING:
        parse(reader.text, tokens)
    return Option("expression", raw)
