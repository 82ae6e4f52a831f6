"""Arroyo's SQL for sqlglot: the Postgres dialect with Arroyo's additions, and with the position of every name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlglot import Token, TokenType, exp
from sqlglot.dialects import DuckDB, Postgres, Snowflake
from sqlglot.errors import ErrorLevel, ParseError, TokenError

from airflow_provider_arroyo.sql.errors import RefusedError, Span
from airflow_provider_arroyo.sql.text import CLOSING, OPENING, Text, check_shape, word

_OBJECTS = ("OR", "TABLE", "VIEW", "TEMPORARY", "TEMP", "EXTERNAL", "MATERIALIZED", "UNIQUE")
_QUERY = "SELECT, VALUES, or a subquery in the query body"
# A token type that older versions of sqlglot lack.
_SESSION = getattr(TokenType, "SESSION", TokenType.WINDOW)
# The key in a node's `meta` for the position of a name; sqlglot's own entries differ between versions.
_PLACE = "arroyo_place"


class Option(exp.Expression):
    """An option of a WITH clause: its name, and the tokens of its value."""

    arg_types: ClassVar[dict[str, bool]] = {"name": True, "kind": True, "text": True}


class Watermark(exp.Expression):
    """``WATERMARK FOR this AS expression``."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "expression": False}


class Metadata(exp.Expression):
    """``METADATA FROM this`` of a column."""


class _NoCommands:
    """Refuses syntax that sqlglot does not know; by default, sqlglot accepts it and logs a warning."""

    failed_at: Token | None = None

    def raise_error(self, message: str, *args: Any, **kwargs: Any) -> None:
        self.failed_at = args[0] if args and args[0] is not None else self._curr  # type: ignore[attr-defined]  # sqlglot is untyped
        super().raise_error(message, *args, **kwargs)  # type: ignore[misc]  # sqlglot is untyped

    def _parse_as_command(self, *_: Any, **__: Any) -> Any:
        self.raise_error("Invalid expression / Unexpected token")


def _or_name(parse: Any) -> Any:
    """Return a parser of expressions that begin with a word: without such an expression, the word is a name."""

    def parse_or_retreat(parser: Any) -> Any:
        start = parser._index - 1
        # sqlglot parses some positions repeatedly: nested words would take exponential time.
        found = None if start in parser.names_at else parser._try_parse(lambda: parse(parser))
        if found is None:
            parser.names_at.add(start)
            parser._retreat(start)
        return found

    return parse_or_retreat


