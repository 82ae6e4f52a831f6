"""A later try of a task wants another pipeline than the one that an earlier try created."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import requests

from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.exceptions import (
    ArroyoError,
    ArroyoOwnershipError,
    ArroyoQueryError,
    ArroyoUnsupportedError,
)
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.pipelines.bench import OWNER, SPEC, Bench, endpoint
from tests.support import BOUNDED, ENDLESS

OTHER_SQL = ENDLESS.replace("'10'", "'20'")
UDF = Udf("#[udf]\nfn plus_one(x: i64) -> i64 { x + 1 }")

CHANGED: dict[str, tuple[PipelineSpec, str]] = {
    "SQL": (replace(SPEC, query=OTHER_SQL), "event_rate = '20'"),
    "name": (
        replace(SPEC, name="orders per second"),
        "pipeline_name: 'orders per minute' → 'orders per second'",
    ),
    "UDFs": (replace(SPEC, udfs=(UDF,)), "udfs: 0 on the server, 1 wanted"),
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


# What has changed and what becomes of it are decided apart, so no pair of them is special.
@pytest.mark.parametrize(
    "state, changed", [*((state, "SQL") for state in RUNNING), *(("running", one) for one in CHANGED)]
)
def test_a_running_pipeline_is_not_touched(bench: Bench, state: str, changed: str) -> None:
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


@pytest.mark.parametrize(
    "state, changed", [*((state, "SQL") for state in DOWN), *(("stopped", one) for one in CHANGED)]
)
def test_a_pipeline_that_does_not_run_is_replaced(bench: Bench, state: str, changed: str) -> None:
    pipeline_id = bench.submit().pipeline.id
    bench.change(pipeline_id, *DOWN[state])
    spec, shown = CHANGED[changed]
    submitted = bench.submit(spec, try_number=2)
    assert (submitted.action, submitted.before) == (Action.REPLACED, None)
    only = bench.only_pipeline()
    assert (only.id, only.name) == (submitted.pipeline.id, spec.name)
    warning = bench.lines.text("WARNING")
    assert "differs from what is wanted now" in warning
    assert shown in warning


def test_a_finished_backfill_is_run_again_with_other_sql(bench: Bench) -> None:
    bench.submit(replace(SPEC, query=BOUNDED))
    bench.sandbox.advance(10)
    submitted = bench.submit(replace(SPEC, query=BOUNDED.replace("'20'", "'30'")), try_number=2)
    assert submitted.action is Action.REPLACED
    assert len(bench.pipelines()) == 1


@pytest.mark.parametrize(
    "state, changed", [("running", "SQL"), ("stopped", "name"), ("failed", "UDFs"), ("running", "UDFs")]
)
def test_on_existing_replace_and_fail_are_obeyed(bench: Bench, state: str, changed: str) -> None:
    pipeline_id = bench.submit().pipeline.id
    bench.change(pipeline_id, *(RUNNING | DOWN)[state])
    spec, _ = CHANGED[changed]
    with pytest.raises(ArroyoOwnershipError, match="It was not touched, because of on_existing='fail'"):
        bench.submit(spec, try_number=2, on_existing="fail")
    assert [pipeline.id for pipeline in bench.pipelines()] == [pipeline_id]
    submitted = bench.submit(spec, try_number=3, on_existing="replace")
    assert submitted.action is Action.REPLACED
    assert bench.only_pipeline().name == spec.name


@pytest.mark.parametrize(
    "state, on_existing", [("running", "replace"), ("failed", "replace"), ("stopped", "adopt")]
)
def test_refused_sql_replaces_nothing(bench: Bench, state: str, on_existing: str) -> None:
    pipeline_id = bench.submit().pipeline.id
    bench.change(pipeline_id, *(RUNNING | DOWN)[state])
    kept = bench.job(pipeline_id)
    bench.sandbox.requests.clear()
    with pytest.raises(ArroyoQueryError, match=f"However, pipeline .* exists, id {pipeline_id}"):
        bench.submit(replace(SPEC, query="SELECT nope FROM nowhere"), try_number=2, on_existing=on_existing)
    assert bench.sandbox.requests.count("PATCH") + bench.sandbox.requests.count("DELETE") == 0
    assert "its state is lost" not in bench.lines.text()
    assert bench.job(pipeline_id) == kept


def test_an_id_of_another_owner_replaces_nothing(bench_016: Bench) -> None:
    theirs = bench_016.create_externally(pipeline_id="orders-2")
    bench_016.submit(pipeline_id="orders-1")
    with pytest.raises(ArroyoOwnershipError, match=r"'orders-2' is taken by .* Nothing was changed"):
        bench_016.submit(pipeline_id="orders-2", try_number=2, on_existing="replace")
    assert bench_016.running() == {"orders-1", theirs.id}


@pytest.mark.parametrize(
    "change", [str.rstrip, lambda text: f"{text}\n", lambda text: text.replace("\n", "\r\n")]
)
def test_an_equivalent_definition_is_adopted(bench: Bench, change: Callable[[str], str]) -> None:
    first = bench.submit()
    again = bench.submit(replace(SPEC, query=change(ENDLESS)), try_number=2)
    assert (again.pipeline.id, again.action) == (first.pipeline.id, Action.ADOPTED)


def test_another_pipeline_id_is_another_pipeline(bench_016: Bench) -> None:
    """For example, one that contains the try number."""
    bench_016.submit(pipeline_id="orders-1")
    with pytest.raises(ArroyoOwnershipError, match="pipeline_id: 'orders-1' → 'orders-2'"):
        bench_016.submit(pipeline_id="orders-2", try_number=2)
    assert bench_016.only_pipeline().id == "orders-1"
    bench_016.change("orders-1", "stop", 5)
    submitted = bench_016.submit(pipeline_id="orders-2", try_number=3)
    assert (submitted.action, bench_016.only_pipeline().id) == (Action.REPLACED, "orders-2")


# -- parallelism, checkpoint interval and other settings of one PATCH ----------------------------------------------

SCALED = replace(SPEC, parallelism=3, checkpoint_interval=timedelta(seconds=42))


@pytest.mark.parametrize("state", ["running", *DOWN])
def test_changed_settings_are_applied_on_adoption(bench: Bench, state: str) -> None:
    pipeline_id = bench.submit().pipeline.id
    bench.change(pipeline_id, *(RUNNING | DOWN)[state])
    submitted = bench.submit(SCALED, try_number=2)
    assert submitted.pipeline.id == pipeline_id
    assert submitted.before is not None
    only, job = bench.only_pipeline(), bench.job(pipeline_id)
    assert (only.graph.parallelism, only.checkpoint_interval_micros) == (3, 42_000_000)
    assert (job.state, job.run_id) == ("Running", submitted.before.run_id + 1)
    warnings = bench.lines.text("WARNING")
    assert "parallelism: 1 → 3 (changed)" in warnings
    assert "checkpoint_interval: 0:00:10 → 0:00:42 (changed)" in warnings


def test_a_changed_interval_starts_no_run(bench: Bench) -> None:
    pipeline_id = bench.submit().pipeline.id
    bench.sandbox.advance(5)
    submitted = bench.submit(replace(SCALED, parallelism=1), try_number=2)
    assert (submitted.action, submitted.before) == (Action.ADOPTED, None)
    assert bench.only_pipeline().checkpoint_interval_micros == 42_000_000
    assert bench.job(pipeline_id).run_id == 1


def test_a_changed_environment_is_applied_on_adoption(bench_016: Bench) -> None:
    pipeline_id = bench_016.submit().pipeline.id
    bench_016.sandbox.advance(5)
    bench_016.submit(replace(SPEC, env_vars={"A": "s3cr3t"}), try_number=2)
    bench_016.only_pipeline()
    assert bench_016.job(pipeline_id).env_vars == {"A": "s3cr3t"}
    assert "env_vars: A (changed)" in bench_016.lines.text("WARNING")
    bench_016.submit(replace(SPEC, env_vars=None), try_number=3)
    assert bench_016.job(pipeline_id).env_vars == {"A": "s3cr3t"}
    bench_016.submit(replace(SPEC, env_vars={}), try_number=4)
    assert bench_016.job(pipeline_id).env_vars == {}
    assert "s3cr3t" not in bench_016.lines.text()


@pytest.mark.parametrize("on_existing", ["adopt", "replace"])
def test_an_old_server_refuses_an_environment_before_any_change(bench_015: Bench, on_existing: str) -> None:
    pipeline_id = bench_015.submit().pipeline.id
    with pytest.raises(ArroyoUnsupportedError, match="would ignore env_vars"):
        bench_015.submit(replace(SPEC, env_vars={"A": "1"}), try_number=2, on_existing=on_existing)
    assert bench_015.only_pipeline().id == pipeline_id


def test_settings_that_cannot_be_applied_cause_a_warning(bench: Bench) -> None:
    bounded = replace(SPEC, query=BOUNDED)
    bench.submit(bounded)
    bench.sandbox.advance(10)
    bench.submit(replace(bounded, parallelism=3, tags={"team": "data"}), try_number=2)
    warnings = bench.lines.text("WARNING")
    assert "parallelism: 1 → 3 (not changed; on_existing='replace' would)" in warnings
    assert "tags: team (not changed" in warnings
    assert bench.sandbox.requests.count("PATCH") == 0


# -- another Airflow, or the same one at another address -----------------------------------------------------------

STAGING, PRODUCTION = (replace(OWNER, namespace=name) for name in ("staging.example", "production.example"))


@pytest.mark.parametrize("is_explicit", [True, False])
@pytest.mark.parametrize("on_existing", ["adopt", "replace", "fail"])
def test_two_airflows_with_the_same_dags_have_separate_pipelines(
    bench: Bench, on_existing: str, is_explicit: bool
) -> None:
    how: dict[str, Any] = {"on_existing": on_existing, "is_namespace_explicit": is_explicit}
    submitted = [bench.submit(owner=owner, **how) for owner in (STAGING, PRODUCTION)]
    assert [one.action for one in submitted] == [Action.CREATED] * 2
    staging, production = (one.pipeline.id for one in submitted)
    assert bench.running() == {staging, production}
    if on_existing != "fail":
        kept = bench.job(staging)
        production = bench.submit(owner=PRODUCTION, try_number=2, **how).pipeline.id
        assert bench.running() == {staging, production}
        assert (bench.job(staging).id, bench.job(staging).run_id) == (kept.id, kept.run_id)


def test_a_retry_under_another_address_is_an_error(bench: Bench) -> None:
    kept = bench.submit(owner=STAGING, is_namespace_explicit=False).pipeline
    with pytest.raises(ArroyoOwnershipError) as caught:
        bench.submit(owner=PRODUCTION, try_number=2, is_namespace_explicit=False)
    for part in (kept.id, "namespace 'production.example'", "namespace to 'staging.example'; if not"):
        assert part in str(caught.value)
    assert caught.value.is_fatal
    assert bench.only_pipeline().id == kept.id
    # The advice of the error:
    again = bench.submit(owner=STAGING, try_number=3)
    assert (again.pipeline.id, again.action) == (kept.id, Action.ADOPTED)
    assert bench.submit(owner=PRODUCTION, try_number=3).action is Action.CREATED
    assert len(bench.running()) == 2


@pytest.mark.parametrize(
    "before, derived, is_warned_of",
    [
        ("", "", True),
        ("staging.example", "staging.example", True),
        ("staging.example", "other.example", False),
    ],
)
def test_a_retry_after_the_namespace_was_set_warns_about_the_old_pipeline(
    bench: Bench, before: str, derived: str, is_warned_of: bool
) -> None:
    old = bench.submit(owner=replace(OWNER, namespace=before)).pipeline
    new = bench.submit(owner=PRODUCTION, try_number=2, derived_namespace=derived).pipeline
    assert bench.running() == {old.id, new.id}
    in_it = f"namespace {before!r}" if before else "no namespace"
    warning = f"(id {old.id}) belongs to the same task in {in_it}; it is left alone"
    assert (warning in bench.lines.text("WARNING")) is is_warned_of


def test_a_pipeline_that_is_started_during_its_replace_is_left_alone(bench: Bench) -> None:
    pipeline_id = bench.submit().pipeline.id
    bench.change(pipeline_id, 5, "stop", 5)
    jobs_read = 0

    def resume(request: requests.PreparedRequest) -> None:
        nonlocal jobs_read
        jobs_read += endpoint(request) == f"GET /pipelines/{pipeline_id}/jobs"
        if jobs_read == 1:
            jobs_read += 1
            bench.change(pipeline_id, "resume")

    client = bench.new_client(after=resume)
    with pytest.raises(ArroyoError, match="was started externally just before it was to be replaced"):
        bench.submit(CHANGED["SQL"][0], try_number=2, client=client)
    assert bench.only_pipeline().id == pipeline_id


def test_a_parallelism_that_the_server_ignores_starts_no_run(bench: Bench) -> None:
    pipeline_id = bench.submit().pipeline.id
    bench.sandbox.advance(5)
    # The response to the PATCH shows the previous graph.
    unchanged = requests.get(f"{bench.sandbox.url}/api/v1/pipelines/{pipeline_id}", timeout=20).text
    bench.sandbox.faults.not_json(body=unchanged, content_type="application/json", method="PATCH", times=1)
    submitted = bench.submit(replace(SPEC, parallelism=3), try_number=2)
    assert (submitted.action, submitted.before) == (Action.ADOPTED, None)
