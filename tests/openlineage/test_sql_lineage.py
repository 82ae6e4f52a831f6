"""Which tables SQL reads and writes: through views, WITH clauses and memory tables."""

from __future__ import annotations

import pytest

from airflow_provider_arroyo.sandbox.sql import evaluate
from airflow_provider_arroyo.sql.lineage import MAX_CHARACTERS, UnreadableSqlError, read_lineage
from tests.sandbox_sql.support import ORDERS as ORDERS_OF_SANDBOX
from tests.sandbox_sql.support import TABLES
from tests.sandbox_sql.test_accepted import QUERIES
from tests.sandbox_sql.test_recorded import CASES

ORDERS = "CREATE TABLE Orders (id BIGINT) WITH (connector = 'kafka', topic = 'orders', type = 'source');"
SINK = "CREATE TABLE sink (id BIGINT) WITH (connector = 'kafka', topic = 'out', type = 'sink');"


@pytest.mark.parametrize(
    "query, reads, writes",
    [
        ("SELECT * FROM orders", ["orders"], []),
        ("INSERT INTO sink SELECT * FROM ORDERS", ["orders"], ["sink"]),
        ('INSERT INTO "Sink" SELECT * FROM "Orders"', ["orders"], ["sink"]),
        ("INSERT INTO sink (id) SELECT id FROM orders; INSERT INTO sink SELECT 1 FROM b", ["orders", "b"], ["sink"]),
        ("CREATE VIEW v AS SELECT * FROM orders; INSERT INTO sink SELECT * FROM v", ["orders"], ["sink"]),
        ("CREATE VIEW v AS SELECT * FROM orders", [], []),
        ("CREATE TABLE v AS SELECT * FROM orders; CREATE VIEW w AS SELECT * FROM v; SELECT * FROM w", ["orders"], []),
        ("CREATE TABLE m (id BIGINT); INSERT INTO m SELECT * FROM a; INSERT INTO s SELECT * FROM m", ["a"], ["s"]),
        ("WITH a AS (SELECT * FROM b) SELECT * FROM a", ["b"], []),
        ("WITH orders AS (SELECT * FROM orders) SELECT * FROM orders", ["orders"], []),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT * FROM b", ["b"], []),
        ("WITH RECURSIVE a AS (SELECT * FROM a) SELECT * FROM a", [], []),
        ("SELECT * FROM (WITH a AS (SELECT * FROM b) SELECT * FROM a), a", ["a", "b"], []),
        ("INSERT INTO sink WITH a AS (SELECT * FROM b) SELECT * FROM a", ["b"], ["sink"]),
        ("SELECT * FROM a JOIN b ON a.x = b.x WHERE a.y IN (SELECT y FROM c)", ["a", "b", "c"], []),
        ("SELECT * FROM a UNION ALL SELECT * FROM b", ["a", "b"], []),
        ("SELECT count(*) FROM a GROUP BY tumble(interval '1 minute')", ["a"], []),
        ("SELECT * FROM unnest(array[1, 2])", [], []),
        ("SET updating_ttl = '1 day'; SELECT * FROM a", ["a"], []),
        ("-- a comment\n ; ;SELECT 1 FROM a;", ["a"], []),
        ("", [], []),
    ],
)  # fmt: skip
def test_reads_and_writes(query: str, reads: list[str], writes: list[str]) -> None:
    lineage = read_lineage(query)
    assert sorted(lineage.reads) == sorted(reads)
    assert list(lineage.writes) == writes


def test_declared_and_undeclared_tables_are_distinguished() -> None:
    lineage = read_lineage(
        f"{ORDERS}{SINK}CREATE TABLE unused WITH (connector = 'kafka', connection_profile = 'other');"
        "CREATE TABLE p (a INT) WITH (connector = 'kafka', 'Connection_Profile' = 'mine');"
        "INSERT INTO sink SELECT o.id FROM orders o JOIN customers ON true JOIN p ON true;"
    )
    assert lineage.tables["orders"].options == {"connector": "kafka", "topic": "orders", "type": "source"}
    assert lineage.undeclared == {"customers"}
    assert lineage.profiles == {"mine"}


def test_columns() -> None:
    lineage = read_lineage(
        'CREATE TABLE t (Id BIGINT UNSIGNED NOT NULL, "At" TIMESTAMP, s STRUCT<a INT, b TEXT>, l TEXT[],'
        ' k TEXT METADATA FROM \'key\', d TIMESTAMP GENERATED ALWAYS AS ("At"), WATERMARK FOR "At")'
        " WITH (connector = 'kafka')"
    )
    assert lineage.tables["t"].columns == (
        ("id", "BIGINT UNSIGNED"),
        ("At", "TIMESTAMP"),
        ("s", "STRUCT<a INT, b TEXT>"),
        ("l", "ARRAY<TEXT>"),
    )


def test_views_that_double_take_limited_time() -> None:
    views = "".join(f"CREATE VIEW v{n} AS SELECT * FROM v{n - 1}, v{n - 1} b;" for n in range(1, 60))
    assert read_lineage(f"{views}SELECT * FROM v59").reads == ("v0",)


@pytest.mark.parametrize(
    "query",
    [
        "nonsense",
        "INSERT INTO",
        "CREATE TABLE x WITH (",
        "SELECT 'never closed",
        "SELECT * FROM a; SELEC b",
        "/* never closed",
        "\0",
        "SELECT " + "NOT " * 9000 + "a FROM b",
        "SELECT " + "(" * 60 + "a",
        "SELECT * FROM a QUALIFY ROW_NUMBER( OVER",
        "SELECT a FROM b -- " + "x" * MAX_CHARACTERS,
    ],
)
def test_unreadable_sql_is_one_error_that_does_not_contain_the_sql(query: str) -> None:
    with pytest.raises(UnreadableSqlError) as caught:
        read_lineage(f"{query}")
    assert "a FROM" not in str(caught.value)
    assert "never" not in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        *(f"{TABLES}{ORDERS_OF_SANDBOX}{query};" for query in QUERIES),
        *{case["query"]: None for version, case in CASES if version == "0.16" and "tables" not in case},
    ],
)
def test_accepted_sql_has_the_sources_and_sinks_of_its_graph(query: str) -> None:
    found = evaluate(query, arroyo_version="0.16")
    if found.graph is None:
        return
    lineage = read_lineage(query)
    # Its graph leaves out subqueries in expressions.
    assert {one.name.casefold() for one in found.sources} <= set(lineage.reads)
    assert {one.name.casefold() for one in found.sinks} - {"preview"} == set(lineage.writes)
