"""What is not judged is accepted, and listed in plain words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox_sql.support import server_table

from .support import KAFKA, ORDERS, ask

LISTED = {
    "SELECT counter FROM impulse OFFSET 5": "OFFSET",
    "SELECT counter FROM impulse FETCH FIRST 5 ROWS ONLY": "FETCH",
    "SELECT counter FROM impulse QUALIFY row_number() OVER (ORDER BY counter) = 1": "QUALIFY",
    "SELECT counter FROM impulse ORDER BY counter": "ORDER BY",
    "SELECT current_timestamp FROM impulse": "current_timestamp",
    "SELECT DISTINCT counter FROM impulse": "DISTINCT",
    "SELECT counter FROM impulse INTERSECT SELECT counter FROM impulse": "INTERSECT",
    "SELECT counter FROM impulse GROUP BY ROLLUP (counter)": "ROLLUP, CUBE and GROUPING SETS",
    "SELECT a FROM impulse, UNNEST(ARRAY[1, 2]) AS u(a)": "UNNEST in FROM",
    "SELECT counter FROM generate(1, 2), impulse": "a function in FROM",
    "SELECT counter, counter FROM impulse": "columns of the same name",
    "SELECT i.counter FROM impulse i JOIN impulse j ON i.counter = j.counter": "joins",
    "SELECT count(*) FROM impulse GROUP BY tumble(interval '1 month')": "grouping and windows",
    "SELECT row_number() OVER (ORDER BY counter) FROM impulse": "window functions",
    "SELECT counter + 'x' FROM impulse": "types of expressions",
    "SELECT counter FROM impulse WHERE counter IN (SELECT counter FROM impulse)": "subqueries in expressions",
    "INSERT INTO sink SELECT count(*) FROM impulse": "updates that are written to the table sink",
    "CREATE TABLE t (n TINYINT) WITH ({}); SELECT n FROM t": "the type TINYINT of the column n",
    "CREATE TABLE t (n FROB) WITH ({}); SELECT n FROM t": "the type FROB of the column n",
    "CREATE TABLE t (n INT, m INT GENERATED ALWAYS AS (n + 1)) WITH ({}); SELECT m FROM t": "the expression of the "
    "column m",
    "CREATE TABLE t (n TEXT METADATA FROM 'x') WITH ({}); SELECT n FROM t": "METADATA FROM of the column n",
    "CREATE TABLE t (n TIMESTAMP, WATERMARK FOR n) WITH ({}); SELECT n FROM t": "WATERMARK FOR",
    "CREATE TABLE t WITH (connector = 'redis', type = 'sink', format = 'json', target = 'x');"
    "INSERT INTO t SELECT counter FROM impulse": "the options of the connector redis",
    "CREATE TABLE t (n INT) WITH ({}, 'auth.password' = '{{{{ SECRET }}}}'); SELECT n FROM t": "the environment "
    "variables of the option auth.password",
    "CREATE INDEX i ON impulse (counter); SELECT counter FROM impulse": "the statement CREATE INDEX",
    "CREATE TABLE t (n STRUCT<m TINYINT>) WITH ({}); SELECT n FROM t": "the type STRUCT<m TINYINT> of the column n",
    "CREATE TABLE t (n INT) WITH ({}, 'source.offset' = 'x'); SELECT n FROM t": "the options of the connector kafka",
    "CREATE TABLE t (n INT) WITH ({}, bad_data = 'x'); SELECT n FROM t": "the options of formats and watermarks",
    "CREATE TABLE t (n STRUCT<m INT>) WITH ({}); SELECT t.n.m, n.o FROM t": "fields of columns",
    "CREATE TABLE t (n TEXT) WITH (connector = 'blackhole'); INSERT INTO t SELECT counter FROM impulse": "types of "
    "what is written to the table t",
    "INSERT INTO sink VALUES (1)": "VALUES",
    "CREATE VIEW v AS SELECT 1; SELECT counter FROM impulse": "SELECT without FROM",
    "DROP TABLE impulse; SELECT counter FROM impulse": "the statement DROP",
}  # fmt: skip


@pytest.mark.parametrize("query, what", LISTED.items())
def test_accepted_and_listed(query: str, what: str) -> None:
    found = ask(query.format(KAFKA.format("json", "source")) if "{}" in query else query)
    assert found.graph is not None, found.errors
    assert what in found.not_judged


@pytest.mark.parametrize(
    "query", ["SELECT counter FROM impulse", "INSERT INTO sink SELECT i.counter AS n FROM impulse AS i"]
)
def test_nothing_is_listed_where_all_is_judged(query: str) -> None:
    assert ask(query).not_judged == ()


def test_the_list_is_there_for_what_is_refused_too() -> None:
    assert "DISTINCT" in ask("SELECT DISTINCT counter FROM impulse; SELECT frob FROM impulse").not_judged


def test_tables_and_functions_of_the_server_are_listed_where_they_are_used() -> None:
    source = "from arroyo_udf import udf\n\n@udf\ndef shout(x: str) -> str:\n    return x"
    server: dict[str, Any] = {
        "udfs": [{"definition": source, "language": "python"}],
        "tables": [server_table("events", "kafka", {"topic": "events"})],
    }
    used = ask("SELECT shout(word) AS s FROM events", **server).not_judged
    assert {"the types and the body of the function shout", "the columns of the table events"} <= set(used)
    assert ask("SELECT counter FROM impulse", **server).not_judged == ()


@pytest.mark.parametrize(
    "query, panic",
    [
        ("SELECT DISTINCT ON (id) id FROM orders", "DISTINCT ON"),
        ("SELECT count(*) FROM orders GROUP BY tumble(interval '0 seconds')", "a window of zero width"),
        ("SELECT tumble('0 s') AS w, count(*) FROM orders GROUP BY w", "a window of zero width"),
        ("SELECT count(*) FROM orders GROUP BY hop(interval '0' second, '1 minute')", "a window of zero width"),
    ],
)  # fmt: skip
def test_panics_are_told_apart(query: str, panic: str) -> None:
    found = ask(ORDERS + query)
    assert (found.panic, found.graph, found.errors, found.refusal) == (panic, None, (), None)
    # What is refused before it is planned does not get so far.
    refused = ask(ORDERS + query + "; SELECT frob FROM orders")
    assert (refused.panic, refused.errors[0]["message"]) == (None, "column 'frob' not found")