class _Parser(_NoCommands, Postgres.Parser):  # type: ignore[misc]  # sqlglot's nested classes are untyped
    """sqlglot's parser, extended to keep the position of names and the original spelling of functions."""

    STRING_ALIASES = True
    # In Arroyo, other words at the beginning of a column are its name.
    SCHEMA_UNNAMED_CONSTRAINTS: ClassVar[set[str]] = {"CHECK", "FOREIGN KEY", "PRIMARY KEY", "UNIQUE"}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
        name: _or_name(parser) for name, parser in Postgres.Parser.NO_PAREN_FUNCTION_PARSERS.items()
    }
    # Left out: sqlglot would replace the names that the query uses by its own.
    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
        name: parser
        for name, parser in Postgres.Parser.FUNCTION_PARSERS.items()
        if name in ("CAST", "TRY_CAST", "SAFE_CAST", "EXTRACT", "SUBSTRING", "TRIM", "OVERLAY")
    }
    CONSTRAINT_PARSERS: ClassVar[dict[str, Any]] = {
        **Postgres.Parser.CONSTRAINT_PARSERS,
        "METADATA": lambda self: self._parse_metadata(),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.names_at: set[int] = set()

    def _parse_id_var(self, *args: Any, **kwargs: Any) -> Any:
        node = super()._parse_id_var(*args, **kwargs)
        if isinstance(node, exp.Identifier) and self._prev:
            node.meta.setdefault(_PLACE, Span(self._prev.start, self._prev.end + 1))
        return node

    def _parse_function(self, *args: Any, **kwargs: Any) -> Any:
        token = self._curr
        node = called = super()._parse_function(*args, **kwargs)
        while isinstance(
            called, exp.Window | exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls
        ):
            called = called.this
        if isinstance(called, exp.Anonymous) and token:
            called.meta.setdefault(_PLACE, Span(token.start, token.end + 1))
        return node

    def _parse_field_def(self) -> Any:
        if self._next and self._next.token_type == TokenType.L_PAREN:
            return super()._parse_field_def()  # PARTITIONED BY (bucket(id, 4))
        name = self._parse_id_var(any_token=True)
        return name and self._parse_column_def(name)

    def _parse_constraint(self) -> Any:
        if not self._match_text_seq("WATERMARK", "FOR"):
            return super()._parse_constraint()
        name = self._parse_id_var(any_token=True)
        return Watermark(
            this=name, expression=self._parse_disjunction() if self._match_text_seq("AS") else None
        )

    def _parse_metadata(self) -> Any:
        self._match_text_seq("FROM")
        found = self._parse_string()
        if found is None:
            self.raise_error("Expecting string literal")
        return Metadata(this=found)

    def _parse_wrapped_properties(self) -> Any:
        return self._parse_wrapped_csv(self._parse_option)

    def _parse_option(self) -> Any:
        name, value = self._tokens_until(TokenType.EQ), []
        if self._match(TokenType.EQ):
            value = self._tokens_until()
        elif name:
            self.raise_error("Expecting =")
        if not name or not value:
            return None if not name else self.raise_error("Required keyword: 'value' missing")
        kinds = {TokenType.STRING: "string", TokenType.NUMBER: "number"}
        kind = (
            "boolean" if word(value[0]) in ("TRUE", "FALSE") else kinds.get(value[0].token_type, "expression")
        )
        key = "".join(token.text for token in name)
        if len(value) == 1:
            return Option(name=key, kind=kind, text=value[0].text)
        return Option(name=key, kind="expression", text=self.sql[value[0].start : value[-1].end + 1])

    def _tokens_until(self, *stops: TokenType) -> list[Token]:
        """Take all tokens up to a comma, a closing bracket, or one of these outside of brackets."""
        found: list[Token] = []
        depth = 0
        while token := self._curr:
            if depth == 0 and token.token_type in (*CLOSING, *stops, TokenType.COMMA):
                break
            depth += (token.token_type in OPENING) - (token.token_type in CLOSING)
            found.append(token)
            self._advance()
        return found


class Arroyo(Postgres):  # type: ignore[misc]  # sqlglot is untyped
    """Arroyo's SQL. Array positions and JSON paths stay as they are written."""

    INDEX_OFFSET = 0
    Parser = _Parser

    def to_json_path(self, path: Any) -> Any:
        """Return a path unchanged; sqlglot would warn about paths that it cannot read."""
        return path


def _plain_names(text: Text, tokens: Sequence[Token]) -> list[Token]:
    """Return tokens as Arroyo reads them, where sqlglot interprets names differently.

    ``session`` and ``window`` are names, except for the latter at the start of a WINDOW clause; the words
    of ``FOR timestamp`` are two tokens, and ``1_000`` is one; VIRTUAL columns are like STORED ones, and
    XOR is ``#``.
    """
    found: list[Token] = []
    for place, token in enumerate(tokens):
        if word(token) == "FOR" and " " in token.text:
            found += [_as_name(token, part) for part in text.raw(token).split()]
            continue
        before = found[-1] if found else token
        adjacent = before.token_type == TokenType.NUMBER and before.end + 1 == token.start
        if adjacent and re.fullmatch(r"(_\d+)+", token.text):
            continue
        clause = len(tokens) > place + 2 and tokens[place + 1].text[:1].isalpha()
        clause = clause and word(tokens[place + 2]) == "AS"
        if token.token_type in (_SESSION, TokenType.WINDOW) and not clause:
            found.append(_as_name(token))
        elif word(token) == "VIRTUAL" and before.token_type == TokenType.R_PAREN:
            found.append(_as_name(token, "STORED"))
        elif word(token) == "XOR" and _ends_operand(before):
            found.append(_as_name(token, "#", TokenType.HASH))
        else:
            found.append(token)
    return found


def parse(text: Text, tokens: list[Token]) -> exp.Expression | None:
    """Return the tree of one statement.

    :returns: None if only dialects other than Arroyo's know the syntax: it may be valid.
    :raises RefusedError: if it is not SQL.
    """
    check_shape(text, tokens)
    tokens = _plain_names(text, tokens)
    refusal: RefusedError | None = None
    for _ in range(5):
        parser = _Parser(error_level=ErrorLevel.IMMEDIATE, dialect=Arroyo())
        try:
            trees = parser.parse(tokens, text.text)
            if trees[0] is None:
                raise not_a_query(text, tokens)
            return trees[0]  # type: ignore[no-any-return]  # sqlglot is untyped
        except ParseError as error:
            refusal = refusal or _refused(text, tokens, parser.failed_at, str(error))
            place = _place(tokens, parser.failed_at)
        except (
            AttributeError,
            TypeError,
            TokenError,
        ):  # sqlglot fails on a few texts instead of refusing them
            return None
        # Arroyo treats most keywords as names where no keyword is allowed, also the one before what is unexpected.
        if place and not word(tokens[place]).isalpha() and not _ends_operand(tokens[max(0, place - 2)]):
            place -= 1
        if place is None or not word(tokens[place]).isalpha() or tokens[place].token_type == TokenType.VAR:
            break
        tokens = [*tokens[:place], _as_name(tokens[place]), *tokens[place + 1 :]]
    if any(_parses(dialect, text, tokens) for dialect in (DuckDB, Snowflake)):
        return None
    raise refusal or text.expected("an expression", None)


def _ends_operand(token: Token) -> bool:
    return token.token_type in (
        *CLOSING,
        TokenType.VAR,
        TokenType.IDENTIFIER,
        TokenType.NUMBER,
        TokenType.STRING,
    )


def _place(tokens: Sequence[Token], wanted: Token | None) -> int | None:
    return next((place for place, token in enumerate(tokens) if token is wanted), None)


def _as_name(token: Token, text: str = "", kind: TokenType = TokenType.VAR) -> Token:
    return Token(kind, text or token.text, token.line, token.col, token.start, token.end, [])


def _parses(dialect: Any, text: Text, tokens: list[Token]) -> bool:
    other = dialect()
    other.to_json_path = lambda path: path
    parser = type("_Other", (_NoCommands, dialect.Parser), {})
    try:
        return bool(parser(error_level=ErrorLevel.IMMEDIATE, dialect=other).parse(tokens, text.text))
    except (ParseError, AttributeError, TypeError, TokenError):
        return False


def is_query(tree: Any) -> bool:
    """Return whether a tree is that of a query."""
    return isinstance(tree, exp.Query | exp.Values | exp.Table)


def not_a_query(text: Text, tokens: Sequence[Token]) -> RefusedError:
    """Return the error for another statement where a query is required."""
    first = next((token for token in tokens if token.token_type != TokenType.L_PAREN), None)
    return text.expected(_QUERY, first)


def _refused(text: Text, tokens: Sequence[Token], failed: Token | None, message: str) -> RefusedError:
    place = _place(tokens, failed)
    if word(tokens[0]) == "CREATE" and place in (1, 2) and word(tokens[1]) not in _OBJECTS:
        return text.expected("an object type after CREATE", tokens[1])
    before = word(tokens[len(tokens) - 1 if place is None else place - 1])
    wanted = re.match(r"Expecting (\S+?)\.? ", message)
    if wanted:
        what = wanted.group(1)
    elif before in ("FROM", "JOIN", "INTO", "TABLE", "VIEW", "AS"):
        what = "identifier"
    elif message.startswith("Invalid expression / Unexpected token"):
        what = "end of statement"
    else:
        what = "an expression"
    return text.expected(what, None if place is None else tokens[place])


def span_of(*nodes: exp.Expression | None) -> Span | None:
    """Return the span of names or functions in the query, if it is known."""
    span: Span | None = None
    for meta in (node.meta for node in nodes if node is not None):
        found = meta.get(_PLACE)
        if found is None and "start" in meta and "end" in meta:
            found = Span(meta["start"], meta["end"] + 1)
        span = span if found is None else found.union(span)
    return span


def arg(node: exp.Expression, name: str) -> Any:
    """Return a part of a node; newer versions of sqlglot write some part names with an underscore."""
    found = node.args.get(name)
    return node.args.get(name + "_") if found is None else found


def properties(tree: exp.Create) -> list[exp.Expression]:
    """Return the properties of a CREATE besides columns and query, including each :class:`Option`."""
    found = tree.args.get("properties")
    return list(found.expressions) if found is not None else []


def table_name(node: exp.Expression) -> str:
    """Return the name of a table with all its parts."""
    parts = [node.args.get(part) for part in ("catalog", "db", "this")]
    return ".".join(str(part.this) for part in parts if isinstance(part, exp.Identifier))


def folded(name: exp.Expression) -> str:
    """Return a name as Arroyo compares it: in lower case, unless it is quoted."""
    text = str(name.this)
    if name.args.get("quoted") or text.islower():
        return text
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def fold_names(tree: exp.Expression) -> None:
    """Convert every name in a tree to lower case, except quoted ones."""
    for name in tree.find_all(exp.Identifier):
        name.set("this", folded(name))
        name.set("quoted", True)
