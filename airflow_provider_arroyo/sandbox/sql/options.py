"""The options of a WITH clause, and the kinds of their values."""

from __future__ import annotations

import os
import re

from airflow_provider_arroyo.sandbox.sql.refusals import planning
from airflow_provider_arroyo.sql.errors import RefusedError

_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Options(dict[str, tuple[str, str]]):
    """The kind (``string``, ``number``, ``boolean``, ``expression``) and the text of each option.

    Each one that is asked for is taken out.
    """

    def drop(self, *prefixes: str) -> bool:
        """Take out every option whose name begins with one of the texts; return whether there was one."""
        names = [name for name in self if name.startswith(prefixes)]
        for name in names:
            del self[name]
        return bool(names)

    def text(self, name: str) -> str | None:
        """Take out an option that must be a string.

        :raises RefusedError: it is none.
        """
        return self._of_kind(name, ("string",), "a single-quoted string")

    def required_text(self, name: str) -> str:
        """Take out an option that must be a string and must be there.

        :raises RefusedError: it is not.
        """
        found = self.text(name)
        if found is None:
            raise planning(f"required option '{name}' not set")
        return found

    def number(self, name: str, *, whole: bool = False) -> float | None:
        """Take out an option that must be a number.

        :param name: the option.
        :param whole: whether it must be a whole number of 64 bits.
        :raises RefusedError: it is none.
        """
        what = "an integer" if whole else "a double"
        text = self._of_kind(name, ("string", "number"), what)
        if text is None:
            return None
        try:
            if re.fullmatch(r"[+-]?[0-9]{1,19}" if whole else r"[^\s_]+", text):
                found = int(text) if whole else float(text)
                if not whole or -(2**63) <= found < 2**63:
                    return found
        except ValueError:
            pass
        raise _wrong(name, what, text)

    def variables(self) -> dict[str, list[str]]:
        """Return the environment variables that each option names."""
        return {name: _VARIABLE.findall(text) for name, (_, text) in self.items()}

    def _of_kind(self, name: str, kinds: tuple[str, ...], what: str) -> str | None:
        kind, text = self.pop(name, ("", ""))
        if not kind:
            return None
        if kind not in kinds:
            raise _wrong(name, what, text)
        return text


def check_set(variables: list[str]) -> None:
    """Check that environment variables are set in this process, as a real server does in its own.

    :raises RefusedError: one of them is not set.
    """
    for name in variables:
        if name not in os.environ:
            raise planning(f"Environment variable {name} not found")


def _wrong(name: str, what: str, text: str) -> RefusedError:
    return planning(f"expected with option '{name}' to be {what}, but it was `{text}`")
