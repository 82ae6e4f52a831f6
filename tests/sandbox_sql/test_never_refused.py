"""Queries whose names are all there are never refused, however their parts are nested and renamed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from .support import ORDERS, accepted

Relation = tuple[str, Sequence[str]]
"""What a query reads: its name there, and its columns."""

VIEW = "CREATE VIEW named AS SELECT id AS vid, name AS vname FROM orders;\n"
TABLES: Mapping[str, Sequence[str]] = {
    "orders": ("id", "name", "ts", "tags", "place"),
    "impulse": ("counter", "subtask_index"),
    "named": ("vid", "vname"),
}


EXPRESSIONS = (
    *("coalesce({0}, {1})", "({0} = {1})", "CASE WHEN {0} IS NULL THEN 1 ELSE {1} END"),
    *("({0} IN (1, {1}))", "CAST({0} AS TEXT)", "({0} AND NOT {1})"),
)


@dataclass
class Writer:
    """Writes queries that name only what is there.

    :param draw: what the queries are drawn from.
    """

    draw: random.Random
    count: int = 0

    def new(self) -> str:
        """Return a name that was not used before."""
        self.count += 1
        return f"n{self.count}"

    def written(self, name: str) -> str:
        """Return a name in one of the ways in which it may be written."""
        return self.draw.choice((name, name.upper(), f'"{name}"'))

    def column(self, relations: Sequence[Relation]) -> tuple[str, str]:
        """Return how a column is written, and its name."""
        source, columns = self.draw.choice(relations)
        name = self.draw.choice(columns)
        is_clear = sum(list(listed).count(name) for _, listed in relations) == 1
        if is_clear and self.draw.random() < 0.6:
            return self.written(name), name
        return f"{self.written(source)}.{self.written(name)}", name

    def expression(self, relations: Sequence[Relation], ctes: Mapping[str, Sequence[str]], depth: int) -> str:
        """Return an expression over columns."""
        if depth <= 0 or self.draw.random() < 0.5:
            return self.column(relations)[0]
        if self.draw.random() < 0.2:
            return f"EXISTS ({self.query(ctes, depth - 1, relations)[0]})"
        one, other = (self.expression(relations, ctes, depth - 1) for _ in range(2))
        form = self.draw.choice(EXPRESSIONS)
        return form.format(one, other)

    def relation(self, ctes: Mapping[str, Sequence[str]], depth: int) -> tuple[str, Relation]:
        """Return how something to select from is written, and what it is."""
        alias = self.new()
        if depth > 0 and self.draw.random() < 0.4:
            query, columns = self.query(ctes, depth - 1)
            if self.draw.random() < 0.3:
                columns = [self.new() for _ in columns]
                return f"({query}) AS {alias} ({', '.join(columns)})", (alias, columns)
            return f"({query}) {alias}", (alias, columns)
        name, columns = self.draw.choice(list({**TABLES, **ctes}.items()))
        if self.draw.random() < 0.7:
            return f"{self.written(name)} AS {alias}", (alias, columns)
        return self.written(name), (name, columns)

    def query(
        self, ctes: Mapping[str, Sequence[str]], depth: int, around: Sequence[Relation] = ()
    ) -> tuple[str, Sequence[str]]:
        """Return a query and the names of its columns, each of which it gives once."""
        text, relation = self.relation(ctes, depth)
        relations = [relation]
        while self.draw.random() < 0.3:
            joined, relation = self.relation(ctes, depth)
            if relation[0] not in [name for name, _ in relations]:
                relations.append(relation)
                text += f" LEFT JOIN {joined} ON {self.column(relations)[0]} = {self.column(relations)[0]}"
        seen = [*relations, *(one for one in around if one[0] not in [name for name, _ in relations])]
        columns = [name for _, listed in relations for name in listed]
        items = ["*"]
        if len(set(columns)) < len(columns) or self.draw.random() < 0.8:
            column, name = self.column(relations)
            items, columns = [column], [name]
            for _ in range(self.draw.randrange(3)):
                columns.append(self.new())
                items.append(f"{self.expression(seen, ctes, depth)} AS {columns[-1]}")
        where = f" WHERE {self.expression(seen, ctes, depth)}" if self.draw.random() < 0.4 else ""
        return f"SELECT {', '.join(items)} FROM {text}{where}", columns

    def program(self) -> str:
        """Return a query with some in WITH before it."""
        ctes: dict[str, Sequence[str]] = {}
        parts = []
        for _ in range(self.draw.randrange(3)):
            query, columns = self.query(ctes, 2)
            name = self.new()
            parts.append(f"{name} AS ({query})")
            ctes[name] = columns
        query, _ = self.query(ctes, 2)
        return f"{'WITH ' if parts else ''}{', '.join(parts)} {query}"


@given(seed=st.integers(0, 2**32))
def test_a_query_whose_names_are_all_there(seed: int) -> None:
    query = Writer(random.Random(seed)).program()
    for version in ("0.15", "0.16"):
        accepted(ORDERS + VIEW + query, version)
