"""An undisturbed submit: created once, adopted by later tries, refused if the pipeline is not ours."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoOwnershipError,
    ArroyoQueryError,
    ArroyoUnsupportedError,
)
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.pipelines.ownership import Owner, OwnershipLabel
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.pipelines.bench import LABEL, OWNER, PIPELINE_ID, SPEC, Bench
from tests.support import ENDLESS


def test_the_first_try_creates_and_labels_the_pipeline(bench: Bench) -> None:
    submitted = bench.submit()
    assert (submitted.action, submitted.before) == (Action.CREATED, None)
    pipeline = bench.only_pipeline()
    assert pipeline.id == submitted.pipeline.id
    assert pipeline.name == SPEC.name
    assert pipeline.query.endswith(SPEC.query)
    label = OwnershipLabel.of(pipeline)
    assert label is not None
    assert replace(label, request_id="") == LABEL
    assert bench.job(pipeline.id).state == "Running"


def test_on_0_16_the_id_is_derived_and_the_sql_is_unchanged(bench_016: Bench) -> None:
    pipeline = bench_016.submit(replace(SPEC, tags={"team": "data"})).pipeline
    assert pipeline.id == PIPELINE_ID
    assert pipeline.query == ENDLESS
    assert pipeline.tags["team"] == "data"
    assert [(request.method, request.status) for request in bench_016.sandbox.requests] == [("PUT", 200)]


def test_on_0_15_tags_go_into_the_comment(bench_015: Bench) -> None:
    tags = {"team": "data -- \n*/ 'x'"}
    first_line, _, rest = bench_015.submit(replace(SPEC, tags=tags)).pipeline.query.partition("\n")
    assert rest == ENDLESS
    assert json.loads(first_line.removeprefix("-- airflow: "))["tags"] == tags
    assert "stores no tags" in bench_015.lines.text("INFO")


def test_every_field_arrives(bench_016: Bench) -> None:
    spec = PipelineSpec(
        name="a 'name'\n<b>",
        query=ENDLESS,
        parallelism=3,
        checkpoint_interval=timedelta(seconds=42),
        env_vars={"A": "1"},
        scheduler_config={"x": {"y": 1}},
    )
    pipeline = bench_016.submit(spec).pipeline
    job = bench_016.job(pipeline.id)
    assert (pipeline.name, pipeline.checkpoint_interval_micros) == (spec.name, 42_000_000)
    assert pipeline.graph.parallelism == 3
    assert (job.env_vars, job.scheduler_config) == (spec.env_vars, spec.scheduler_config)


def test_later_tries_adopt_the_pipeline(bench: Bench) -> None:
    first = bench.submit()
    bench.sandbox.advance(5)
    for try_number in (2, 3):
        again = bench.submit(try_number=try_number)
        assert (again.pipeline.id, again.action, again.before) == (first.pipeline.id, Action.ADOPTED, None)
    assert bench.only_pipeline().id == first.pipeline.id
    assert f"Running, created by an earlier try: {SPEC.name}" in bench.lines.text("INFO")
    assert not bench.lines.text("WARNING")


def test_a_recreated_dag_run_adopts_the_pipeline(bench: Bench) -> None:
    """Its tries are counted from 1 again, so the try number proves nothing."""
    first = bench.submit(try_number=1)
    bench.sandbox.faults.stop(first.pipeline.id)
    bench.sandbox.advance(5)
    again = bench.submit(try_number=1)
    assert (again.pipeline.id, again.action) == (first.pipeline.id, Action.RESUMED)
    bench.only_pipeline()


@pytest.mark.parametrize(
    "other",
    [
        {"owner": replace(OWNER, run_id="manual__1")},
        {"owner": replace(OWNER, map_index=0)},
        {"owner": replace(OWNER, task_id="submit_too")},
        {"owner": replace(OWNER, namespace="staging")},
    ],
)
def test_another_owner_gets_its_own_pipeline(bench: Bench, other: dict[str, Any]) -> None:
    first = bench.submit()
    second = bench.submit(**other)
    assert second.action is Action.CREATED
    assert second.pipeline.id != first.pipeline.id
    assert bench.running() == {first.pipeline.id, second.pipeline.id}


def test_a_pipeline_from_before_an_upgrade_to_0_16_is_adopted(bench_016: Bench) -> None:
    query = LABEL.to_comment({}) + SPEC.query
    created = bench_016.client.create_pipeline(**SPEC.to_request(query=query))
    again = bench_016.submit(try_number=2)
    assert (again.pipeline.id, again.action) == (created.id, Action.ADOPTED)
    bench_016.only_pipeline()


def test_0_15_refuses_what_it_would_ignore(bench_015: Bench) -> None:
    spec = replace(SPEC, env_vars={"A": "1"}, scheduler_config={"x": 1})
    with pytest.raises(
        ArroyoUnsupportedError, match=r"older than 0\.16.*env_vars, scheduler_config, pipeline_id"
    ):
        bench_015.submit(spec, pipeline_id="mine")
    assert bench_015.pipelines() == []


def test_names_that_look_like_sql_or_comments_are_harmless(bench: Bench) -> None:
    owner = Owner(dag_id="d--*/", task_id='t"\\', run_id="r\n'\u2028ü-- ;", map_index=-1)
    spec = replace(SPEC, name='N"\n*/ -- <b>ü', query=f"-- first\n/* ü */ {ENDLESS} -- last")
    first = bench.submit(spec, owner=owner).pipeline
    assert (first.name, first.query.endswith(spec.query)) == (spec.name, True)
    assert bench.submit(spec, owner=owner, try_number=2).pipeline.id == first.id
    bench.only_pipeline()


# -- an id that the user chose -------------------------------------------------------------------------------------


def test_the_user_may_choose_the_id(bench_016: Bench) -> None:
    for action in (Action.CREATED, Action.ADOPTED):
        submitted = bench_016.submit(pipeline_id="orders/per minute #1")
        assert (submitted.pipeline.id, submitted.action) == ("orders/per minute #1", action)
    bench_016.only_pipeline()


def test_an_id_of_another_owner_is_refused(bench_016: Bench) -> None:
    other = replace(OWNER, dag_id="invoices", map_index=3)
    bench_016.submit(owner=other, pipeline_id="shared")
    with pytest.raises(ArroyoOwnershipError) as caught:
        bench_016.submit(pipeline_id="shared")
    text = str(caught.value)
    assert "'shared'" in text
    assert "task invoices.submit[3] of run scheduled__2026-11-25" in text
    assert "this is task orders.submit of run" in text
    assert caught.value.owner == str(other)
    assert caught.value.is_fatal
    assert bench_016.only_pipeline().id == "shared"


@pytest.mark.parametrize("on_existing", ["adopt", "replace", "fail"])
def test_an_id_of_a_pipeline_without_a_label_is_refused(bench_016: Bench, on_existing: str) -> None:
    spec = replace(SPEC, name="created by hand", tags={"team": "data"})
    bench_016.create_externally(spec, pipeline_id="shared")
    with pytest.raises(ArroyoOwnershipError, match="which has no ownership label") as caught:
        bench_016.submit(pipeline_id="shared", on_existing=on_existing)
    for part in ("'created by hand'", "task orders.submit", "Choose another pipeline_id"):
        assert part in str(caught.value)
    assert bench_016.job("shared").running_desired
    assert bench_016.sandbox.requests.count("DELETE") == 0


# -- SQL that Arroyo refuses ---------------------------------------------------------------------------------------

UNKNOWN_COLUMN = ENDLESS.replace("SELECT counter", "SELECT counterr")
SYNTAX_ERROR = "\n\nSELEC 1"


def test_refused_sql_is_shown_with_the_position(bench: Bench) -> None:
    with pytest.raises(ArroyoQueryError) as caught:
        bench.submit(replace(SPEC, query=SYNTAX_ERROR))
    assert [(one.line, one.column) for one in caught.value.diagnostics] == [(3, 1)]
    for part in ("(line 3, column 1)", "line 3 | SELEC 1\n           ^", "Fix it, then clear this task"):
        assert part in str(caught.value)
    assert caught.value.is_fatal
    assert bench.pipelines() == []


def test_refused_sql_is_shown_with_the_span(bench_016: Bench) -> None:
    with pytest.raises(ArroyoQueryError) as caught:
        bench_016.submit(replace(SPEC, query=UNKNOWN_COLUMN))
    assert "column 'counterr' not found (line 3, column 25)" in str(caught.value)
    assert f"line 3 | {UNKNOWN_COLUMN.splitlines()[2]}\n" in str(caught.value)
    assert str(caught.value).splitlines()[-1] == " " * (11 + 24) + "^" * 8


def test_the_position_is_correct_if_the_validation_fails_too(bench_015: Bench) -> None:
    bench_015.sandbox.faults.status(422, path="*/validate_query", error="Field query must be set")
    with pytest.raises(ArroyoQueryError) as caught:
        bench_015.submit(replace(SPEC, query=SYNTAX_ERROR))
    assert [(one.line, one.column) for one in caught.value.diagnostics] == [(3, 1)]
    assert "at Line: 3, Column: 1" in str(caught.value)
    assert "line 3 | SELEC 1\n           ^" in str(caught.value)


def test_a_gateways_refusal_is_not_reported_as_arroyos(bench: Bench) -> None:
    bench.sandbox.faults.status(400, path="*/pipelines/*", error="upstream refused", times=1)
    with pytest.raises(ArroyoApiError, match="Arroyo responds to a ping") as caught:
        bench.submit()
    assert not isinstance(caught.value, ArroyoQueryError)
    assert not caught.value.is_fatal
    assert "upstream refused" in str(caught.value)


def test_a_refusal_of_valid_sql_is_reported(bench: Bench) -> None:
    words = "Failed to build UDF: error[E0308]: mismatched types"
    bench.sandbox.faults.status(400, path="*/pipelines*", error=words, times=1)
    with pytest.raises(ArroyoApiError, match="was not created, although Arroyo accepts its SQL") as caught:
        bench.submit()
    assert not isinstance(caught.value, ArroyoQueryError)
    assert words in str(caught.value)


def test_a_refused_udf_is_reported(bench: Bench) -> None:
    with pytest.raises(ArroyoQueryError, match=r"annotation #\[udf\]"):
        bench.submit(replace(SPEC, udfs=(Udf("fn f(x: i64) -> i64 { x }", "rust"),)))
    assert bench.pipelines() == []


@pytest.mark.parametrize(
    "words",
    [
        "Failed to plan query:\n * column 'already exists' not found",
        'Schema error: No field named "already exists". Valid fields are stream.counter.',
        "Error during planning: view orders: A record already exists with that name or id",
        "Failed to plan query:\n * table with that name already exists",
    ],
)
def test_a_refusal_that_quotes_a_conflict_is_about_the_sql(bench: Bench, words: str) -> None:
    method = "POST" if bench.version == "0.15" else "PUT"
    bench.sandbox.faults.status(400, method=method, path="*/pipelines*", error=words, skip=0, times=None)
    with pytest.raises(ArroyoQueryError) as caught:
        bench.submit(replace(SPEC, query=UNKNOWN_COLUMN))
    assert caught.value.is_fatal
    assert bench.sandbox.requests.count(method, "*/pipelines*") in (1, 2)  # a POST validates the SQL, too
    assert bench.sandbox.requests.count("DELETE") == 0
