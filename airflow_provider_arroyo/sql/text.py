"""The text of a query: its tokens and statements, and the positions that messages name."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from sqlglot import Token, TokenType
from sqlglot.dialects import Postgres
from sqlglot.errors import TokenError

from airflow_provider_arroyo.sql.errors import RefusedError, syntax

#: Maximum nesting of brackets in Arroyo's parser.
_MAX_DEPTH = 50
_STATEMENTS = re.compile(
    "KILL|FLUSH|DESC|DESCRIBE|EXPLAIN|ANALYZE|SELECT|WITH|VALUES|FROM|TRUNCATE|ATTACH|MSCK|CREATE|CACHE|DROP|DISCARD|"
    "DECLARE|FETCH|DELETE|INSERT|REPLACE|UNCACHE|UPDATE|ALTER|CALL|COPY|CLOSE|SET|SHOW|USE|GRANT|REVOKE|START|BEGIN|"
    "END|SAVEPOINT|RELEASE|COMMIT|RAISERROR|ROLLBACK|ASSERT|DEALLOCATE|EXECUTE|EXEC|PREPARE|MERGE|PRAGMA|UNLOAD|"
    r"RENAME|LOAD|COMMENT|LISTEN|UNLISTEN|NOTIFY|INSTALL|DETACH|OPTIMIZE|\("
)
# Words that may come between CREATE and the type of object.
_MODIFIERS = ("OR", "REPLACE", "TEMPORARY", "TEMP", "MATERIALIZED")
#: The tokens that open brackets, and those that close them.
OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)


class Text:
    """A query, and positions in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def locate(self, offset: int) -> dict[str, int]:
        """Return line and column of an offset, both counted from 1."""
        line = bisect_right(self._lines, offset)
        return {"line": line, "column": offset - self._lines[line - 1] + 1}

    def where(self, offset: int) -> str:
        """Return a position in the words of the parser."""
        return " at Line: {line}, Column: {column}".format(**self.locate(offset))

    def raw(self, token: Token) -> str:
        """Return a token as it was written."""
        return self.text[token.start : token.end + 1]

    def expected(self, what: str, token: Token | None) -> RefusedError:
        """Return the error for an unexpected token."""
        found = "EOF" if token is None else self.raw(token) + self.where(token.start)
        return syntax(f"Expected: {what}, found: {found}")


def tokenize(text: Text) -> list[Token]:
    """Return the tokens of a query.

    :raises RefusedError: if it cannot be split into tokens, for example because a quote is not closed.
    """
    # The second: older versions of sqlglot do not know the escapes of E'it\'s'.
    for written in (text.text, text.text.replace("\\'", "''")):
        try:
            return list(Postgres().tokenize(written))
        except TokenError as error:
            missing = re.match(r"Missing (.+) from \d+:(\d+)$", str(error.__cause__))
    if missing is None:
        end = text.where(len(text.text))
        raise syntax(f"Unexpected EOF while in a multi-line comment{end}", "TokenizerError")
    name = "Expected close delimiter '\"' before EOF."
    what = name if missing[1] == '"' else "Unterminated string literal"
    raise syntax(what + text.where(int(missing[2])), "TokenizerError")


def statements(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Split tokens at the semicolons; empty statements are dropped."""
    chunk: list[Token] = []
    for token in tokens:
        if token.token_type != TokenType.SEMICOLON:
            chunk.append(token)
        elif chunk:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def word(token: Token | None) -> str:
    """Return the first word of a token in upper case; empty for a quoted name, a string, or no token."""
    if token is None or token.token_type in (TokenType.STRING, TokenType.IDENTIFIER):
        return ""
    return token.text.upper().partition(" ")[0]


def first_word(text: Text, tokens: Sequence[Token]) -> str:
    """Return the first word of a statement, in upper case.

    :raises RefusedError: if no statement begins with it.
    """
    token, raw = tokens[0], text.raw(tokens[0])
    if _STATEMENTS.fullmatch(word(token)):
        return word(token)
    if not (raw[:1].isalnum() or raw[:1] in "_'\""):
        raise syntax(f"Expected: an SQL statement, found: {raw[:1]}{text.where(token.start)}")
    raise text.expected("an SQL statement", token)


def check_shape(text: Text, tokens: Sequence[Token]) -> None:
    """Refuse syntax that sqlglot accepts but Arroyo's parser does not.

    :raises RefusedError: if brackets are nested too deeply, or if something is missing after a word or a comma.
    """
    depth = 0
    outside: list[int] = []  # of brackets
    is_query = word(tokens[0]) != "CREATE"  # elsewhere, these words may be column names
    for place, token in enumerate(tokens):
        following = tokens[place + 1] if place + 1 < len(tokens) else None
        outside += [place] if depth == 0 else []
        if token.token_type in OPENING:
            depth += 1
            if depth > _MAX_DEPTH:
                raise RefusedError("SQL error: RecursionLimitExceeded")
        elif token.token_type in CLOSING:
            depth -= 1
        elif token.token_type == TokenType.COMMA and is_query:
            if following is None or following.token_type in (*CLOSING, TokenType.COMMA):
                raise text.expected("an expression", following)
            if word(following) == "FROM":
                where = text.where(following.start)
                raise syntax(f"Expected an expression, found: {text.raw(following)}{where}")
    last = word(tokens[-1]) and tokens[-1].text.upper()
    if is_query and (last == "AS" or last.endswith(" BY")):
        raise text.expected("an identifier after AS" if last == "AS" else "an expression", None)
    words = {word(tokens[place]): place for place in reversed(outside)}
    if not is_query and "AS" not in words:
        objects = (word(token) for token in tokens[1:] if word(token) not in _MODIFIERS)
        if next(objects, "") == "VIEW":
            raise text.expected("AS", next((t for t in tokens if word(t) in ("SELECT", "WITH")), None))
        opening = tokens[words["WITH"] + 1 :][:1] if "WITH" in words else []
        if "WITH" in words and [word(token) for token in opening] != ["("]:
            raise text.expected("(", opening[0] if opening else None)
