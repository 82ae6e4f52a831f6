"""From text to tokens and trees, with the place of every name, and with the words of Arroyo's parser."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from sqlglot import Token, TokenType, exp
from sqlglot.dialects import Postgres
from sqlglot.errors import ErrorLevel, ParseError, TokenError

from airflow_provider_arroyo.sandbox.sql.diagnostics import Diagnostic, RefusedError, Span, syntax

#: How deep brackets may nest before Arroyo's parser gives up.
MAX_DEPTH = 50

_QUERY = "SELECT, VALUES, or a subquery in the query body"
_CLAUSES = ("FROM", "WHERE", "GROUP", "HAVING", "UNION", "ORDER", "LIMIT")

# A type of token that older versions of sqlglot lack.
_SESSION = getattr(TokenType, "SESSION", TokenType.WINDOW)

# Names under which a place is kept in the `meta` of a node; sqlglot's own differ between versions.
_START, _END = "arroyo_start", "arroyo_end"

_STATEMENTS = frozenset(
    re.split(
        r"\s+",
        """KILL FLUSH DESC DESCRIBE EXPLAIN ANALYZE SELECT WITH VALUES FROM TRUNCATE ATTACH MSCK CREATE CACHE DROP
    DISCARD DECLARE FETCH DELETE INSERT REPLACE UNCACHE UPDATE ALTER CALL COPY CLOSE SET SHOW USE GRANT REVOKE
    START BEGIN END SAVEPOINT RELEASE COMMIT RAISERROR ROLLBACK ASSERT DEALLOCATE EXECUTE EXEC PREPARE MERGE
    PRAGMA UNLOAD RENAME LOAD COMMENT""",
    )
)


class Text:
    """A query, and where in it things are."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def locate(self, offset: int) -> dict[str, int]:
        """Return line and column of an offset; both count from 1."""
        line = bisect_right(self._lines, offset)
        return {"line": line, "column": offset - self._lines[line - 1] + 1}

    def raw(self, token: Token) -> str:
        """Return a token as it was written."""
        return self.text[token.start : token.end + 1]

    def at(self, token: Token | None) -> str:
        """Return how the parser names a token that it did not expect."""
        if token is None:
            return "EOF"
        place = self.locate(token.start)
        return f"{self.raw(token)} at Line: {place['line']}, Column: {place['column']}"

    def expected(self, what: str, token: Token | None) -> RefusedError:
        """Return the refusal of a token that does not belong there."""
        return syntax(f"Expected: {what}, found: {self.at(token)}")


_QUOTED = re.compile(
    r"""--[^\n]*|(?P<comment>/\*)(?:.*?\*/|(?P<open_comment>.*\Z))"""
    r"""|'(?:[^']|'')*(?:'|(?P<open_text>\Z))|"(?:[^"]|"")*(?:"|(?P<open_name>\Z))""",
    re.DOTALL,
)


def tokenize(text: Text) -> list[Token]:
    """Return the tokens of a query.

    :raises RefusedError: it cannot be cut into tokens, as when a quote is left open.
    """
    try:
        return list(Postgres().tokenize(text.text))
    except TokenError as error:
        raise _not_tokens(text) from error


def _not_tokens(text: Text) -> RefusedError:
    for match in _QUOTED.finditer(text.text):
        place = text.locate(match.start())
        where = f" at Line: {place['line']}, Column: {place['column']}"
        if match["open_text"] is not None:
            return syntax("Unterminated string literal" + where, kind="TokenizerError")
        if match["open_name"] is not None:
            return syntax("Expected close delimiter '\"' before EOF." + where, kind="TokenizerError")
        if match["open_comment"] is not None:
            end = text.locate(len(text.text))
            where = f" at Line: {end['line']}, Column: {end['column']}"
            return syntax("Unexpected EOF while in a multi-line comment" + where, kind="TokenizerError")
    end = text.locate(len(text.text))
    return syntax(
        f"Unexpected character at Line: {end['line']}, Column: {end['column']}", kind="TokenizerError"
    )


