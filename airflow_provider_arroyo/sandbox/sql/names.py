"""Names: every table, column and function that a query uses must be there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.errors import OptimizeError
from sqlglot.optimizer.scope import Scope, traverse_scope, walk_in_scope

from airflow_provider_arroyo.sandbox.sql import functions
from airflow_provider_arroyo.sandbox.sql.dialect import arg, span_of
from airflow_provider_arroyo.sandbox.sql.refusals import Column, no_column, no_function, no_table, planning
from airflow_provider_arroyo.sandbox.sql.shape import call_name
from airflow_provider_arroyo.sandbox.sql.tables import Table
from airflow_provider_arroyo.sandbox.sql.udfs import Udf, mismatch

# What is accepted without a check, under the names of sqlglot's classes, which differ between versions.
_NOT_JUDGED = {
    **{"Window": "window functions", "Distinct": "DISTINCT", "Qualify": "QUALIFY", "Offset": "OFFSET"},
    **{"Fetch": "FETCH", "Lateral": "LATERAL", "Unnest": "UNNEST in FROM", "Pivot": "PIVOT"},
    **{"TableSample": "TABLESAMPLE", "Values": "VALUES", "Intersect": "INTERSECT and EXCEPT"},
    **{"Except": "INTERSECT and EXCEPT", "Lock": "FOR UPDATE", "Rollup": "ROLLUP, CUBE and GROUPING SETS"},
    **{"Cube": "ROLLUP, CUBE and GROUPING SETS", "GroupingSets": "ROLLUP, CUBE and GROUPING SETS"},
    **{"Group": "grouping and windows", "Having": "grouping and windows", "Join": "joins", "Union": "UNION"},
    **{"CurrentTimestamp": "current_timestamp", "CurrentDate": "current_date", "CurrentTime": "current_time"},
    **{"Localtime": "localtime", "Localtimestamp": "localtimestamp", "Placeholder": "parameters"},
    **{"Parameter": "parameters", "Lambda": "lambda functions", "Dot": "fields of columns"},
    **{"Exists": "subqueries in expressions", "Order": "ORDER BY", "Limit": "LIMIT"},
}
# What stands in an expression without making it one whose type could be wrong.
_PLAIN = (
    exp.Column,
    exp.Identifier,
    exp.Star,
    exp.Alias,
    exp.Literal,
    exp.Null,
    exp.Boolean,
    exp.Paren,
    exp.Var,
)
# The clauses with expressions, in the order in which Arroyo resolves them, and whether it tells places.
_CLAUSES = (("joins", True), ("where", True), ("expressions", True), ("group", True), ("having", False))
_LATER = ("qualify", "order", "distinct", "windows")


@dataclass(slots=True)
class Relation:
    """The columns of a table or a query.

    :param columns: name and, where it is an integer, Arrow type of each.
    :param is_open: whether it may have columns that are not known.
    """

    columns: dict[str, str | None]
    is_open: bool = False
    count: int | None = None

    def renamed(self, names: list[str]) -> Relation:
        """Return it with other names for its first columns."""
        types = [*self.columns.values()] if self.count == len(self.columns) else []
        types += [None] * (len(names) - len(types))
        return Relation(
            dict(zip(names, types, strict=False)), self.is_open or self.count != len(names), self.count
        )


@dataclass(slots=True)
class Names:
    """Checks the names of queries.

    :param table: returns a table by its name, or None.
    :param udfs: the user-defined functions.
    :param not_judged: where to note what is accepted without being checked.
    """

    table: Callable[[str], Table | None]
    udfs: Mapping[str, Udf]
    not_judged: dict[str, None]
    _made: dict[int, Relation] = field(default_factory=dict)
    _sources: dict[int, dict[str, Relation]] = field(default_factory=dict)

    def check(self, tree: exp.Expression) -> Relation:
        """Check a query whose names are in small letters, and return its columns.

        :raises RefusedError: a name is not there.
        """
        scopes: list[Scope] = []
        try:
            scopes = traverse_scope(tree)
            for scope in scopes:
                self._sources[id(scope)] = self._relations(scope)
                self._check(scope)
                self._made[id(scope.expression)] = self._output(scope)
            return self._made[id(scopes[-1].expression)] if scopes else Relation({}, is_open=True)
        except OptimizeError:
            self.not_judged["names in a query that uses a name twice"] = None
            return Relation({}, is_open=True)
        finally:
            self._made.clear()
            self._sources.clear()

    def _relations(self, scope: Scope) -> dict[str, Relation]:
        found: dict[str, Relation] = {}
        if not isinstance(scope.expression, exp.Select):
            return found
        for name, (node, source) in scope.selected_sources.items():
            if isinstance(source, Scope):
                relation = self._made.get(id(source.expression), Relation({}, is_open=True))
                if relation.is_open:
                    self.not_judged["names of columns of a subquery"] = None
                if source.is_cte and source.outer_columns:
                    relation = relation.renamed(source.outer_columns)
            elif isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
                relation = self._declared(source)
            else:
                self.not_judged["a function in FROM"] = None
                relation = Relation({}, is_open=True)
            alias = node.args.get("alias")
            columns = alias.args.get("columns") if isinstance(alias, exp.TableAlias) else None
            found[name] = relation.renamed([column.name for column in columns]) if columns else relation
        if scope.expression.args.get("laterals") or any(s.is_udtf for s in scope.udtf_scopes):
            found[""] = Relation({}, is_open=True)
        return found

    def _declared(self, node: exp.Table) -> Relation:
        parts = [part for part in node.parts if isinstance(part, exp.Identifier)]
        name = ".".join(str(part.this) for part in parts)
        table = self.table(name)
        if table is not None:
            return Relation(table.columns, table.is_open, len(table.columns))
        alias = node.args.get("alias")
        named = [alias.this, *(alias.args.get("columns") or [])] if isinstance(alias, exp.TableAlias) else []
        raise no_table(name, span_of(*parts, *named))

    def _check(self, scope: Scope) -> None:
        tree = scope.expression
        self._note(tree)
        if not isinstance(tree, exp.Select):
            return
        aliases = {item.alias for item in tree.expressions if isinstance(item, exp.Alias)}
        for clause, located in (*_CLAUSES, *((name, False) for name in _LATER)):
            after = clause not in ("joins", "where", "expressions")
            value = tree.args.get(clause)
            for node in value if isinstance(value, list) else [value]:
                if isinstance(node, exp.Expression):
                    self._walk(scope, node, located, aliases if after else set())

    def _note(self, node: exp.Expression) -> None:
        what = _NOT_JUDGED.get(type(node).__name__)
        if what is not None:
            self.not_judged[what] = None

    def _walk(self, scope: Scope, top: exp.Expression, located: bool, aliases: set[str]) -> None:
        for node in walk_in_scope(top):
            self._note(node)
            if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
                self._column(scope, node, located, aliases)
            elif (name := call_name(node)) is not None:
                self._function(scope, node, name, located)
            elif isinstance(node, exp.Query) and node is not top and not isinstance(node.parent, exp.Join):
                self.not_judged["subqueries in expressions"] = None
            elif isinstance(node, exp.Condition) and not isinstance(node, _PLAIN):
                self.not_judged["types of expressions"] = None

    def _column(self, scope: Scope, node: exp.Column, located: bool, aliases: set[str]) -> None:
        parts = [part for part in node.parts if isinstance(part, exp.Identifier)]
        names = [str(part.this) for part in parts]
        qualifier = names[0] if len(names) > 1 else None
        if qualifier is None and names[0] in aliases:
            return
        around: Scope | None = scope
        while around is not None:
            sources = self._sources.get(id(around)) or self._relations(around)
            known = sources.get(names[0]) if qualifier is not None else None
            if known is not None:
                if names[1] not in known.columns and not known.is_open:
                    raise no_column(
                        (names[0], names[1]), _valid(around, sources), span_of(*parts) if located else None
                    )
                return
            # A column of a struct is written like a column of a table.
            fitting = sum(names[0] in one.columns for one in sources.values())
            if fitting > 1:
                self.not_judged["columns of the same name"] = None
            if fitting or any(one.is_open for one in sources.values()):
                return
            if len(names) > 2:
                self.not_judged["fields of columns"] = None
                return
            around = around.parent
        column = (qualifier, names[-1])
        raise no_column(column, _valid(scope, self._sources[id(scope)]), span_of(*parts) if located else None)

    def _function(self, scope: Scope, node: exp.Expression, name: str, located: bool) -> None:
        if isinstance(node.parent, exp.Dot | exp.Table):
            self.not_judged[f"the function {name}"] = None
            return
        if name not in functions.AGGREGATES and name in functions.SCALARS:
            self.not_judged["types of expressions"] = None
        elif name in functions.AGGREGATES:
            self.not_judged["grouping and windows"] = None
        udf = self.udfs.get(name)
        if udf is not None:
            given = [self._integer(scope, argument) for argument in node.expressions]
            problem = mismatch(udf, given)
            if problem is not None:
                raise planning(problem)
        elif name not in functions.SCALARS | functions.AGGREGATES | functions.WINDOW_FUNCTIONS:
            known = functions.SCALARS | functions.AGGREGATES | set(self.udfs)
            raise no_function(name, known, span_of(node) if located else None)

    def _integer(self, scope: Scope, node: exp.Expression) -> str | None:
        """Return the Arrow name of the type of a column that is an integer."""
        if not isinstance(node, exp.Column):
            return None
        sources = self._sources[id(scope)]
        fitting = [
            one for name, one in sources.items() if node.table in ("", name) and node.name in one.columns
        ]
        return fitting[0].columns[node.name] if len(fitting) == 1 else None

    def _output(self, scope: Scope) -> Relation:
        tree = scope.expression
        if isinstance(tree, exp.SetOperation):
            return self._made.get(id(tree.this.unnest()), Relation({}, is_open=True))
        if not isinstance(tree, exp.Select):
            return Relation({}, is_open=True)
        found = Relation({}, count=0)
        sources = self._sources[id(scope)]
        for item in tree.expressions:
            named = item.this if isinstance(item, exp.Cast) else item
            star = item.this if isinstance(item, exp.Column) else item
            count: int | None = 1
            if isinstance(star, exp.Star):
                count = self._star(star, item, sources, found)
            elif isinstance(named, exp.Alias):
                self._once(named.alias, found.columns)
                found.columns[named.alias] = self._integer(scope, named.this)
            elif isinstance(named, exp.Column) and len(named.parts) == 1 + bool(named.table in sources):
                self._once(named.name, found.columns)
                found.columns[named.name] = self._integer(scope, item)
            else:
                found.columns.setdefault(str(len(found.columns)) + "\0", None)
                found.is_open = True
            found.count = None if found.count is None or count is None else found.count + count
        return found

    def _once(self, name: str, columns: Mapping[str, str | None]) -> None:
        if name in columns:
            self.not_judged["columns of the same name"] = None

    @staticmethod
    def _star(
        star: exp.Star, item: exp.Expression, sources: Mapping[str, Relation], found: Relation
    ) -> int | None:
        left_out = {part.name for part in arg(star, "except") or []}
        table = item.table if isinstance(item, exp.Column) else ""
        if table and table not in sources and not any(one.is_open for one in sources.values()):
            raise planning(f"Invalid qualifier {table}")
        count: int | None = 0
        for name, relation in sources.items():
            if table in ("", name):
                columns = {key: kind for key, kind in relation.columns.items() if key not in left_out}
                found.columns |= columns
                found.is_open = found.is_open or relation.is_open
                whole = relation.count == len(relation.columns)
                count = count + len(columns) if whole and count is not None else None
        if arg(star, "replace") or arg(star, "rename") or len(sources) > 1:
            found.is_open, count = True, None
        return count


def _valid(scope: Scope, sources: Mapping[str, Relation]) -> list[Column]:
    return [
        (name or None, column)
        for name, relation in sources.items()
        for column in relation.columns
        if not column.endswith("\0")
    ]


def outputs(tree: exp.Expression, relation: Relation) -> Iterator[str]:
    """Go through the names of the columns of a query as far as they are known, for readers."""
    expressions = tree.selects if isinstance(tree, exp.Query) else []
    for place, name in enumerate(relation.columns):
        if not name.endswith("\0"):
            yield name
        elif len(expressions) == len(relation.columns):
            yield expressions[place].sql("postgres")[:100]
