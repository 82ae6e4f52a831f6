"""CREATE TABLE: connectors, their options, columns and types."""

from __future__ import annotations

import pytest

from airflow_provider_arroyo.sandbox.sql import CatalogTable, Judgement, Source, judge

PLAN = "Error during planning: "


def ask(query: str, version: str = "0.16") -> Judgement:
    return judge(query, arroyo_version=version)


@pytest.mark.parametrize(
    "options, description, rate, count",
    [
        ("event_rate = '10'", "Impulse<10 eps>", 10, None),
        ("event_rate = 10", "Impulse<10 eps>", 10, None),
        ("event_rate = 0.5", "Impulse<0.5 eps>", 0.5, None),
        ("event_rate = '1e6', message_count = 5", "BoundedImpulse<1000000 eps>", 1e6, 5),
        ("event_rate = '10', event_time_interval = '1500000'", "Impulse<10 eps, 1.5ms>", 10, None),
        ("event_rate = '10', message_count = '0'", "BoundedImpulse<10 eps>", 10, 0),
    ],
)
def test_impulse(options: str, description: str, rate: float, count: int | None) -> None:
    judgement = ask(f"CREATE TABLE i WITH (connector = 'impulse', {options}); SELECT counter FROM i")
    assert judgement.graph is not None
    assert judgement.graph["nodes"][0]["description"] == description
    assert judgement.sources == (Source("i", "impulse", rate, count, None, 0),)


@pytest.mark.parametrize("kind, connector", [("source", "single_file"), ("source", "filesystem")])
def test_files_are_named(kind: str, connector: str) -> None:
    judgement = ask(
        f"CREATE TABLE f (a TEXT) WITH (connector = '{connector}', path = '/no/file', type = '{kind}',"
        " format = 'json');"
        "SELECT a FROM f"
    )
    assert judgement.sources[0].path == "/no/file"
    assert judgement.sources[0].message_count is None


REFUSED = {
    "connector = 'nope'": PLAN + "Unknown connector 'nope'",
    "connector = 'impulse'": PLAN + PLAN + "required option 'event_rate' not set",
    "connector = 'impulse', event_rate = 'fast'": PLAN
    + PLAN
    + "expected with option 'event_rate' to be a double, but it was `fast`",
    "connector = 'impulse', event_rate = 1, message_count = 1.5": PLAN
    + PLAN
    + "expected with option 'message_count' to be an integer, but it was `1.5`",
    "connector = 'impulse', event_rate = 1, rate = 2": PLAN + "unknown options provided in WITH clause: 'rate'",
    "connector = 'single_file', path = '/a', type = 'both', format = 'json'": PLAN
    + "'type' must be 'source' or 'sink'",
    "connector = 'single_file', path = '/a', type = 'source'": PLAN
    + "'format' must be set for Single File Source connection",
    "connector = 'blackhole', format = 'xml'": PLAN + "invalid format: 'Error during planning: unknown format 'xml''",
    "connector = 'kafka', type = 'source', topic = 't', format = 'json'": PLAN
    + PLAN
    + "required option 'bootstrap_servers' not set",
    "connector = 'kafka', bootstrap_servers = 'b', type = 'x', topic = 't'": PLAN
    + "type must be one of 'source' or 'sink",
    "connector = 'kafka', bootstrap_servers = 'b', type = 'source', topic = 't'": PLAN
    + "'format' must be set for Kafka connection",
    "connector = 'kafka', bootstrap_servers = 'b', type = 'source', topic = 't', 'source.offset' = 'x'": PLAN
    + "invalid value for source.offset 'x'",
    "connector = 'kafka', bootstrap_servers = 'b', type = 'sink', topic = 't', format = 'json', frob = '1'": PLAN
    + "unknown options provided in WITH clause: 'frob'",
    "connector = 'preview'": PLAN + "Preview connector cannot be created in SQL",
}  # fmt: skip


@pytest.mark.parametrize("options, message", REFUSED.items())
@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_options_that_do_not_fit(options: str, message: str, version: str) -> None:
    judgement = ask(f"CREATE TABLE t WITH ({options})", version)
    assert judgement.errors[0]["message"] == f"Failed to create table t\ncaused by\n{message}"