def statements(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Cut tokens at the semicolons; empty statements are left out."""
    chunk: list[Token] = []
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            if chunk:
                yield chunk
            chunk = []
        else:
            chunk.append(token)
    if chunk:
        yield chunk


def word(token: Token | None) -> str:
    """Return a token in capitals; the empty text for a quoted name, a string, or no token."""
    if token is None or token.token_type in (TokenType.STRING, TokenType.IDENTIFIER):
        return ""
    return token.text.upper()


def check_start(text: Text, tokens: Sequence[Token]) -> str:
    """Return the first word of a statement, in capitals.

    :raises RefusedError: no statement begins like that.
    """
    first = text.raw(tokens[0]).split(maxsplit=1)[0].upper() if text.raw(tokens[0]) else ""
    if first == "(" or (first in _STATEMENTS and tokens[0].token_type != TokenType.IDENTIFIER):
        return first
    raise text.expected("an SQL statement", tokens[0])


def check_shape(text: Text, tokens: Sequence[Token]) -> None:
    """Refuse what sqlglot lets pass and Arroyo's parser does not.

    :raises RefusedError: brackets nest too deep or do not close, or a comma hangs in the air.
    """
    depth = 0
    # Elsewhere, these words may be names of columns.
    starts_query = word(tokens[0]) != "CREATE"
    closing = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE}
    opening = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE}
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.token_type in opening:
            depth += 1
            if depth > MAX_DEPTH:
                raise RefusedError(Diagnostic("SQL error: RecursionLimitExceeded"))
        elif token.token_type in closing:
            depth -= 1
        elif token.token_type == TokenType.COMMA and (
            following is None
            or following.token_type in closing
            or (starts_query and word(following).split(" ")[0] in _CLAUSES)
        ):
            raise text.expected("an expression", following)


# What sqlglot puts around a call: OVER, FILTER and so on.
_AROUND_CALLS = (exp.Window, exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls)


class _Parser(Postgres.Parser):  # type: ignore[misc]  # the type of a nested class is not known to mypy
    """sqlglot's parser, which here keeps the place of names and the names of functions as written."""

    # Left out: sqlglot would put its own names in the place of those that the query uses.
    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
        name: parser
        for name, parser in Postgres.Parser.FUNCTION_PARSERS.items()
        if name in ("CAST", "TRY_CAST", "EXTRACT", "POSITION", "SUBSTRING", "TRIM", "OVERLAY")
    }

    failed_at: Token | None = None

    def raise_error(self, message: str, *args: Any, **kwargs: Any) -> None:
        self.failed_at = args[0] if args and args[0] is not None else self._curr
        super().raise_error(message, *args, **kwargs)

    def _parse_as_command(self, *_: Any, **__: Any) -> Any:
        # sqlglot would take what it does not know as it is, and log a warning.
        self.raise_error("Invalid expression / Unexpected token")

    def _parse_id_var(self, *args: Any, **kwargs: Any) -> Any:
        node = super()._parse_id_var(*args, **kwargs)
        if isinstance(node, exp.Identifier) and self._prev is not None:
            node.meta.setdefault(_START, self._prev.start)
            node.meta.setdefault(_END, self._prev.end + 1)
        return node

    def _parse_function(self, *args: Any, **kwargs: Any) -> Any:
        token = self._curr
        node = super()._parse_function(*args, **kwargs)
        called = node
        while isinstance(called, _AROUND_CALLS):
            called = called.this
        if isinstance(called, exp.Anonymous) and token is not None and _START not in called.meta:
            called.meta[_START] = token.start
            called.meta[_END] = token.end + 1
        return node


def _plain_names(tokens: list[Token]) -> list[Token]:
    """Return tokens as Arroyo reads them, where sqlglot takes them for something else.

    ``session`` and ``window`` are names, except at the beginning of a WINDOW clause, and FLOAT is
    another type than DOUBLE.
    """
    if not any(token.token_type in (_SESSION, TokenType.WINDOW, TokenType.DOUBLE) for token in tokens):
        return tokens
    found: list[Token] = []
    for place, token in enumerate(tokens):
        kind = token.token_type
        named = tokens[place + 1].text[:1].isalpha() if len(tokens) > place + 2 else False
        clause = named and word(tokens[place + 2]) == "AS"
        if kind in (_SESSION, TokenType.WINDOW) and not clause:
            kind = TokenType.VAR
        elif kind == TokenType.DOUBLE and word(token) == "FLOAT":
            kind = TokenType.FLOAT
        if kind != token.token_type:
            token = Token(kind, token.text, token.line, token.col, token.start, token.end, [])
        found.append(token)
    return found


def parse(text: Text, tokens: list[Token]) -> exp.Expression:
    """Return the tree of one statement or expression.

    :raises RefusedError: it is not SQL.
    """
    tokens = _plain_names(tokens)
    parser = _Parser(error_level=ErrorLevel.IMMEDIATE, dialect=Postgres())
    try:
        trees = parser.parse(tokens, text.text)
    except ParseError as error:
        raise _refused(text, tokens, parser.failed_at, str(error)) from error
    if not trees or trees[0] is None:
        raise text.expected("an expression", None)
    return trees[0]  # type: ignore[no-any-return]  # the parser is untyped, see above


def parse_query(text: Text, tokens: list[Token]) -> exp.Expression:
    """Return the tree of a query.

    :raises RefusedError: it is not SQL, or no query.
    """
    first = next((token for token in tokens if token.token_type != TokenType.L_PAREN), None)
    if not tokens or first is None:
        raise text.expected(_QUERY, None)
    tree = parse(text, tokens)
    if isinstance(tree, exp.Query | exp.Subquery | exp.Values | exp.Table | exp.Insert):
        return tree
    raise text.expected(_QUERY, first)


def _refused(text: Text, tokens: Sequence[Token], token: Token | None, message: str) -> RefusedError:
    known = token is not None and any(token is candidate for candidate in tokens)
    failed = token if known else None
    index = next((i for i, candidate in enumerate(tokens) if candidate is failed), len(tokens))
    before = word(tokens[index - 1]) if index else ""
    wanted = re.match(r"Expecting (\S+?)\.? ", message)
    if wanted:
        what = wanted.group(1)
    elif before in ("FROM", "JOIN", "INTO", "TABLE", "VIEW", "AS"):
        what = "identifier"
    elif message.startswith("Invalid expression / Unexpected token"):
        what = "end of statement"
    else:
        what = "an expression"
    return text.expected(what, failed)


def no_rows(text: Text) -> RefusedError:
    """Return the refusal of an INSERT that does not say what to insert."""
    return text.expected(_QUERY, None)


def span_of(node: exp.Expression | None) -> Span | None:
    """Return where a name or a function stands in the query, where that is known."""
    if node is None:
        return None
    meta = node.meta
    if _START in meta:
        return Span(meta[_START], meta[_END])
    if "start" in meta and "end" in meta:
        return Span(meta["start"], meta["end"] + 1)
    return None


def arg(node: exp.Expression, name: str) -> Any:
    """Return a part of a node; newer versions of sqlglot write some part names with an underscore."""
    found = node.args.get(name)
    return node.args.get(name + "_") if found is None else found


def identifier(node: exp.Expression) -> str:
    """Return a name as Arroyo compares it: small letters, unless it is quoted."""
    name = str(node.this)
    if node.args.get("quoted"):
        return name
    return name.lower() if name.isascii() else "".join(c.lower() if c.isascii() else c for c in name)
