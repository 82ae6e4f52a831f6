"""What is wrong with some SQL, in the words of Arroyo's parser."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the query, as offsets of characters: from ``start`` up to but without ``end``."""

    start: int
    end: int

    def union(self, other: Span | None) -> Span:
        """Return the smallest span that holds both."""
        return self if other is None else Span(min(self.start, other.start), max(self.end, other.end))


class RefusedError(Exception):
    """Arroyo refuses the query.

    :param text: the error in full, as 0.15 says it and 0.16 where it has no headline.
    :param headline: the shorter words that 0.16 has for it, if any.
    :param span: the place in the query that 0.16 names beside a headline.
    """

    def __init__(self, text: str, headline: str | None = None, span: Span | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.headline = headline
        self.span = span


def syntax(message: str, kind: str = "ParserError") -> RefusedError:
    """Return the refusal of text that is not SQL."""
    return RefusedError(f'SQL error: {kind}("{"".join(map(_escape, message))}")')


def _escape(character: str) -> str:
    simple = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
    if character in simple:
        return simple[character]
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"