OTHERS = {
    "CREATE TABLE t (a INT) WITH (connector = 5)": PLAN
    + "expected with option 'connector' to be a single-quoted string, but it was `5`",
    "CREATE TABLE t (a INT) WITH (format = 'json')": PLAN
    + "Memory tables do not allow with options; to create a connection table set the 'connector' option",
    "CREATE TABLE t (a INT); SELECT a FROM t": PLAN
    + "Can't query from memory table t without first inserting into it.",
    "CREATE TABLE t (a INT, b INT GENERATED ALWAYS AS (a + 1) STORED)": PLAN
    + "Virtual fields are not supported in memory tables; instead write a query",
    "CREATE TABLE t (a TIMESTAMP(4))": PLAN
    + "unsupported precision 4 -- supported precisions are 0 (seconds), 3 (milliseconds), 6 (microseconds), and 9 "
    "(nanoseconds)",
    "CREATE TABLE t (a BIGINT) WITH (connector = 'impulse', event_rate = 1)": "Failed to create table t\ncaused by\n"
    + PLAN
    + "invalid schema for impulse source",
    "CREATE TABLE t (ts TEXT, WATERMARK FOR ts) WITH (connector = 'single_file', path = '/a', type = 'source', format"
    " = 'json')": "Failed to create table t\ncaused by\n"
    + PLAN
    + 'WATERMARK FOR field `"ts"` has type Utf8, but expected TIMESTAMP',
    "CREATE TABLE t (a TEXT, WATERMARK FOR ts) WITH (connector = 'single_file', path = '/a', type = 'source', format"
    " = 'json')": "Failed to create table t\ncaused by\n" + PLAN + "WATERMARK FOR field `ts` does not exist in table",
    "CREATE TABLE t (a INT METADATA FROM 'topic') WITH (connector = 'mqtt', url = 'u', topic = 't', type = 'source',"
    " format = 'json')": "Failed to create table t\ncaused by\n"
    + PLAN
    + "incorrect data type for metadata field 'a'; expected TEXT, but found INT",
    "CREATE TEMPORARY TABLE t (a INT) WITH (connector = 'redis', type = 'sink')": "Failed to create table t\n"
    + f"caused by\n{PLAN}Cannot have a temporary table with type 'sink'; temporary tables must be type 'lookup'",
    "CREATE TABLE t (a INT) WITH (connector = 'kafka', bootstrap_servers = 'b', topic = 't', type = 'source',"
    " format = 'debezium_json')": "Failed to create table t\ncaused by\n"
    + PLAN
    + "Debezium source must have at least one PRIMARY KEY field",
}  # fmt: skip


@pytest.mark.parametrize("query, message", OTHERS.items())
def test_tables_that_do_not_fit(query: str, message: str) -> None:
    assert ask(query).errors[0]["message"] == message


KAFKA = "connector = 'kafka', bootstrap_servers = 'b:9092', topic = 'orders', format = '{}', type = '{}'"


def test_all_column_options_and_types() -> None:
    judgement = ask(
        f"""
        CREATE TABLE orders (
            id TEXT PRIMARY KEY, "Total" DOUBLE PRECISION NOT NULL, at TIMESTAMP(3), tags TEXT[], raw BYTEA,
            address STRUCT<city TEXT, place STRUCT<x INT, y INT>>, price DECIMAL(10, 2) NULL, n INT4 UNSIGNED,
            who VARCHAR(20) DEFAULT 'x', kind CHARACTER VARYING, topic TEXT METADATA FROM 'topic', end INT,
            city TEXT GENERATED ALWAYS AS (upper(id)) STORED,
            WATERMARK FOR at AS at - INTERVAL '5 seconds'
        ) WITH ({KAFKA.format("json", "source")}, 'source.offset' = 'earliest', 'auth.type' = 'none');
        SELECT id, "Total", address.place.x, address.city AS c, tags[1], price, n, topic, end, city, at FROM orders
        """
    )
    assert judgement.errors == ()
    assert judgement.not_judged == ()
    assert dict(judgement.sinks[0].columns) == {
        "id": "Utf8",
        "Total": "Float64",
        "orders.address[place][x]": "Int32",
        "c": "Utf8",
        "orders.tags[Int64(1)]": "Utf8",
        "price": "Decimal128(10, 2)",
        "n": "UInt32",
        "topic": "Utf8",
        "end": "Int32",
        "city": "Utf8",
        "at": "Timestamp(Millisecond, None)",
    }


def test_capitals_of_columns_are_kept() -> None:
    table = f"CREATE TABLE t (userId TEXT) WITH ({KAFKA.format('json', 'source')});"
    assert ask(table + 'SELECT "userId" FROM t').graph is not None
    assert ask(table + "SELECT userId FROM t").errors[0]["message"] == "column 'userid' not found"


