"""Finds the tables that some SQL reads and writes, through its views, and how it declares them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import Token, exp

from airflow_provider_arroyo.sql import dialect, text
from airflow_provider_arroyo.sql.dialect import Metadata, Option, arg, folded, properties, table_name
from airflow_provider_arroyo.sql.text import Text

MAX_CHARACTERS = 50_000
"""Longer SQL is not read, because that would take seconds; in characters."""

_QUERIES = ("SELECT", "WITH", "VALUES", "FROM", "(")
_UNSIGNED = re.compile(r"\bU(BIGINT|INT|SMALLINT|TINYINT)\b")
_NOT_STORED = (
    "ComputedColumnConstraint",
    "GeneratedAsIdentityColumnConstraint",
    "GeneratedAsRowColumnConstraint",
)
"""The constraints of computed columns, named as sqlglot's classes."""


class UnreadableSqlError(Exception):
    """The lineage of some SQL cannot be determined, although the SQL may be valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTable:
    """A table with a connector that some SQL creates.

    :param options: its options by name, if they are strings, numbers or booleans. They may hold secrets.
    :param columns: name and type of each column that its connector stores, in order; empty if none are given.
    """

    options: Mapping[str, str]
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlLineage:
    """What some SQL reads and writes outside of itself.

    :param reads, writes: names of tables, in order; an undeclared one is a connection table of the server.
    :param tables: the tables that it declares, by name.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tables: Mapping[str, DeclaredTable]

    @property
    def undeclared(self) -> frozenset[str]:
        """The names that only the server can resolve."""
        return frozenset({*self.reads, *self.writes} - set(self.tables))

    @property
    def profiles(self) -> frozenset[str]:
        """The connection profiles that the used tables name."""
        used = (self.tables[name] for name in {*self.reads, *self.writes} & set(self.tables))
        return frozenset(
            one.options["connection_profile"] for one in used if "connection_profile" in one.options
        )


def read_lineage(query: str) -> SqlLineage:
    """Return what some SQL reads and writes.

    :param query: the SQL.
    :raises UnreadableSqlError: if any part of it cannot be read; no other error is raised.
    """
    if len(query) > MAX_CHARACTERS:
        raise UnreadableSqlError(f"it is longer than {MAX_CHARACTERS} characters")
    reader = _Reader(query)
    try:
        return reader.read()
    except UnreadableSqlError:
        raise
    except Exception as err:  # the parser refuses it, or fails on it
        # Only the type of the error: its message repeats parts of the SQL.
        raise UnreadableSqlError(f"the parser does not know it ({type(err).__name__})") from err


class _Reader:
    """Processes the statements one after the other."""

    def __init__(self, query: str) -> None:
        self._text = Text(query)
        self._tables: dict[str, DeclaredTable] = {}
        # The tables that each view, or table in memory, reads; dicts keep the order of names.
        self._views: dict[str, dict[str, None]] = {}
        self._reads: dict[str, None] = {}
        self._writes: dict[str, None] = {}

    def read(self) -> SqlLineage:
        for tokens in text.statements(text.tokenize(self._text)):
            self._statement(tokens)
        return SqlLineage(reads=tuple(self._reads), writes=tuple(self._writes), tables=self._tables)

    def _statement(self, tokens: list[Token]) -> None:
        first = text.first_word(self._text, tokens)
        if first not in ("CREATE", "INSERT", *_QUERIES):
            return  # such as SET, which reads and writes nothing
        tree = dialect.parse(self._text, tokens)
        if tree is None:
            raise UnreadableSqlError("it has syntax that is only known from other dialects")
        if isinstance(tree, exp.Create) and tree.kind in ("TABLE", "VIEW"):
            self._create(tree)
        elif isinstance(tree, exp.Insert):
            self._insert(tree)
        elif dialect.is_query(tree):
            self._reads |= self._sources(tree)

    def _create(self, tree: exp.Create) -> None:
        query, named = tree.args.get("expression"), tree.this
        name = _key(named)
        if query is not None:
            self._views[name] = self._sources(query)
            return
        options = {
            str(one.args["name"]).lower(): str(one.args["text"])
            for one in properties(tree)
            if isinstance(one, Option) and one.args["kind"] != "expression"
        }
        if options.get("connector", "memory") == "memory":
            self._views[name] = {}
        else:
            columns = named.expressions if isinstance(named, exp.Schema) else []
            self._tables[name] = DeclaredTable(options=options, columns=tuple(_columns(columns)))

    def _insert(self, tree: exp.Insert) -> None:
        name = _key(tree.this)
        sources = self._sources(tree, besides=tree.this)
        if name in self._views:
            self._views[name] |= sources
            return
        self._writes[name] = None
        self._reads |= sources

    def _sources(self, tree: exp.Expression, besides: exp.Expression | None = None) -> dict[str, None]:
        """Return the tables that a statement reads, besides a part of it that is skipped; views are resolved."""
        found: dict[str, None] = {}
        left_out = set() if besides is None else {id(node) for node in besides.walk()}
        for node in tree.find_all(exp.Table):
            if id(node) in left_out or not isinstance(node.this, exp.Identifier) or _is_cte(node):
                continue
            name = _key(node)
            found |= self._views.get(name, {name: None})
        return found


def _is_cte(table: exp.Table) -> bool:
    """Return whether a name in FROM refers to a query in a preceding WITH."""
    if len(table.parts) > 1:
        return False
    name, below = folded(table.this), {id(table)}
    node: Any = table.parent
    while node is not None:
        below.add(id(node))
        clause = arg(node, "with")
        for one in clause.expressions if clause is not None else ():
            if id(one) in below:
                # Inside it, only earlier ones are visible, and itself if it is recursive.
                if clause.args.get("recursive") and _alias(one) == name:
                    return True
                break
            if _alias(one) == name:
                return True
        node = node.parent
    return False


def _alias(cte: Any) -> str:
    alias = cte.args.get("alias")
    return folded(alias.this) if alias is not None and alias.this is not None else ""


def _key(named: Any) -> str:
    """Return the name of a table in the form used for comparisons."""
    return table_name(named.this if isinstance(named, exp.Schema) else named).casefold()


def _columns(items: list[Any]) -> Iterator[tuple[str, str]]:
    for item in items:
        if not isinstance(item, exp.ColumnDef):
            continue
        kinds = [one.kind for one in item.args.get("constraints") or []]
        if any(isinstance(kind, Metadata) or type(kind).__name__ in _NOT_STORED for kind in kinds):
            continue
        kind = item.args.get("kind")
        # sqlglot has its own spelling of some types.
        shown = _UNSIGNED.sub(r"\1 UNSIGNED", kind.sql()) if isinstance(kind, exp.Expression) else ""
        yield folded(item.this), shown
