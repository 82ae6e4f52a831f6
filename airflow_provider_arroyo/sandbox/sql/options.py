"""The options of a WITH clause, and what kinds of values they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_arroyo.sandbox.sql.diagnostics import planning


@dataclass(frozen=True, slots=True)
class Option:
    """The value of an option in a WITH clause.

    :param kind: ``string``, ``number``, ``boolean``, ``name`` or ``expression``.
    :param text: the value; of a string what stands between the quotes.
    """

    kind: str
    text: str


class Options:
    """The options of a WITH clause; each one that is asked for is taken out."""

    def __init__(self, options: Mapping[str, Option]) -> None:
        self._options = dict(options)

    def __len__(self) -> int:
        return len(self._options)

    def left(self) -> list[str]:
        """Return the names that nothing asked for."""
        return list(self._options)

    def with_text(self, name: str, text: str) -> Options:
        """Return the options with one more, which is a string."""
        return Options({**self._options, name: Option("string", text)})

    def names(self, name: str) -> tuple[str, ...]:
        """Take out an option that may be a list of names."""
        option = self._options.pop(name, None)
        text = "" if option is None else option.text.strip().removeprefix("[").removesuffix("]")
        return tuple(part.strip().strip("'\"") for part in text.split(",") if part.strip())

    def drop(self, *prefixes: str) -> None:
        """Take out every option whose name begins with one of the texts."""
        for name in self.left():
            if name.startswith(prefixes):
                del self._options[name]

    def text(self, name: str) -> str | None:
        """Take out an option that must be a string."""
        option = self._options.pop(name, None)
        if option is None:
            return None
        if option.kind != "string":
            raise planning(
                f"expected with option '{name}' to be a single-quoted string, but it was `{option.text}`"
            )
        return option.text

    def required_text(self, name: str) -> str:
        """Take out an option that must be a string and must be there."""
        found = self.text(name)
        if found is None:
            raise planning(f"required option '{name}' not set")
        return found

    def integer(self, name: str) -> int | None:
        """Take out an option that must be a whole number of 64 bits."""
        text = self._number(name, "an integer")
        if text is None:
            return None
        digits = text[1:] if text[:1] in ("+", "-") else text
        if not (digits.isascii() and digits.isdigit()) or not -(2**63) <= int(text[:40]) < 2**63:
            raise planning(f"expected with option '{name}' to be an integer, but it was `{text}`")
        return int(text)

    def double(self, name: str) -> float | None:
        """Take out an option that must be a number."""
        text = self._number(name, "a double")
        if text is None:
            return None
        try:
            if "_" in text or text != text.strip():
                raise ValueError(text)
            return float(text)
        except ValueError as error:
            raise planning(f"expected with option '{name}' to be a double, but it was `{text}`") from error

    def boolean(self, name: str) -> bool | None:
        """Take out an option that must be true or false."""
        option = self._options.pop(name, None)
        if option is None:
            return None
        known = {"true": True, "yes": True, "false": False, "no": False}
        if option.kind in ("string", "boolean") and option.text.lower() in known:
            return known[option.text.lower()]
        shown = f"'{option.text}'" if option.kind == "string" else option.text
        raise planning(f"expected with option '{name}' to be a boolean, but it was `{shown}`")

    def _number(self, name: str, what: str) -> str | None:
        option = self._options.pop(name, None)
        if option is None:
            return None
        if option.kind not in ("string", "number"):
            raise planning(f"expected with option '{name}' to be {what}, but it was `{option.text}`")
        return option.text
