"""What Arroyo accepts is never refused: SQL of every kind that its documentation shows, and more."""

from __future__ import annotations

import pytest

from airflow_provider_arroyo.sandbox.sql import evaluate, functions
from tests.sandbox_sql.support import server_table

from .support import KAFKA, ORDERS, TABLES, accepted, ask

QUERIES = """
SELECT name -> 'a' AS x, name ->> 'b' AS y, tags @> tags AS c, tags && tags AS d FROM orders
SELECT name ~ 'a', name !~* 'a', name ILIKE '%a', name NOT LIKE 'a', name SIMILAR TO 'a' FROM orders
SELECT name || 'x' AS a, id ^ 2 AS b, id & 1 AS c, id # 1 AS d, id << 1 AS e, id % 2 == 0 AS f FROM orders
SELECT id IS DISTINCT FROM 1, ts AT TIME ZONE 'UTC', -id, NOT true, id IS NOT NULL FROM orders
SELECT id::int AS a, CAST(id AS DOUBLE PRECISION) AS b, TRY_CAST(name AS BIGINT UNSIGNED) AS c FROM orders
SELECT EXTRACT(epoch FROM ts), EXTRACT('hour' FROM ts), date_part('hour', ts) FROM orders
SELECT [1, 2][1] AS a, tags[1] AS b, tags[1:2] AS c, ARRAY[1, 2] AS d, {'k': 1} AS e FROM orders
SELECT E'it\\'s' AS a, $$x$$ AS b, X'AB' AS c, 1e10 AS d, .5 AS e, 1_000 AS f FROM orders
SELECT trim(both 'x' from name), substring(name from 1 for 2), overlay(name placing 'x' from 1) FROM orders
SELECT position('a' in name) AS a, CASE id WHEN 1 THEN 2 END AS b, coalesce(name, 'x') AS c FROM orders
SELECT interval '1 hour' AS a, INTERVAL '1' HOUR AS b, DATE '2020-01-01' AS c, TIMESTAMP
 '2020-01-01' AS d FROM orders
SELECT id FROM orders WHERE id = ANY(ARRAY[1, 2]) AND id NOT BETWEEN 1 AND 2 OR id IN (1, 2)
SELECT id FROM orders o WHERE o.id IN (SELECT counter FROM impulse i WHERE i.counter = o.id AND
 subtask_index = id)
SELECT id FROM orders WHERE EXISTS (SELECT 1 FROM impulse WHERE counter = orders.id)
SELECT (SELECT max(counter) FROM impulse) AS m FROM orders
SELECT place.x, place.town.zip, orders.place.x AS a, (place).x AS b, place['x'] AS c FROM orders
SELECT ORDERS.ID, "Total", "userId" FROM Orders
SELECT O.id AS i FROM orders AS o
SELECT id x, name AS "a ""b"" c", id AS "ünïcode" FROM orders
SELECT Größe FROM (SELECT id AS größe FROM orders)
SELECT timestamp, user, key, offset, partition, level, index, rank FROM (SELECT id AS timestamp, id AS user,
 id AS key, id AS offset, id AS partition, id AS level, id AS index, id AS rank FROM orders)
SELECT customer, order FROM (SELECT id AS customer, name AS order FROM orders)
SELECT end, start FROM (SELECT id AS end, name AS start FROM orders)
SELECT count(*) FILTER (WHERE id > 1) AS n, count(DISTINCT id) AS d, sum(id) s FROM orders HAVING n > 1
SELECT id AS i, count(*) AS n FROM orders GROUP BY i HAVING max(id) > 1
SELECT id, count(*) FROM orders GROUP BY 1
SELECT id, count(*) FROM orders GROUP BY ALL
SELECT id, count(*) FROM orders GROUP BY ROLLUP (id)
SELECT first_value(id ORDER BY ts), array_agg(DISTINCT id ORDER BY id DESC NULLS LAST) FROM orders
SELECT approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY id) FROM orders
SELECT sum(id) OVER (PARTITION BY name ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM orders
SELECT sum(id) OVER w, lag(id) IGNORE NULLS OVER (ORDER BY ts) FROM orders WINDOW w AS (PARTITION BY name)
SELECT count(*) FROM orders GROUP BY hop(interval '1 s', interval '10 s'), id % 2
SELECT window.start, w.window.end FROM (SELECT tumble(interval '1 s') AS window, count(*) AS n FROM
 orders GROUP BY 1) w
SELECT count(*), session(interval '10 seconds') AS session FROM orders GROUP BY session, name
SELECT count(*) FROM (SELECT DISTINCT counter FROM impulse) GROUP BY tumble(interval '1 second')
SELECT unnest(make_array(1, 2)) AS a, extract_json(name, '$.x')[1] AS b, row_time() AS c FROM orders
SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY w ORDER BY n DESC) AS r FROM (SELECT count(*) AS n,
 hop(interval '2 s', interval '10 s') AS w FROM orders GROUP BY w)) WHERE r <= 5
SELECT o.*, i.* EXCEPT (counter) FROM orders o JOIN impulse i ON o.id = i.counter
SELECT * EXCLUDE (id) FROM orders
SELECT * REPLACE (id + 1 AS id) FROM orders
SELECT a.id FROM orders a, orders b WHERE a.id = b.id
SELECT id FROM orders FULL OUTER JOIN impulse ON id = counter
SELECT id FROM orders LEFT SEMI JOIN impulse ON id = counter
SELECT id FROM orders NATURAL JOIN impulse
SELECT id FROM orders JOIN impulse USING (id)
SELECT id FROM orders, LATERAL (SELECT counter FROM impulse WHERE counter = id) x
SELECT * FROM (orders JOIN impulse ON id = counter)
SELECT a FROM (SELECT id FROM orders) t(a)
SELECT x FROM (SELECT id + 1 FROM orders) t(x)
SELECT id FROM (SELECT CAST(id AS TEXT) FROM orders)
SELECT a FROM orders AS o (a, b, c, d, e, f, g) WHERE a = 1
WITH a AS (SELECT id FROM orders), b(x) AS (SELECT id FROM a) SELECT x FROM b
WITH orders AS (SELECT counter AS other FROM impulse) SELECT other FROM orders
WITH impulse AS (SELECT counter AS x FROM impulse) SELECT x FROM impulse
SELECT q FROM (WITH a AS (SELECT subtask_index AS r FROM impulse) SELECT r AS q FROM a) z
SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM impulse o WHERE o.id = o.counter)
SELECT id FROM orders WHERE EXISTS (WITH c AS (SELECT counter FROM impulse WHERE counter = orders.id)
 SELECT 1 FROM c)
SELECT id FROM orders WHERE EXISTS (SELECT 1 FROM (SELECT counter FROM impulse WHERE counter = orders.id) z)
SELECT public.orders.id, db.public.orders.place.town.zip FROM orders
SELECT case, any, if, offset, like_it.like FROM (SELECT id AS case, id AS any, id AS if, id AS offset,
 id AS like FROM orders) like_it WHERE if > 1 GROUP BY offset, case, any
SELECT id FROM orders WHERE id = SOME (ARRAY[1, 2]) AND id XOR 2 > 1
SELECT id FROM orders WHERE EXISTS ((SELECT 1 FROM impulse) UNION ALL (SELECT 2 FROM impulse))
SELECT place AS p, count(*) FROM orders GROUP BY p HAVING p.x > 1 ORDER BY p.town.zip
WITH RECURSIVE r AS (SELECT id FROM orders UNION ALL SELECT id FROM r) SELECT id FROM r
(SELECT id FROM orders) UNION ALL (SELECT counter FROM impulse)
SELECT id FROM orders UNION SELECT counter FROM impulse
SELECT id FROM orders INTERSECT SELECT counter FROM impulse
SELECT * FROM (VALUES (1), (2)) AS t(a)
SELECT a FROM orders, UNNEST(ARRAY[1, 2]) AS u(a)
SELECT * FROM generate(1, 2), impulse
SELECT id FROM orders FETCH FIRST 5 ROWS ONLY
SELECT id FROM orders LIMIT ALL
SELECT id FROM (SELECT id FROM orders ORDER BY id)
SELECT id + 1 AS next, name FROM orders o ORDER BY next, o.next, orders.name
SELECT sum(id) OVER (w ROWS UNBOUNDED PRECEDING) FROM orders WINDOW w AS (ORDER BY unused)
SELECT a.id FROM (SELECT a.id FROM orders a) WHERE a.id = 1 GROUP BY a.id HAVING max(a.id) > 1
SELECT orders.id FROM ((SELECT id FROM orders))
SELECT a.* FROM (SELECT * FROM orders a)
SELECT o.counter FROM orders o JOIN (SELECT o.counter FROM impulse o) ON o.id = o.counter
SELECT id FROM orders WHERE name = 'stand by'
SELECT id FROM orders AS "group by"
SELECT id FROM orders AS "as"
SELECT id 'my', count(*) 'n' FROM orders
SELECT SAFE_CAST(name AS INT) FROM orders
FROM orders SELECT id
FROM orders
/* a /* nested */ comment */ SELECT /* in */ id FROM orders -- last
SET updating_ttl = interval '5 seconds'; SELECT id FROM orders;;
SET SESSION updating_ttl TO '1 hour'; SELECT id FROM orders
INSERT INTO sink SELECT id FROM orders
INSERT INTO SINK (n) WITH a AS (SELECT id FROM ORDERS) SELECT id FROM a
INSERT INTO sink (SELECT id FROM orders)
CREATE VIEW v AS (SELECT id FROM orders); SELECT v.id FROM V
CREATE VIEW v AS WITH orders AS (SELECT id AS z FROM orders) SELECT z FROM orders; WITH v AS (SELECT z AS w
 FROM v) SELECT w FROM v
CREATE VIEW impulse AS SELECT id AS o FROM orders; SELECT o FROM impulse
CREATE OR REPLACE VIEW v (x, y) AS SELECT id, name FROM orders; SELECT x, y FROM v
CREATE TABLE k AS SELECT id FROM orders; SELECT k.id FROM k
CREATE TABLE m (n BIGINT); INSERT INTO m SELECT id FROM orders; INSERT INTO sink SELECT n FROM m
""".strip().replace("\n ", " ").split("\n")  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_queries(query: str, caplog: pytest.LogCaptureFixture) -> None:
    for version in ("0.15", "0.16"):
        accepted(ORDERS + query, version)
    assert not caplog.records