def test_a_sink_without_columns_takes_what_comes() -> None:
    sink = f"CREATE TABLE s WITH ({KAFKA.format('json', 'sink')});"
    source = "CREATE TABLE i WITH (connector = 'impulse', event_rate = 1);"
    first = sink + source + "INSERT INTO s SELECT counter, 'x' AS x FROM i;"
    judgement = ask(first)
    assert judgement.sinks[0].columns == (("counter", "Int64"), ("x", "Utf8"))
    other = ask(first + "INSERT INTO s SELECT counter FROM i;")
    assert other.errors[0]["message"] == PLAN + "all inserts into a table must share the same schema"


def test_updating_rows_need_a_sink_for_them() -> None:
    query = (
        "CREATE TABLE i WITH (connector = 'impulse', event_rate = 1); CREATE TABLE s (n BIGINT) WITH ({});"
    )
    query += "INSERT INTO s SELECT count(*) FROM i"
    assert ask(query.format(KAFKA.format("debezium_json", "sink"))).graph is not None
    assert "input is updating" in (ask(query.format(KAFKA.format("json", "sink"))).refusal or "")


LOOKUP = (
    "CREATE TABLE i WITH (connector = 'impulse', event_rate = 1);"
    "CREATE TEMPORARY TABLE l (key TEXT METADATA FROM 'key' PRIMARY KEY, value TEXT) WITH (connector = 'redis',"
    " format = 'json', address = 'redis://r', 'lookup.cache.ttl' = interval '5' second);"
    "SELECT l.value FROM i LEFT JOIN l ON CAST(i.counter AS TEXT) = l.{}"
)


def test_a_lookup_table_is_joined_by_its_key() -> None:
    judgement = ask(LOOKUP.format("key"))
    assert judgement.graph is not None
    assert judgement.graph["nodes"][-1]["description"] == "LookupJoin<l> -> sink projection"
    assert ask(LOOKUP.format("value")).errors[0]["message"] == (
        PLAN + "the right-side of a look-up join condition must be a PRIMARY KEY column, but 'value' is not"
    )


@pytest.mark.parametrize(
    "version, connector, options, description",
    [
        (
            "0.15",
            "filesystem",
            "path = '/x', type = 'sink', format = 'parquet'",
            "FileSystemSink<parquet, /x>",
        ),
        (
            "0.16",
            "filesystem",
            "path = '/x', type = 'sink', format = 'parquet'",
            "FileSystemSinkV1<parquet, /x>",
        ),
        ("0.16", "delta", "path = '/x', type = 'sink', format = 'parquet'", "DeltaLakeSink<parquet, /x>"),
        ("0.16", "webhook", "endpoint = 'http://h', format = 'json'", "WebhookSink<http://h>"),
        ("0.16", "stdout", "format = 'json'", "StdoutSink"),
        ("0.16", "kafka", KAFKA.format("json", "sink").split(", ", 1)[1], "KafkaSink<orders>"),
    ],
)
def test_sinks_are_described(version: str, connector: str, options: str, description: str) -> None:
    judgement = ask(
        "CREATE TABLE i WITH (connector = 'impulse', event_rate = 1);"
        f"CREATE TABLE s (n BIGINT) WITH (connector = '{connector}', {options}); INSERT INTO s SELECT counter FROM i",
        version,
    )
    assert judgement.graph is not None
    sinks = [node for node in judgement.graph["nodes"] if node["operator"] == connector]
    assert [sink["description"] for sink in sinks] == [description]


def test_types_of_connection_tables_as_in_the_api_and_as_in_sql() -> None:
    columns = [("a", "int64"), ("b", "BIGINT UNSIGNED"), ("c", "string"), ("d", "frob")]
    table = CatalogTable("t", "kafka", {"topic": "orders"}, columns, "source")
    judgement = judge("SELECT * FROM t", arroyo_version="0.16", tables=[table])
    assert judgement.graph is not None
    assert judgement.graph["nodes"][0]["description"] == "KafkaSource<orders>"
    assert judgement.sinks[0].columns == (("a", "Int64"), ("b", "UInt64"), ("c", "Utf8"), ("d", "?"))


def test_a_table_of_the_query_comes_before_one_of_the_server() -> None:
    server = CatalogTable("impulse", "impulse", {"event_rate": 5})
    query = "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = 7); SELECT counter FROM impulse"
    assert judge(query, arroyo_version="0.16", tables=[server]).sources[0].event_rate == 7
