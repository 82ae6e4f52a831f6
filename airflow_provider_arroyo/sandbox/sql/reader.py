"""Goes through the tokens of a statement of which sqlglot knows too little."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import Token, TokenType, exp

from airflow_provider_arroyo.sandbox.sql.diagnostics import RefusedError
from airflow_provider_arroyo.sandbox.sql.parsing import Text, parse, word

CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)


class Reader:
    """Goes through the tokens of one statement."""

    def __init__(self, text: Text, tokens: Sequence[Token]) -> None:
        self.text = text
        self._whole = tokens
        self.tokens: Sequence[Token] = [part for token in tokens for part in _words(text, token)]
        self.place = 0

    @property
    def token(self) -> Token | None:
        """The token that comes next; None at the end."""
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
        """Go past these words, which must come next; ``what`` is said to be expected instead of them."""
        for wanted in words:
            if not self.skip(wanted):
                raise self.expected(what or wanted)

    def expected(self, what: str) -> RefusedError:
        """Return the refusal of the token that comes next."""
        return self.text.expected(what, self.token)

    def next(self, what: str) -> Token:
        """Take the token that comes next, whatever it is."""
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
                token.token_type == TokenType.COMMA or token.token_type in CLOSING or word(token) in stops
            ):
                break
            depth += (token.token_type in OPENING) - (token.token_type in CLOSING)
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
