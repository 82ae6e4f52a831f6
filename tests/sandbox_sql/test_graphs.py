"""What is accepted, and the shape of its graph: ids, order, names and edges as Arroyo makes them."""

from __future__ import annotations

import pytest

from airflow_provider_arroyo.sandbox.sql import evaluate
from tests.sandbox_sql.support import server_table

from .support import KAFKA, accepted, ask

WINDOWED = "SELECT count(*) AS n, {} AS w FROM impulse GROUP BY w"


def shape(query: str) -> tuple[list[tuple[int, str, str]], list[tuple[int, int, str]]]:
    graph = accepted(query).graph
    assert graph is not None
    nodes = [(node["node_id"], node["operator"], node["description"]) for node in graph["nodes"]]
    edges = [(edge["src_id"], edge["dest_id"], edge["edge_type"]) for edge in graph["edges"]]
    return nodes, edges


SOURCE = (0, "impulse", "Impulse<10 eps>")


@pytest.mark.parametrize(
    "window, description",
    [
        ("tumble(interval '1 minute')", "TumblingWindow<TumblingWindow>"),
        ("TUMBLE(INTERVAL '1' MINUTE)", "TumblingWindow<TumblingWindow>"),
        ("tumble('5 seconds')", "TumblingWindow<TumblingWindow>"),
        ("hop(interval '5 seconds', interval '1 minute')", "sliding window"),
        ("hop(interval '5 seconds', '5 seconds')", "TumblingWindow<TumblingWindow>"),
        ("session(interval '20 seconds')", "session_window_4"),
    ],
)
def test_a_windowed_aggregate(window: str, description: str) -> None:
    nodes, edges = shape(WINDOWED.format(window))
    assert nodes == [
        SOURCE,
        (1, "chained_op", "impulse -> watermark -> ArrowKey<_>"),
        (6, "preview", "PreviewSink"),
        (4, "chained_op", f"{description} -> sink projection"),
    ]
    assert edges == [(0, 1, "Forward"), (1, 4, "Shuffle"), (4, 6, "Forward")]


def test_an_updating_aggregate_goes_to_a_preview() -> None:
    nodes, _ = shape("SELECT counter % 2 AS odd, count(DISTINCT counter) FROM impulse GROUP BY 1")
    assert nodes[-1] == (4, "chained_op", "UpdatingAggregate -> sink projection")


def test_a_view_is_a_step() -> None:
    nodes, edges = shape(
        "CREATE VIEW v AS (SELECT counter AS c FROM impulse); INSERT INTO sink SELECT c FROM v"
    )
    assert nodes == [
        SOURCE,
        (1, "chained_op", "impulse -> watermark -> v -> sink projection"),
        (5, "blackhole", "Blackhole"),
    ]
    assert edges == [(0, 1, "Forward"), (1, 5, "Forward")]


def test_a_join_takes_both_sides_by_key() -> None:
    nodes, edges = shape("SELECT a.counter FROM impulse a JOIN impulse b ON a.counter = b.counter")
    assert sorted(nodes) == [
        SOURCE,
        (1, "chained_op", "impulse -> watermark"),
        (3, "key_3", "ArrowKey<left>"),
        (4, "key_4", "ArrowKey<right>"),
        (5, "chained_op", "join -> sink projection"),
        (7, "preview", "PreviewSink"),
    ]
    assert sorted(edges) == [
        (0, 1, "Forward"),
        (1, 3, "Forward"),
        (1, 4, "Forward"),
        (3, 5, "LeftJoin"),
        (4, 5, "RightJoin"),
        (5, 7, "Forward"),
    ]


def test_a_comma_with_where_is_a_join() -> None:
    by_where = shape(
        "SELECT a.counter FROM impulse a, impulse b WHERE a.counter = b.counter AND a.counter > 5"
    )
    assert by_where == shape("SELECT a.counter FROM impulse a JOIN impulse b ON a.counter = b.counter")


def test_several_inserts_share_their_source_and_their_sink() -> None:
    nodes, edges = shape(
        "INSERT INTO sink SELECT counter FROM impulse WHERE counter > 5;"
        "INSERT INTO sink SELECT subtask_index FROM impulse;"
    )
    assert sorted(nodes) == [
        SOURCE,
        (1, "chained_op", "impulse -> watermark"),
        (3, "value_3", "sink projection"),
        (4, "value_4", "sink projection"),
        (5, "blackhole", "Blackhole"),
    ]
    assert len(edges) == 5


def test_two_queries_have_two_previews() -> None:
    found = accepted("SELECT counter FROM impulse; SELECT subtask_index AS s, 1 + 1 FROM impulse")
    assert [(sink.name, sink.connector) for sink in found.sinks] == [("preview", "preview")] * 2
    assert {sink.columns for sink in found.sinks} == {("counter",), ("s", "1 + 1")}


def test_a_union_hands_over_each_input() -> None:
    nodes, _ = shape(
        "SELECT counter FROM impulse UNION ALL SELECT subtask_index FROM impulse UNION ALL SELECT 1 FROM impulse"
    )
    assert [description for _, _, description in nodes].count("union_input") == 3


