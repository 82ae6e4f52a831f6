"""Where the sources in SQL start to read."""

from __future__ import annotations

import pytest

from airflow_provider_arroyo.pipelines.sources import sources_of
from tests.support import ENDLESS


def kafka(*options: str, connector: str = "kafka", table: str = "orders") -> str:
    listed = ",\n  ".join([f"connector = '{connector}'", "type = 'source'", "topic = 'orders'", *options])
    return f"CREATE TABLE {table} (\n  id BIGINT\n) WITH (\n  {listed}\n);"


@pytest.mark.parametrize(
    "query,message",
    [
        (
            kafka(),
            "orders (kafka) reads from the end: existing records are not read (the default of source.offset)",
        ),
        (
            kafka("'source.offset' = 'latest'"),
            "orders (kafka) reads from the end: existing records are not read",
        ),
        (kafka("'source.offset' = 'earliest'"), "orders (kafka) reads from the earliest record"),
        (
            kafka("'source.offset' = 'group'", "'source.group_id' = 'shop'"),
            "orders (kafka) reads from the offsets that consumer group 'shop' has committed, if it has",
        ),
        (
            kafka("'source.offset' = 'group'"),
            "orders (kafka) reads from the end: its consumer group is new, since source.group_id is not set",
        ),
        (
            kafka(connector="confluent"),
            "orders (confluent) reads from the end: existing records are not read (the",
        ),
        (
            kafka(connector="kinesis"),
            "orders (kinesis) reads from the end: existing records are not read (the",
        ),
        (kafka(connector="rabbitmq"), "orders (rabbitmq) reads from 'last' (the default of source.offset)"),
        (kafka("'source.offset' = 'first'", connector="rabbitmq"), "orders (rabbitmq) reads from 'first'"),
        (kafka(connector="single_file"), "orders (single_file) reads the whole file again"),
        (kafka(connector="mqtt"), "orders (mqtt) reads from now on"),
        (kafka(connector="new_one"), "orders (new_one) reads as its connector says"),
        (ENDLESS, "impulse (impulse) reads from counter 0"),
        (
            "create table if not exists \"my table\" (a INT) with (Connector='sse')",
            "my table (sse) reads from now on",
        ),
    ],
)
def test_where_a_source_starts_to_read(query: str, message: str) -> None:
    (source,) = sources_of(query)
    assert str(source).startswith(message)


def test_only_declared_sources_are_listed() -> None:
    query = f"""
        -- CREATE TABLE a WITH (connector = 'impulse');
        /* CREATE TABLE b WITH (connector = 'impulse'); */
        {kafka(table="first")}
        {kafka(table="second").replace("'source'", "'sink'")}
        CREATE TABLE lookup (a INT) WITH (connector = 'redis', type = 'lookup');
        CREATE TABLE plain AS SELECT 'CREATE TABLE c WITH (connector = ''impulse'')' AS text;
        CREATE VIEW d AS (WITH e AS (SELECT 1) SELECT * FROM e);
        {kafka(table="third")}
        INSERT INTO second SELECT * FROM first, third, connection_table;
    """
    assert [source.table for source in sources_of(query)] == ["first", "third"]


@pytest.mark.parametrize(
    "query", ["", "SELECT 1", "CREATE TABLE", "CREATE TABLE x WITH (", "CREATE TABLE x WITH (a ="]
)
def test_text_that_is_not_sql_has_no_sources(query: str) -> None:
    assert sources_of(query) == ()


def test_a_source_contains_no_secrets() -> None:
    (source,) = sources_of(kafka("'auth.password' = 'hunter2'"))
    assert "hunter2" not in repr(source)