def test_functions() -> None:
    special = {"overlay": "counter placing 1 from 2", "trim": "counter, 1"}
    for name in sorted(functions.SCALARS | functions.AGGREGATES):
        accepted(f"SELECT {name}({special.get(name, 'counter, subtask_index, 2')}) AS x FROM impulse")


def test_a_table_is_found_by_its_name_in_any_case() -> None:
    table = f"CREATE TABLE größe (n BIGINT) WITH ({KAFKA.format('json', 'source')}); SELECT n FROM "
    for name in ("größe", "GRÖSSE", '"Größe"'):
        assert accepted(table + name).sources[0].name == "größe"


OPTIONS = """
'connector' = 'impulse', event_rate = 100
connector = 'nexmark', event_rate = '10', runtime = '60'
connector = 'kafka', format = 'avro', bootstrap_servers = 'a:1,b:2', topic = 't', type = 'source',
 'source.offset' = 'earliest'
connector = 'kafka', format = 'json', bootstrap_servers = 'b', topic = 't', type = 'sink',
 'sink.key_field' = 'id'
connector = 'confluent', connection_profile = 'mine', format = 'avro', topic = 't', type = 'source'
connector = 'kinesis', stream_name = 's', type = 'sink', format = 'json', 'sink.max_records_per_batch' = 100
connector = 'mqtt', url = 'tcp://h:1883', type = 'sink', format = 'json', topic = 't', 'sink.retain' = true
connector = 'nats', servers = 'h:4222', subject = 's', type = 'source', format = 'json',
 'auth.password' = '{{ PASSWORD }}'
connector = 'rabbitmq', host = 'h', stream = 's', type = 'source', format = 'json', source.offset = 'last'
connector = 'fluvio', format = 'raw_string', topic = 't', type = 'source'
connector = 'redis', type = 'sink', format = 'json', address = 'redis://h', target = 'string',
 'target.key_prefix' = 'a.'
connector = 'filesystem', type = 'sink', path = 's3://b/p', format = 'parquet', rollover_seconds =
 60, 'partitioning.fields' = [a, b]
connector = 'filesystem', type = 'source', path = '/p', format = 'json', 'source.regex-pattern' = '.*'
connector = 'delta', path = 's3://b/p', format = 'parquet', 'filename.strategy' = 'uuid',
 'rolling_policy.interval' = interval '30 seconds'
connector = 'iceberg', 'catalog.type' = 'rest', 'catalog.rest.url' = 'http://c', namespace = 'n',
 table_name = 't', type = 'sink'
connector = 'sse', format = 'json', endpoint = 'http://h', events = 'update', headers = 'A: b'
connector = 'websocket', format = 'json', endpoint = 'wss://h', 'subscription_messages.0' = 'x'
connector = 'polling_http', format = 'json', endpoint = 'http://h', method = 'GET', headers = 'A: {{
 SET_ONE }}', poll_interval_ms = '100'
connector = 'webhook', format = 'json', endpoint = 'http://{{SET_ONE}}/'
connector = 'single_file', path = '/p', type = 'source', format = 'json', wait_for_control = 'false'
connector = 'stdout', format = 'debezium_json', 'json.include_schema' = 'true'
connector = 'sse', endpoint = 'http://h', format = 'raw_bytes', framing = 'newline',
 'framing.newline.max_length' = '10', bad_data = 'drop'
""".strip().replace("\n ", " ").split("\n")  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
def test_connectors(options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_ONE", "set")
    for version in ("0.15", "0.16"):
        accepted(f"CREATE TABLE t WITH ({options}); SELECT counter FROM impulse", version)


@pytest.mark.parametrize(
    "columns",
    [
        "id TEXT PRIMARY KEY, at TIMESTAMP(3) NOT NULL, price DECIMAL(10, 2) NULL, n INT4 UNSIGNED,",
        "who VARCHAR(20), kind CHARACTER VARYING, raw BYTEA, end INT, offset BIGINT METADATA FROM 'offset_id'",
        "s STRUCT < a TEXT, b INT[], c STRUCT < d TEXT > >, list ARRAY<TEXT>, j JSON",
        "v TEXT, ts TIMESTAMP GENERATED ALWAYS AS (CAST(v AS TIMESTAMP)) STORED, WATERMARK FOR ts",
        "timestamp TIMESTAMP NOT NULL, WATERMARK FOR timestamp AS (timestamp - INTERVAL '5 seconds')",
        "t TEXT GENERATED ALWAYS AS (metadata('topic'))",
        "like INT, period INT, exclude INT, n INT, m INT GENERATED ALWAYS AS (n * 2) VIRTUAL",
        "view TEXT, with INT, b TIMESTAMP WITH TIME ZONE, c TIME WITHOUT TIME ZONE",
    ],
)
def test_columns(columns: str) -> None:
    accepted(f"CREATE TABLE t ({columns}) WITH ({KAFKA.format('json', 'source')}); SELECT * FROM t")


@pytest.mark.parametrize("created", ["TABLE view", "TABLE IF NOT EXISTS view", "TEMPORARY VIEW view"])
def test_names_that_are_words_of_statements(created: str) -> None:
    what = (
        "AS SELECT id AS view FROM orders"
        if "VIEW" in created
        else "(view BIGINT) WITH (connector = 'impulse', event_rate = 1)"
    )
    accepted(f"{ORDERS}CREATE {created} {what}; SELECT view FROM view")


def test_partitioned_tables_and_lookups() -> None:
    iceberg = "connector = 'iceberg', 'catalog.type' = 'rest', table_name = 't', type = 'sink'"
    accepted(
        f"CREATE TABLE t (id INT, ts TIMESTAMP(6)) WITH ({iceberg}) PARTITIONED BY (bucket(id, 4), hour(ts));"
        "INSERT INTO t SELECT counter, row_time() FROM impulse"
    )
    lookup = accepted(
        "CREATE TEMPORARY TABLE l (k TEXT METADATA FROM 'key' PRIMARY KEY, v TEXT) WITH (connector = 'redis',"
        " format = 'json', address = 'redis://r', 'lookup.cache.ttl' = interval '5' second);"
        "SELECT l.v FROM impulse LEFT JOIN l ON CAST(impulse.counter AS TEXT) = l.k"
    )
    assert lookup.graph is not None
    assert lookup.graph["nodes"][-1]["description"] == "LookupJoin<l> -> sink projection"


def test_any_column_of_a_table_whose_columns_are_not_known() -> None:
    table = server_table("events", "kafka", {"topic": "events"}, (), "source")
    found = evaluate("SELECT anything, e.other.field FROM events e", arroyo_version="0.16", tables=[table])
    assert found.graph is not None
    assert "the columns of the table events" in found.not_judged


def test_names_are_not_refused_beside_a_table_whose_columns_are_not_known() -> None:
    table = server_table("events", "kafka", {"topic": "events"}, (), "source")
    for query in ("SELECT nope FROM impulse, events", "SELECT nope FROM impulse JOIN events ON x = counter"):
        assert ask(query, tables=[table]).graph is not None


def test_syntax_that_only_other_dialects_have_is_accepted_and_listed() -> None:
    found = ask("SELECT trim(counter, 1, 2) FROM impulse")
    assert found.graph is not None
    assert found.not_judged == ("the syntax of a statement",)


def test_tables_of_the_query_come_before_those_of_the_server() -> None:
    server = server_table("impulse", "impulse", {"event_rate": 5})
    assert (
        evaluate(TABLES + "SELECT counter FROM impulse", arroyo_version="0.16", tables=[server])
        .sources[0]
        .event_rate
        == 10
    )
