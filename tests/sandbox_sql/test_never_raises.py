"""Whatever stands in a query, there is an answer: a graph, errors or a panic, and no exception."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.sandbox.sql import Evaluation, evaluate
from tests.sandbox_sql.support import server_table

VERSIONS = st.sampled_from(("0.15", "0.16"))
QUERIES = (
    "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"
    "CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT counter FROM impulse;",
    "CREATE TABLE i WITH (connector = 'impulse', event_rate = 1e3, message_count = '7');"
    " SELECT count(*), tumble(interval '1 minute') AS w FROM i WHERE counter % 2 == 0 GROUP BY w, subtask_index;",
    "CREATE TABLE t (id TEXT PRIMARY KEY, ts TIMESTAMP NOT NULL, x STRUCT<a INT, b TEXT[]>,"
    " d INT GENERATED ALWAYS AS (length(id)) STORED, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')"
    " WITH (connector = 'single_file', path = '/a', type = 'source', format = 'json');"
    " CREATE VIEW v AS (SELECT id, x.a AS a FROM t); -- a comment\n"
    " SELECT v.id, q.n FROM v JOIN (SELECT id AS i, count(*) AS n FROM t GROUP BY id) q ON v.id = q.i",
    "WITH c AS (SELECT counter AS n FROM imp) SELECT * FROM (SELECT n, row_number() OVER (PARTITION BY w ORDER"
    " BY n DESC) AS r FROM (SELECT max(n) AS n, hop(interval '1 second', '10 seconds') AS w FROM c GROUP BY 2))"
    " WHERE r <= 5 AND n IN (1, 2) OR CASE WHEN n IS NULL THEN true ELSE n BETWEEN 1 AND 2 END",
    "SET updating_ttl = interval '5' second; SELECT a.counter FROM imp a, imp b WHERE a.counter = b.counter"
    " UNION ALL SELECT cast(subtask_index AS BIGINT) FROM imp /* é \U0001f600 */",
)
TABLES = [server_table("imp", "impulse", {"event_rate": 5})]
PIECES = (*"();,.'\"*=<>[]{}-%$@\\:", "--", "/*", "*/", " ", "\n", "é", "\x00", "\U0001f600", "SELECT", "FROM",
          "GROUP BY", "NULL", "''", "0", "1e999", "interval", "tumble(", "CREATE TABLE", "INSERT INTO")  # fmt: skip


def check(found: Evaluation) -> None:
    """Check what holds for every evaluation; it must not have failed itself either."""
    failed = [what for what in found.not_judged if "cannot read" in what]
    assert failed in ([], ["a statement that the sandbox cannot read (RecursionError)"])
    assert [found.graph is not None, bool(found.errors), found.panic is not None].count(True) == 1
    assert (found.refusal is not None) == bool(found.errors)
    for error in found.errors:
        assert error["message"]
        if error["span"] is not None:
            assert error["span"]["start"]["line"] >= 1
            assert error["span"]["start"]["column"] >= 1


@given(query=st.text(max_size=200), version=VERSIONS)
def test_random_text(query: str, version: str) -> None:
    check(evaluate(query, arroyo_version=version))


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(QUERIES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(st.sampled_from(("", *PIECES))) + text[end:]
    return text


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(query=mutated(), version=VERSIONS, preview=st.booleans())
def test_valid_sql_that_was_damaged(query: str, version: str, preview: bool) -> None:
    check(evaluate(query, arroyo_version=version, tables=TABLES, preview=preview))


WORDS = re.compile(r"'[^']*'|\w+|\s+|.", re.DOTALL)


@st.composite
def rearranged(draw: st.DrawFn) -> str:
    """Return a query with a few words replaced by others of it, or dropped."""
    words = WORDS.findall(draw(st.sampled_from(QUERIES)))
    for _ in range(draw(st.integers(1, 3))):
        words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from([*words, ""]))
    return "".join(words)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(query=rearranged(), version=VERSIONS, preview=st.booleans())
def test_valid_sql_whose_words_were_moved(query: str, version: str, preview: bool) -> None:
    check(evaluate(query, arroyo_version=version, tables=TABLES, preview=preview))


@pytest.mark.parametrize("query", QUERIES)
def test_the_queries_that_get_damaged_are_accepted(query: str) -> None:
    found = evaluate(query, arroyo_version="0.16", tables=TABLES)
    check(found)
    assert found.graph is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9), st.lists, max_leaves=3
)


@given(
    definition=st.one_of(JSON, st.text(alphabet="#[udf]fn x(y: i64) ->{}<>&'\"/*", max_size=60)),
    language=st.sampled_from(("rust", "python", None, 5)),
    config=st.dictionaries(
        st.sampled_from(("event_rate", "message_count", "path", "topic", "x")), JSON, max_size=3
    ),
    connector=st.sampled_from(("impulse", "kafka", "nexmark", "nope", "filesystem", "")),
    version=VERSIONS,
)
def test_any_functions_and_tables(
    definition: Any, language: Any, config: Any, connector: str, version: str
) -> None:
    tables = [server_table("imp", connector, config, [("a", "BIGINT"), ("b", "whatever")], "source")]
    check(evaluate("SELECT a FROM imp", arroyo_version=version, tables=tables))
    udfs = [{"definition": definition, "language": language}]
    check(evaluate("SELECT a FROM imp", arroyo_version=version, tables=tables, udfs=udfs))


@pytest.mark.parametrize("depth", [10, 45, 49, 51, 5000])
@pytest.mark.parametrize("shape", ["SELECT {}1{}", "SELECT * FROM {}SELECT 1{}", "SELECT abs{}1{}"])
def test_brackets_in_brackets(depth: int, shape: str) -> None:
    found = evaluate(shape.format("(" * depth, ")" * depth), arroyo_version="0.16")
    check(found)
    if depth > 50:
        assert found.errors[0]["message"] == "SQL error: RecursionLimitExceeded"


def big(kind: str) -> str:
    source = "CREATE TABLE i WITH (connector = 'impulse', event_rate = '10');\n"
    sink = "CREATE TABLE s (n BIGINT) WITH (connector = 'blackhole');\n"
    return {
        "comment": source + "-- " + "x" * 1_000_000 + "\nSELECT counter FROM i",
        "text": source + "SELECT '" + "é" * 1_000_000 + "' FROM i",
        "sum": source + "SELECT " + " + ".join(["counter"] * 8_000) + " FROM i",
        "inserts": source + sink + "INSERT INTO s SELECT counter FROM i;\n" * 2_000,
        "noise": "".join(random.Random(1).choices("(),;'\"ab1 \n-", k=300_000)),
        "garbage": "a b c " * 50_000,
    }[kind]


@pytest.mark.parametrize("kind", ["comment", "text", "sum", "inserts", "noise", "garbage"])
def test_large_sql_takes_seconds(kind: str) -> None:
    query = big(kind)
    started = time.process_time()
    found = evaluate(query, arroyo_version="0.16")
    took = time.process_time() - started
    check(found)
    assert (found.graph is None) == (kind in ("noise", "garbage"))
    # It took 1 at most on an idle machine; the bound is for slower ones.
    assert took < 30


@pytest.mark.parametrize("word", ["CASE WHEN counter = 1 THEN", "any(", "IF"])
def test_words_that_begin_expressions_and_end_none_take_no_longer(word: str) -> None:
    started = time.process_time()
    for count in (20, 40):
        check(evaluate(f"SELECT {f'{word} ' * count} 1 FROM imp", arroyo_version="0.16", tables=TABLES))
    assert time.process_time() - started < 30
