"""The definition of a pipeline and its diff: without secrets and of limited size, whatever the server sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.models import Pipeline, PipelineEdge, PipelineGraph, PipelineNode
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.pipelines.ownership import Deployment, Owner, OwnershipLabel
from airflow_provider_arroyo.plugin import definition as definitions
from airflow_provider_arroyo.plugin.definition import MAX_SQL, definition, kept_generation
from airflow_provider_arroyo.plugin.facts import Facts, facts_of
from airflow_provider_arroyo.plugin.metrics import MAX_NODES
from airflow_provider_arroyo.plugin.snapshot import Row
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sandbox.clock import ManualClock
from tests.support import ENDLESS

from .support import WatchBench

SECRET = "hunter2hunter2"
SECRET_SQL = (
    f"CREATE TABLE t (a INT) WITH (connector = 'kafka', 'auth.password' = '{SECRET}');\nSELECT a FROM t"
)


def pipeline(query: str = ENDLESS, **fields: Any) -> Pipeline:
    return Pipeline(**{"id": "pl_1", "name": "orders", "query": query, **fields})


def shown(one: Pipeline, other: Pipeline | None = None) -> dict[str, Any]:
    """Return the definition, and check that it is valid JSON."""
    found = definition(one, facts_of(one), (other, 1) if other else None)
    json.dumps(found, allow_nan=False)
    return found


def label(generation: int = 1, name: str = "orders") -> OwnershipLabel:
    task = Owner(dag_id="shop", task_id="deploy", run_id="r1", namespace="air")
    return OwnershipLabel(
        task=task,
        try_number=1,
        package_version="1",
        deployment=Deployment(group="g", name=name, namespace="air"),
        generation=generation,
    )


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_the_label_is_separated_from_the_sql_and_from_the_users_tags(version: str) -> None:
    tags = {"team": "data", "api_token": SECRET}
    if version == "0.16":
        one = pipeline(tags={**tags, **label().to_tags()})
    else:
        one = pipeline(label().to_comment(tags) + ENDLESS)
    found = shown(one)
    assert found["sql"] == ENDLESS
    assert found["tags"] == {"team": "data", "api_token": "***"}
    assert {"dag": "shop", "generation": "1", "run": "r1"}.items() <= found["label"].items()
    assert "tags" not in found["label"]


def test_a_missing_label_is_none_and_a_damaged_one_is_shown_unchanged() -> None:
    assert shown(pipeline())["label"] is None
    damaged = shown(pipeline("-- airflow: {oops\nSELECT 1"))
    assert (damaged["label"], damaged["sql"]) == ({"label": "{oops"}, "SELECT 1")


def test_no_secret_of_the_sql_is_shown_anywhere() -> None:
    one = pipeline(
        SECRET_SQL,
        tags={"note": f"uses {SECRET}", **label().to_tags()},
        udfs=(Udf(f'fn connect() -> Conn {{ open("{SECRET}") }}', "rust"),),
        graph=PipelineGraph(nodes=(PipelineNode(1, f"kafka<{SECRET}>", f"reads with {SECRET}", 1),)),
    )
    other = pipeline(SECRET_SQL.replace(SECRET, "swordfish99"), tags=label().to_tags())
    text = json.dumps(shown(one, other))
    assert SECRET not in text
    assert "swordfish99" not in text
    assert "auth.password" in text
    assert "*** (changed)" in text


@pytest.mark.parametrize(
    "secret_at", [0, MAX_SQL - 90, 900_000], ids=["at the beginning", "at the cut", "after it"]
)
def test_a_megabyte_of_sql_is_cut_without_a_secret(secret_at: int) -> None:
    filler = "SELECT a, b, c FROM some_table WHERE x = 'y' AND z > 3;\n" * 20_000
    one = pipeline(
        (filler[:secret_at] + SECRET_SQL + ";\n" + filler)[:1_000_000],
        udfs=(Udf(f"def f(): '{SECRET}'", "python"),),
        graph=PipelineGraph(nodes=(PipelineNode(1, "op", SECRET, 1),)),
    )
    # Finding its facts would read all of it.
    found = definition(one, Facts(pipeline_id="pl_1", secrets=frozenset({SECRET})), None)
    assert len(found["sql"]) == MAX_SQL
    assert found["sql_truncated"]
    assert SECRET[:6] not in json.dumps(found)
    assert found["graph"]["nodes"][0]["description"] == "***"
    unknown = definition(one, Facts(pipeline_id="pl_1", secrets=None), None)
    assert SECRET[:6] not in json.dumps(unknown)
    assert unknown["graph"]["nodes"][0]["description"] == ""
    assert unknown["udfs"][0]["definition"].startswith("Not shown")


def test_a_login_at_the_cut_is_masked() -> None:
    text = "-" * (MAX_SQL - 20) + "\n'https://jane:" + SECRET * 3 + "@example.com'"
    assert SECRET[:4] not in shown(pipeline(text))["sql"]


@pytest.mark.parametrize(
    "graph",
    [
        PipelineGraph(),
        PipelineGraph((), (PipelineEdge(1, 2),)),
        PipelineGraph((PipelineNode(1), PipelineNode(2)), (PipelineEdge(1, 2), PipelineEdge(2, 1))),
        PipelineGraph((PipelineNode(1), PipelineNode(1, "again")), (PipelineEdge(1, 1), PipelineEdge(1, 9))),
        PipelineGraph(
            tuple(PipelineNode(n, "x" * 2_000, "y" * 2_000) for n in range(3000)),
            tuple(PipelineEdge(n, n + 1) for n in range(9000)),
        ),
    ],
    ids=["empty", "edges without nodes", "a circle", "a node twice, edges to nothing", "thousands"],
)
def test_the_size_of_a_graph_is_limited(graph: PipelineGraph) -> None:
    found = shown(pipeline(graph=graph))["graph"]
    ids = [node["id"] for node in found["nodes"]]
    assert len(ids) == len(set(ids)) == min(MAX_NODES, len({node.node_id for node in graph.nodes}))
    assert len(found["edges"]) == min(5000, len(graph.edges))
    assert found["truncated"] == (len(graph.nodes) > MAX_NODES)
    assert all(len(node["operator"]) <= 1000 for node in found["nodes"])
    assert ids == list(dict.fromkeys(node.node_id for node in graph.nodes))[:MAX_NODES]


def test_the_number_of_tags_and_udfs_is_limited_and_the_page_says_so() -> None:
    one = pipeline(
        tags={f"tag-{n}": "v" * 5000 for n in range(500)},
        udfs=tuple(Udf(f"fn f{n}() {{}}") for n in range(80)),
    )
    found = shown(one)
    assert (len(found["tags"]), len(found["udfs"])) == (100, 50)
    assert max(map(len, found["tags"].values())) == 1000
    assert [line.split(":")[0] for line in found["missing"]] == ["Tags", "UDFs"]


@pytest.mark.parametrize(
    "text, name",
    [
        ("use x;\n#[udf]\nfn double(x: i64) -> i64 { x * 2 }", "double"),
        ("#[udf]\npub async fn fetch() {}", "fetch"),
        ("from arroyo_udf import udf\n@udf\ndef half(x: int) -> int:\n    return x // 2", "half"),
        ("nothing", ""),
    ],
)
def test_a_udf_is_named_by_its_function(text: str, name: str) -> None:
    (udf,) = shown(pipeline(udfs=(Udf(text),)))["udfs"]
    assert (udf["name"], udf["language"], udf["definition"]) == (name, "rust", text)


def test_the_diff_is_unified_and_includes_udfs() -> None:
    old = pipeline("\n".join(f"line {n}" for n in range(40)), udfs=(Udf("fn f() { 1 }"), Udf("fn g() {}")))
    new = pipeline(
        "\n".join(f"line {n}{'!' * (n in (10, 30))}" for n in range(40)),
        tags=label(2).to_tags(),
        udfs=(Udf("fn g() {}"), Udf("fn f() { 2 }")),
    )
    diff = shown(new, old)["diff"]
    assert (diff["from_generation"], diff["to_generation"], diff["other_id"]) == (1, 2, "pl_1")
    lines = diff["text"].split("\n")
    assert lines[:2] == ["--- generation 1: SQL", "+++ generation 2: SQL"]
    assert [line for line in lines if line.startswith("@@")] == [
        "@@ -8,7 +8,7 @@",
        "@@ -28,7 +28,7 @@",
        "@@ -1 +1 @@",
    ]
    assert [line for line in lines if line[:2] in ("- ", "+ ")] == [
        "- line 10",
        "+ line 10!",
        "- line 30",
        "+ line 30!",
        "- fn f() { 1 }",
        "+ fn f() { 2 }",
    ]
    assert "--- generation 1: UDF f" in lines


def test_equal_generations_have_an_empty_diff_and_large_ones_none() -> None:
    assert shown(pipeline(tags=label(2).to_tags()), pipeline())["diff"]["text"] == ""
    found = shown(pipeline("a\n" * 5000, tags=label(2).to_tags()), pipeline())
    assert found["diff"] is None
    assert "too large to be compared" in found["missing"][0]


def test_the_diff_is_to_the_previous_generation_or_else_to_the_next() -> None:
    def row(number: int, generation: int, name: str = "orders") -> Row:
        return Row(facts_of(pipeline(id=f"pl_{number}", tags=label(generation, name).to_tags())))

    rows = [row(1, 1), row(2, 2), row(3, 4), row(4, 3, "others"), Row(facts_of(pipeline(id="pl_5")))]

    def other_of(number: int) -> str | None:
        found = kept_generation(rows[number - 1], rows)
        return found.pipeline_id if found else None

    assert [other_of(number) for number in range(1, 6)] == ["pl_2", "pl_1", "pl_2", None, None]


# -- fetched -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def bench() -> AsyncIterator[WatchBench]:
    """Return a watch on two generations of a deployment."""
    clock = ManualClock()
    with ArroyoSandbox(seed=1, clock=clock) as sandbox:
        found = WatchBench(sandbox)
        for number in (1, 2):
            await found.watch.send(
                endpoints.put_pipeline(
                    f"af-{number}",
                    name="orders",
                    query=ENDLESS.replace("'10'", f"'{number}'"),
                    tags=label(number).to_tags(),
                    checkpoint_interval=timedelta(seconds=10),
                )
            )
        clock.advance(10)
        await found.refresh()
        yield found


async def fetched(bench: WatchBench, name: str = "af-2") -> dict[str, Any]:
    found = await bench.watch.definition(name)
    assert found is not None
    return found


async def test_it_is_fetched_once_for_all_viewers_and_again_after_a_while(bench: WatchBench) -> None:
    found = await asyncio.gather(*(fetched(bench) for _ in range(10)))
    assert (
        "- CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '1');" in found[0]["diff"]["text"]
    )
    assert all(one is found[0] for one in found)
    assert bench.requests("*/pipelines/af-*") - bench.requests("*/pipelines/af-*/*") == 2
    bench.now += 20
    assert await fetched(bench) is found[0]
    bench.now += 20
    assert await fetched(bench) == found[0]
    assert bench.requests("*/pipelines/af-*") - bench.requests("*/pipelines/af-*/*") == 4


async def test_fetching_it_updates_the_interval_in_the_list(bench: WatchBench) -> None:
    await bench.watch.send(endpoints.patch_pipeline("af-2", checkpoint_interval=timedelta(seconds=77)))
    await fetched(bench)
    assert bench.watch.snapshot.rows["af-2"].to_json()["interval"] == 77


async def test_another_generation_that_cannot_be_read_is_named(bench: WatchBench) -> None:
    bench.sandbox.faults.status(500, path="*/pipelines/af-1", error="Something went wrong")
    found = await fetched(bench)
    assert found["diff"] is None
    assert found["missing"][0].startswith("Diff to generation 1: ")


async def test_after_a_failure_it_is_not_requested_again_at_once(bench: WatchBench) -> None:
    bench.sandbox.faults.status(500, path="*/pipelines/af-2", times=1)
    for _ in range(3):
        with pytest.raises(ArroyoError, match="500"):
            await fetched(bench)
    bench.now += 6
    assert (await fetched(bench))["sql"].startswith("CREATE TABLE")


async def test_a_missing_pipeline_has_no_definition(bench: WatchBench) -> None:
    assert await bench.watch.definition("pl_gone") is None


def test_a_secret_is_masked_where_its_text_is_cut() -> None:
    padded = "x" * 990 + " " + SECRET
    one = pipeline(
        SECRET_SQL, tags={"note": padded}, graph=PipelineGraph((PipelineNode(1, padded, padded, 1),))
    )
    assert "hunter" not in json.dumps(definition(one, facts_of(one), None))


def test_a_login_at_the_cut_is_left_out_after_masks_have_shortened_the_sql() -> None:
    before = f"CREATE TABLE t WITH (connector = 'kafka', 'auth.password' = '{'K' * 60_000}');\n"
    login = "SELECT 'https://user:hunter2"
    blank = " " * (MAX_SQL + 2 * definitions._MARGIN - len(before) - len(login))
    one = pipeline(f"{before}{blank}{login}hunter2@example.com'" + " " * 100)
    shown = definition(one, facts_of(one), None)["sql"]
    assert "hunter" not in shown
    assert len(shown) > MAX_SQL / 2


def test_secret_strings_of_a_udf_are_masked_in_the_udf_and_the_diff() -> None:
    source = 'fn f() {}\nconst API_KEY: &str = "%s";'
    old, new = (pipeline(id=value, udfs=(Udf(source % f"{value}-live-abcdef"),)) for value in ("one", "two"))
    found = definition(new, facts_of(new), (old, 0))
    assert "abcdef" not in json.dumps(found)
    assert found["udfs"][0]["definition"] == source % "***"


async def test_a_hanging_server_occupies_few_threads(
    bench: WatchBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = most = 0

    async def send(*_: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        raise ArroyoError("It hangs.")

    monkeypatch.setattr(bench.watch, "send", send)
    fetching = definitions.Definitions(bench.watch)
    rows = [Row(Facts(pipeline_id=f"pl_{number}")) for number in range(20)]
    got = await asyncio.gather(*map(fetching.get, rows), return_exceptions=True)
    assert {type(one) for one in got} == {ArroyoError}
    assert most == definitions.MAX_AT_ONCE
