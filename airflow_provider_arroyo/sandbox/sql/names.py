"""Checks that every table, column and function that a query names exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sqlglot import exp
from sqlglot.errors import ErrorLevel, OptimizeError
from sqlglot.optimizer.scope import Scope, ScopeType, traverse_scope, walk_in_scope

from airflow_provider_arroyo.sandbox.sql import functions
from airflow_provider_arroyo.sandbox.sql.functions import Udf, mismatch
from airflow_provider_arroyo.sandbox.sql.refusals import Column, no_column, no_function, no_table, planning
from airflow_provider_arroyo.sandbox.sql.shape import call_name
from airflow_provider_arroyo.sandbox.sql.tables import Table
from airflow_provider_arroyo.sql.dialect import arg, span_of

_SETS = "ROLLUP, CUBE and GROUPING SETS"
# What is accepted without being checked, by the names of sqlglot's classes: not every version has all of them.
_NOT_JUDGED = {
    **{"Window": "window functions", "Distinct": "DISTINCT", "Qualify": "QUALIFY", "Offset": "OFFSET"},
    **{"Fetch": "FETCH", "Lateral": "LATERAL", "Unnest": "UNNEST in FROM", "Pivot": "PIVOT"},
    **{"TableSample": "TABLESAMPLE", "Lock": "FOR UPDATE", "Values": "VALUES", "Union": "UNION"},
    **{"Intersect": "INTERSECT", "Except": "EXCEPT", "Order": "ORDER BY", "Limit": "LIMIT", "Join": "joins"},
    **{"Group": "grouping and windows", "Rollup": _SETS, "Cube": _SETS, "GroupingSets": _SETS},
    **{"CurrentTimestamp": "current_timestamp", "CurrentDate": "current_date", "CurrentTime": "current_time"},
    **{"Placeholder": "parameters", "Parameter": "parameters", "Exists": "subqueries in expressions"},
}
_INNER = "names qualified by what a subquery without an alias reads"
# Expressions that have no type errors of their own.
_PLAIN = (
    *(exp.Column, exp.Identifier, exp.Star, exp.Alias, exp.Literal),
    *(exp.Null, exp.Boolean, exp.Paren, exp.Var),
)
# Words before a subquery or an array, which sqlglot does not always distinguish from functions.
_PREDICATES = ("all", "any", "exists", "some")
# The clauses that see only columns, and those that also see the aliases of SELECT.
_BEFORE = ("joins", "where", "expressions", "distinct")
_AFTER = ("group", "having", "qualify", "order")


@dataclass(slots=True)
class Relation:
    """The columns of a table or a query.

    :param columns: by name, the Arrow type if it is an integer type, else None; the key of a column whose name is
        not known is a number and a NUL.
    :param is_open: whether there may be other columns.
    :param count: how many columns there are; None: that is not known.
    """

    columns: dict[str, str | None] = field(default_factory=dict)
    is_open: bool = False
    count: int | None = None

    def renamed(self, names: Sequence[str]) -> Relation:
        """Return it with other names of its columns."""
        types = (
            list(self.columns.values())
            if self.count == len(self.columns) == len(names)
            else [None] * len(names)
        )
        return Relation(dict(zip(names, types, strict=True)), self.count != len(names), self.count)


_OPEN = Relation(is_open=True)


@dataclass(slots=True)
class Names:
    """Checks the names in queries.

    :param table: returns the table of a name, or None.
    :param not_judged: where to note what is accepted without being checked.
    """

    table: Callable[[str], Table | None]
    udfs: Mapping[str, Udf]
    not_judged: dict[str, None]
    _made: dict[int, Relation] = field(default_factory=dict)
    _sources: dict[int, dict[str, Relation]] = field(default_factory=dict)

    def check(self, tree: exp.Expression) -> Relation:
        """Check a query whose unquoted names are in lower case, and return its columns.

        :raises RefusedError: if a name does not exist.
        """
        for node in tree.walk():
            if (what := _NOT_JUDGED.get(type(node).__name__)) is not None:
                self.not_judged[what] = None
            if isinstance(node, exp.Condition) and not isinstance(node, _PLAIN):
                self.not_judged["types of expressions"] = None
        try:
            for scope in traverse_scope(tree):
                self._sources[id(scope)] = self._relations(scope)
                self._check(scope)
                self._made[id(scope.expression)] = self._output(scope)
        except OptimizeError:
            self.not_judged["names in a query that gives a name twice"] = None
        return self._made.get(id(tree.unnest()), _OPEN)

    def _relations(self, scope: Scope) -> dict[str, Relation]:
        """Return the columns of what a scope selects from, by table name or alias."""
        found: dict[str, Relation] = {}
        tree = scope.expression
        for name, (_, source) in scope.selected_sources.items() if isinstance(tree, exp.Select) else ():
            if isinstance(source, Scope):
                relation = self._made.get(id(source.expression), _OPEN)
                if relation.is_open and not source.outer_columns:
                    self.not_judged["names of columns of a subquery"] = None
                found[name] = relation.renamed(source.outer_columns) if source.outer_columns else relation
            elif isinstance(source.this, exp.Identifier):
                found[name] = self._declared(source)
            else:
                self.not_judged["a function in FROM"] = None
                found[name] = _OPEN
        joins = tree.args.get("joins") or []
        if any(join.kind in ("SEMI", "ANTI") or join.method or join.args.get("using") for join in joins):
            found[""] = _OPEN
        return found

    def _declared(self, node: exp.Table) -> Relation:
        parts = [part for part in node.parts if isinstance(part, exp.Identifier)]
        table = self.table(".".join(part.name for part in parts))
        alias = node.args.get("alias")
        renamed = alias.args.get("columns") or [] if isinstance(alias, exp.TableAlias) else []
        if table is None:
            named = [alias.this, *renamed] if isinstance(alias, exp.TableAlias) else []
            raise no_table(".".join(part.name for part in parts), span_of(*parts, *named))
        if table.is_open:
            self.not_judged[f"the columns of the table {table.name}"] = None
        relation = Relation(table.columns, table.is_open, None if table.is_open else len(table.columns))
        return relation.renamed([column.name for column in renamed]) if renamed else relation

    def _check(self, scope: Scope) -> None:
        tree = scope.expression
        if not isinstance(tree, exp.Select):
            return
        if arg(tree, "from") is None:
            self.not_judged["SELECT without FROM"] = None
        aliases = {item.alias for item in tree.expressions if isinstance(item, exp.Alias)}
        given = {**dict.fromkeys(_AFTER, aliases), "order": {item.alias_or_name for item in tree.expressions}}
        for clause in (*_BEFORE, *_AFTER):
            value = tree.args.get(clause)
            for top in value if isinstance(value, list) else [value]:
                if isinstance(top, exp.Expression):
                    self._walk(scope, top, clause != "having", given.get(clause, set()))

    def _walk(self, scope: Scope, top: Any, located: bool, given: set[str]) -> None:
        node: Any
        for node in walk_in_scope(top):
            name = call_name(node)
            if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
                # A name of SELECT may be followed by a field, and in ORDER BY follow any qualifier.
                if not any(part.name in given for part in node.parts):
                    self._column(scope, node, located)
            elif name is not None:
                self._function(scope, node, name, located)
            elif isinstance(node, exp.Query) and not isinstance(node.parent, exp.Join | exp.Lateral):
                self.not_judged["subqueries in expressions"] = None

    def _column(self, scope: Scope, node: exp.Column, located: bool) -> None:
        parts = [part for part in node.parts if isinstance(part, exp.Identifier)]
        names = [part.name for part in parts]
        around: Any = scope
        while around is not None:
            if self._is_there(names, self._sources.get(id(around)) or self._relations(around)):
                return
            if around.expression.find_ancestor(exp.Lateral) is not None:
                return
            # A query in WITH or FROM does not see its neighbours, but what the query around them sees.
            while around.scope_type in (ScopeType.CTE, ScopeType.DERIVED_TABLE):
                around = around.parent
            around = around.parent
        qualifier = ".".join(names[:-1]) or None
        span = span_of(*parts) if located else None
        raise no_column((qualifier, names[-1]), _valid(self._sources[id(scope)]), span)

    def _is_there(self, names: Sequence[str], sources: Mapping[str, Relation]) -> bool:
        """Return whether a column, or a field of one, is among the sources of a query, or may be."""
        # The name of a table may follow those of a catalog and a schema, whatever they are.
        for table, column in pairwise(names[:4]):
            known = sources.get(table)
            if known is not None and (known.is_open or column in known.columns):
                return True
        # A field of a column is written like a column of a table.
        fitting = sum(names[0] in one.columns for one in sources.values())
        if fitting > 1:
            self.not_judged["columns of the same name"] = None
        if fitting and len(names) > 1:
            self.not_judged["fields of columns"] = None
        if fitting or any(one.is_open for one in sources.values()):
            return True
        if len(names) > 1 and "" in sources:
            self.not_judged[_INNER] = None
            return True
        return False

    def _function(self, scope: Scope, node: Any, name: str, located: bool) -> None:
        aggregate = name in functions.AGGREGATES
        self.not_judged["grouping and windows" if aggregate else "types of expressions"] = None
        udf = self.udfs.get(name)
        if udf is not None:
            self.not_judged[f"the types and the body of the function {name}"] = None
            problem = mismatch(udf, [self._integer(scope, argument) for argument in node.expressions])
            if problem is not None:
                raise planning(problem)
        elif isinstance(node.parent, exp.Dot) or name in _PREDICATES:
            self.not_judged[f"the function {name}"] = None
        elif not aggregate and name not in functions.SCALARS and name not in functions.WINDOW_FUNCTIONS:
            known = functions.SCALARS | functions.AGGREGATES | set(self.udfs)
            raise no_function(name, known, span_of(node) if located else None)

    def _integer(self, scope: Scope, node: Any) -> str | None:
        """Return the Arrow type of a column if it is an integer type."""
        if not isinstance(node, exp.Column):
            return None
        sources = self._sources[id(scope)].items()
        fitting = [one for name, one in sources if node.table in ("", name) and node.name in one.columns]
        return fitting[0].columns[node.name] if len(fitting) == 1 else None

    def _output(self, scope: Scope) -> Relation:
        tree: Any = scope.expression
        if isinstance(tree, exp.SetOperation):
            return self._made.get(id(tree.this.unnest()), _OPEN)
        if not isinstance(tree, exp.Select):
            return _OPEN
        sources = self._sources[id(scope)]
        found = Relation(count=0)
        for item in tree.expressions:
            star = item.this if isinstance(item, exp.Column) else item
            if isinstance(star, exp.Star):
                self._star(star, item.table if star is not item else "", sources, found)
                continue
            named = item.this if isinstance(item, exp.Cast) else item  # a cast keeps the name of its column
            name = named.alias_or_name if isinstance(named, exp.Alias | exp.Column) else ""
            if isinstance(named, exp.Column) and len(named.parts) > 1 + (named.table in sources):
                name = ""
            if name in found.columns:
                self.not_judged["columns of the same name"] = None
            found.is_open = found.is_open or not name
            found.columns[name or f"{len(found.columns)}\0"] = self._integer(scope, item.unalias())
            found.count = None if found.count is None else found.count + 1
        return found

    def _star(self, star: Any, table: str, sources: Mapping[str, Relation], found: Relation) -> None:
        """Add the columns that a ``*`` selects."""
        meant = [relation for name, relation in sources.items() if table in ("", name)]
        if not meant and "" in sources:
            self.not_judged[_INNER] = None
        elif not meant and not any(one.is_open for one in sources.values()):
            raise planning(f"Invalid qualifier {table}")
        left_out = {part.name for part in arg(star, "except") or []}
        for relation in meant or [_OPEN]:
            columns = {name: kind for name, kind in relation.columns.items() if name not in left_out}
            found.columns |= columns
            found.is_open = found.is_open or relation.is_open
            whole = found.count is not None and relation.count == len(relation.columns)
            found.count = (found.count or 0) + len(columns) if whole else None


def _valid(sources: Mapping[str, Relation]) -> list[Column]:
    """Return every column that has a name, with its table or alias."""
    columns = [(name or None, column) for name, relation in sources.items() for column in relation.columns]
    return [(name, column) for name, column in columns if not column.endswith("\0")]


def outputs(tree: Any, relation: Relation) -> Iterator[str]:
    """Yield the names of the columns of a query, as far as they are known, for people to read."""
    items = tree.selects if isinstance(tree, exp.Query) else []
    for place, name in enumerate(relation.columns):
        if not name.endswith("\0"):
            yield name
        elif len(items) == len(relation.columns):
            yield items[place].sql(unsupported_level=ErrorLevel.IGNORE, copy=False)[:100]
