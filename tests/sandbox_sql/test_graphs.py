"""What is accepted, and the shape of its graph: ids, order, names and edges as Arroyo makes them."""

from __future__ import annotations

import pytest

from airflow_provider_arroyo.sandbox.sql import CatalogTable, Judgement, judge

IMPULSE = "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"
SINK = "CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');\n"
WINDOWED = "SELECT count(*) AS n, {} AS w FROM impulse GROUP BY w"


def ask(query: str) -> Judgement:
    judgement = judge(IMPULSE + SINK + query, arroyo_version="0.16")
    assert judgement.graph is not None, judgement.errors
    assert judgement.not_judged == ()
    return judgement


def shape(query: str) -> tuple[list[tuple[int, str, str]], list[tuple[int, int, str]]]:
    graph = ask(query).graph
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


def test_an_outer_join_becomes_an_inner_one_by_its_where() -> None:
    query = "SELECT a.counter FROM impulse a LEFT JOIN impulse b ON a.counter = b.counter WHERE b.subtask_index = 0"
    assert shape(query)[0][-1] == (5, "chained_op", "join -> sink projection")


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
    judgement = ask("SELECT counter FROM impulse; SELECT subtask_index AS s FROM impulse")
    assert [(sink.name, sink.connector) for sink in judgement.sinks] == [("preview", "preview")] * 2
    assert {sink.columns for sink in judgement.sinks} == {(("counter", "Int64"),), (("s", "Int64"),)}


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


@pytest.mark.parametrize(
    "query",
    [
        "WITH t AS (SELECT counter AS c FROM impulse), u (d) AS (SELECT c FROM t) SELECT d FROM u",
        "SELECT * EXCEPT (subtask_index) FROM impulse",
        "SELECT i.*, 'x' AS x FROM impulse AS i",
        "SELECT CASE WHEN counter % 2 == 0 THEN 'even' ELSE 'odd' END AS parity FROM impulse",
        "SELECT counter FROM impulse WHERE counter BETWEEN 1 AND 5 OR counter IN (7, 9) OR NOT counter IS NULL",
        "SELECT CAST(counter AS TEXT), counter::DOUBLE AS d, TRY_CAST(counter AS INT) AS i FROM impulse",
        "SELECT upper(concat('a', counter)), coalesce(counter, 0), now(), row_time() FROM impulse",
        "SELECT extract(hour FROM now()), trim(' x '), position('a' IN 'b'), substring('abc' FROM 2) FROM impulse",
        "SELECT 1 AS \"quoted \"\"name\"\"\", -counter AS neg, counter AS \"ünïcode\" FROM impulse",
        "SELECT json_get('{}', 'a'), '{}'::TEXT -> 'a' AS b, extract_json('{}', '$.x')[1] FROM impulse",
        "SELECT unnest(extract_json('{}', '$.x')) FROM impulse",
        "SELECT DISTINCT counter FROM impulse",
        "SELECT count(*) FILTER (WHERE counter > 5), sum(counter) FROM impulse HAVING count(*) > 1",
        "SELECT subtask_index, count(*) FROM impulse GROUP BY ALL",
        "SELECT counter FROM (SELECT counter FROM impulse ORDER BY counter)",
        "FROM impulse SELECT counter",
        "(SELECT counter FROM impulse)",
        "-- first\nSELECT /* in */ counter -- last\nFROM impulse -- end",
        "SET updating_ttl = interval '5' second; SELECT counter FROM impulse",
        "SET updating_ttl TO '1 hour'; SELECT counter FROM impulse;;",
        "CREATE TABLE m (a BIGINT); INSERT INTO m SELECT counter FROM impulse; INSERT INTO sink SELECT a FROM m",
        "CREATE TABLE later AS SELECT counter AS c FROM impulse; SELECT later.c FROM later",
        "CREATE VIEW v (x, y) AS SELECT * FROM impulse; SELECT x + y FROM v",
        "WITH t AS (SELECT counter FROM impulse) SELECT a.counter FROM t a JOIN t b ON a.counter = b.counter",
        "SELECT i.window.start, n FROM"
        " (SELECT tumble(interval '1 s') AS window, count(*) AS n FROM impulse GROUP BY window) i",
    ],
)  # fmt: skip
def test_accepted(query: str) -> None:
    assert ask(query).sources[0].event_rate == 10


def test_a_preview_shows_what_would_be_written() -> None:
    query = IMPULSE + SINK + "INSERT INTO sink SELECT counter FROM impulse"
    shown = judge(query, arroyo_version="0.16", preview=True)
    assert shown.graph is not None
    assert shown.graph["nodes"][2] == {
        "node_id": 4,
        "operator": "preview",
        "description": "Blackhole",
        "parallelism": 1,
    }
    assert [(sink.name, sink.connector) for sink in shown.sinks] == [("sink", "preview")]
    both = judge(query, arroyo_version="0.16", preview=True, enable_sinks=True)
    assert both.graph is not None
    assert [node["operator"] for node in both.graph["nodes"]] == [
        "impulse",
        "chained_op",
        "blackhole",
        "preview",
    ]
    assert both.graph["edges"][-1]["dest_id"] == 5


def test_every_node_has_the_parallelism() -> None:
    graph = judge(IMPULSE + "SELECT counter FROM impulse", arroyo_version="0.15", parallelism=7).graph
    assert graph is not None
    assert {node["parallelism"] for node in graph["nodes"]} == {7}


def test_a_connection_table_is_a_source() -> None:
    table = CatalogTable("Events", "impulse", {"event_rate": 2.5, "message_count": 20})
    judgement = judge("SELECT count(*) FROM events WHERE counter % 2 == 0 GROUP BY hop(interval '2 seconds',"
                      " interval '10 seconds');", arroyo_version="0.16", tables=[table])  # fmt: skip
    assert judgement.graph is not None
    assert judgement.graph["nodes"][0]["description"] == "BoundedImpulse<2.5 eps>"
    source = judgement.sources[0]
    assert (source.name, source.event_rate, source.message_count, source.node_id) == ("Events", 2.5, 20, 0)
    # The client that comes with Arroyo looks for its sink by this word.
    assert any("sink" in node["description"] for node in judgement.graph["nodes"])
