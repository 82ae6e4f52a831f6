"""A later try wants another pipeline than the one that an earlier try of the same task created."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from airflow_provider_arroyo.client.models import Udf
from airflow_provider_arroyo.exceptions import ArroyoOwnershipError
from airflow_provider_arroyo.pipelines.existing import Action
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.pipelines.bench import SPEC, Bench
from tests.support import BOUNDED, ENDLESS

OTHER_SQL = ENDLESS.replace("'10'", "'20'")
UDF = Udf("#[udf]\nfn plus_one(x: i64) -> i64 { x + 1 }")

CHANGED: dict[str, tuple[PipelineSpec, str]] = {
    "SQL": (replace(SPEC, query=OTHER_SQL), "event_rate = '20'"),
    "name": (
        replace(SPEC, name="orders per second"),
        "pipeline_name: 'orders per minute' → 'orders per second'",
    ),
    "UDFs": (replace(SPEC, udfs=(UDF,)), "udfs: 0 there, 1 wanted"),
    "number of the try in the SQL": (replace(SPEC, query=f"{ENDLESS}\n-- try 2"), "+ -- try 2"),
}

DOWN: dict[str, tuple[str | float, ...]] = {
    "stopped": (5, "stop", 5),
    "stopping": (5, "stop"),
    "failed": (5, "fail", 10),
}
RUNNING: dict[str, tuple[str | float, ...]] = {
    "created": (),
    "running": (5,),
    "restarting": (5, "restart", "Restarting"),
    "resuming": (5, "stop", 5, "resume"),
    "in an unknown state": (5, "hibernate", 0),
}


@pytest.mark.parametrize("changed", CHANGED)
@pytest.mark.parametrize("state", RUNNING)
def test_what_runs_is_not_touched(bench: Bench, state: str, changed: str) -> None:
    pipeline_id = bench.submit().pipeline.id
    bench.change(pipeline_id, *RUNNING[state])
    bench.sandbox.requests.clear()
    spec, shown = CHANGED[changed]
    with pytest.raises(ArroyoOwnershipError) as caught:
        bench.submit(spec, try_number=2)
    for part in (
        pipeline_id,
        repr(SPEC.name),
        repr(spec.name),
        shown,
        "on_existing='replace'",
        "ti.try_number",
    ):
        assert part in str(caught.value)
    assert caught.value.is_fatal
    assert {request.method for request in bench.sandbox.requests} <= {"GET", "PUT"}
    assert bench.only_pipeline().id == pipeline_id


@pytest.mark.parametrize("changed", CHANGED)
@pytest.mark.parametrize("state", DOWN)
def test_what_does_not_run_is_replaced(bench: Bench, state: str, changed: str) -> None:
    pipeline_id = bench.submit().pipeline.id
    bench.change(pipeline_id, *DOWN[state])
    spec, shown = CHANGED[changed]
    submitted = bench.submit(spec, try_number=2)
    assert (submitted.action, submitted.before) == (Action.REPLACED, None)
    only = bench.only_pipeline()
    assert (only.id, only.name) == (submitted.pipeline.id, spec.name)
    warning = bench.lines.text("WARNING")
    assert "not what is wanted now" in warning
    assert shown in warning


def test_backfill_that_has_finished_is_run_anew_with_other_sql(bench: Bench) -> None:
    bench.submit(replace(SPEC, query=BOUNDED))
    bench.sandbox.advance(10)
    submitted = bench.submit(replace(SPEC, query=BOUNDED.replace("'20'", "'30'")), try_number=2)
    assert submitted.action is Action.REPLACED
    assert len(bench.pipelines()) == 1


@pytest.mark.parametrize("changed", CHANGED)
@pytest.mark.parametrize("state", ["running", "stopped", "failed"])
def test_replace_and_fail_do_what_they_say(bench: Bench, state: str, changed: str) -> None:
    pipeline_id = bench.submit().pipeline.id
    bench.change(pipeline_id, *(RUNNING | DOWN)[state])
    spec, _ = CHANGED[changed]
    with pytest.raises(ArroyoOwnershipError, match="on_existing='fail' forbids"):
        bench.submit(spec, try_number=2, on_existing="fail")
    assert [pipeline.id for pipeline in bench.pipelines()] == [pipeline_id]
    submitted = bench.submit(spec, try_number=3, on_existing="replace")
    assert submitted.action is Action.REPLACED
    assert bench.only_pipeline().name == spec.name


@pytest.mark.parametrize(
    "change", [str.rstrip, lambda text: f"{text}\n", lambda text: text.replace("\n", "\r\n")]
)
def test_what_means_the_same_is_adopted(bench: Bench, change: Callable[[str], str]) -> None:
    first = bench.submit()
    again = bench.submit(replace(SPEC, query=change(ENDLESS)), try_number=2)
    assert (again.pipeline.id, again.action) == (first.pipeline.id, Action.ADOPTED)


def test_other_pipeline_id(bench_016: Bench) -> None:
    """Such as one with the number of the try in it."""
    bench_016.submit(pipeline_id="orders-1")
    with pytest.raises(ArroyoOwnershipError, match="pipeline_id: 'orders-1' → 'orders-2'"):
        bench_016.submit(pipeline_id="orders-2", try_number=2)
    assert bench_016.only_pipeline().id == "orders-1"
    bench_016.change("orders-1", "stop", 5)
    submitted = bench_016.submit(pipeline_id="orders-2", try_number=3)
    assert (submitted.action, bench_016.only_pipeline().id) == (Action.REPLACED, "orders-2")
