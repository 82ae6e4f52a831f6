"""Errors in SQL, in the words of Arroyo's parser."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A span of the query, as character offsets: ``start`` inclusive, ``end`` exclusive."""

    start: int
    end: int

    def union(self, other: Span | None) -> Span:
        """Return the smallest span that contains both."""
        return self if other is None else Span(min(self.start, other.start), max(self.end, other.end))


class RefusedError(Exception):
    """Arroyo refuses the query.

    :param text: the full error, as in 0.15, and in 0.16 if it has no headline.
    :param headline: the shorter text of 0.16, if any.
    :param span: the position in the query that 0.16 adds to a headline.
    """

    def __init__(self, text: str, headline: str | None = None, span: Span | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.headline = headline
        self.span = span


def syntax(message: str, kind: str = "ParserError") -> RefusedError:
    """Return the error for text that is not SQL."""
    return RefusedError(f'SQL error: {kind}("{"".join(map(_escape, message))}")')


def _escape(character: str) -> str:
    simple = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
    if character in simple:
        return simple[character]
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"