def test_the_best_of_each_window() -> None:
    nodes, edges = shape(
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY window ORDER BY n DESC) AS place FROM ("
        "SELECT count(*) AS n, subtask_index, hop(interval '2 s', interval '10 s') AS window FROM impulse"
        " GROUP BY window, subtask_index)) WHERE place <= 5"
    )
    assert sorted(nodes) == [
        SOURCE,
        (1, "chained_op", "impulse -> watermark -> ArrowKey<_>"),
        (4, "chained_op", "sliding window -> ArrowKey<_>"),
        (6, "chained_op", "window function -> sink projection"),
        (8, "preview", "PreviewSink"),
    ]
    assert (4, 6, "Shuffle") in edges


def test_an_aggregate_of_an_aggregate_of_the_same_window() -> None:
    nodes, _ = shape(
        f"SELECT max(n), w FROM ({WINDOWED.format('tumble(interval $$1 s$$)')}) GROUP BY w".replace("$$", "'")
    )
    assert "instant window -> sink projection" in [description for _, _, description in nodes]


def test_an_asynchronous_function_is_a_step() -> None:
    udf = {
        "definition": "#[udf(ordered)]\nasync fn slow(x: i64) -> Option<String> { None }",
        "language": "rust",
    }
    graph = accepted("SELECT slow(counter) FROM impulse", udfs=[udf]).graph
    assert graph is not None
    assert graph["nodes"][1]["description"] == "impulse -> watermark -> async_udf<slow>"


def test_a_preview_shows_what_would_be_written() -> None:
    shown = accepted("INSERT INTO sink SELECT counter FROM impulse", preview=True)
    assert shown.graph is not None
    node = {"node_id": 4, "operator": "preview", "description": "Blackhole", "parallelism": 1}
    assert shown.graph["nodes"][2] == node
    assert [(sink.name, sink.connector) for sink in shown.sinks] == [("sink", "preview")]


def test_every_node_has_the_parallelism() -> None:
    graph = accepted("SELECT counter FROM impulse", "0.15", parallelism=7).graph
    assert graph is not None
    assert {node["parallelism"] for node in graph["nodes"]} == {7}


def test_a_connection_table_is_a_source() -> None:
    table = server_table("Events", "impulse", {"event_rate": 2.5, "message_count": 20})
    query = (
        "SELECT count(*) FROM events WHERE counter % 2 == 0 GROUP BY hop(interval '2 s', interval '10 s');"
    )
    found = evaluate(query, arroyo_version="0.16", tables=[table])
    assert found.graph is not None
    assert found.graph["nodes"][0]["description"] == "BoundedImpulse<2.5 eps>"
    source = found.sources[0]
    assert (source.name, source.event_rate, source.message_count) == ("Events", 2.5, 20)
    # The client that comes with Arroyo looks for its sink by this word.
    assert any("sink" in node["description"] for node in found.graph["nodes"])


@pytest.mark.parametrize(
    "options, description, rate, count",
    [
        ("event_rate = '10'", "Impulse<10 eps>", 10, None),
        ("event_rate = 0.5", "Impulse<0.5 eps>", 0.5, None),
        ("event_rate = '1e6', message_count = 5", "BoundedImpulse<1000000 eps>", 1e6, 5),
        ("event_rate = '10', event_time_interval = '1500000'", "Impulse<10 eps, 1.5ms>", 10, None),
    ],
)
def test_impulse(options: str, description: str, rate: float, count: int | None) -> None:
    found = accepted(f"CREATE TABLE i WITH (connector = 'impulse', {options}); SELECT counter FROM i")
    assert found.graph is not None
    assert found.graph["nodes"][0]["description"] == description
    assert (found.sources[0].event_rate, found.sources[0].message_count) == (rate, count)


@pytest.mark.parametrize(
    "version, connector, options, description",
    [
        ("0.15", "filesystem", "path = '/x', type = 'sink', format = 'parquet'", "FileSystemSink<parquet, /x>"),
        ("0.16", "filesystem", "path = '/x', type = 'sink', format = 'parquet'", "FileSystemSinkV1<parquet, /x>"),
        ("0.16", "delta", "path = '/x', format = 'parquet'", "DeltaLakeSink<parquet, /x>"),
        ("0.16", "webhook", "endpoint = 'http://h', format = 'json'", "WebhookSink<http://h>"),
        ("0.16", "stdout", "format = 'json'", "StdoutSink"),
        ("0.16", "kafka", KAFKA.format("json", "sink").split(", ", 1)[1], "KafkaSink<orders>"),
    ],
)  # fmt: skip
def test_sinks_are_described(version: str, connector: str, options: str, description: str) -> None:
    create = f"CREATE TABLE s (n BIGINT) WITH (connector = '{connector}', {options});"
    graph = accepted(f"{create} INSERT INTO s SELECT counter FROM impulse", version).graph
    assert graph is not None
    assert [n["description"] for n in graph["nodes"] if n["operator"] == connector] == [description]


def test_a_file_is_a_source_with_its_path() -> None:
    options = "connector = 'single_file', path = '/in.json', type = 'source', format = 'json'"
    found = ask(f"CREATE TABLE f (a INT) WITH ({options}); SELECT a FROM f")
    assert [(source.name, source.missing_path) for source in found.sources] == [("f", "/in.json")]


def test_a_sink_without_columns_takes_any_columns() -> None:
    sink = f"CREATE TABLE s WITH ({KAFKA.format('json', 'sink')});"
    assert accepted(sink + "INSERT INTO s SELECT counter, 'x' AS x FROM impulse").sinks[0].columns == (
        "counter",
        "x",
    )
