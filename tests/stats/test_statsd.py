"""A StatsD server receives the metrics that the documentation lists, from tasks in each mode."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.link import Counts
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.result import WaitResult, WaitStats
from airflow_provider_arroyo.operators import stats
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.tasks.conftest import Arrange
from tests.tasks.harness import (
    DEFERRED,
    DEFERRED_LATE,
    FROM_TRIGGER,
    OPERATOR_MODES,
    RESCHEDULE,
    SENSOR_MODES,
    SYNC,
    FakeTaskInstance,
    context,
    defer,
    fire,
    rebuilt,
    run_task,
    sense,
    stop,
    submit,
)

from .server import StatsdServer

# Without it, Airflow sends nothing and only logs that.
if os.environ.get("ARROYO_PROVIDER_INSTALLED") is None:
    pytest.importorskip("statsd", reason="only with make: statsd is not installed")
else:
    import_module("statsd")

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def documented() -> dict[str, str]:
    """Return the metrics that the table lists, with their kinds."""
    text = TABLE.read_text()
    metrics = dict(re.findall(r"^\| `(arroyo\.[\w.<>]+)` \| (\w+) \|", text, re.MULTILINE))
    outcomes = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    kind = metrics.pop("arroyo.waits.<outcome>")
    return {**metrics, **{f"arroyo.waits.{outcome}": kind for outcome in outcomes}}


def _check_polls(counted: float, received: int, mode: str) -> None:
    """Check the polls against those that the sandbox received."""
    # When a wait in the triggerer ends, the last poll may not have arrived, or not have been counted yet.
    assert abs(counted - received) <= (0 if mode in (SYNC, RESCHEDULE) else 1)
    assert counted >= 2


def test_the_documentation_lists_every_metric_and_no_other(statsd: StatsdServer) -> None:
    everything = WaitStats(
        polls=3,
        retries=2,
        outages=1,
        restarts=1,
        running_seconds=1.5,
        checkpoint_seconds=2.5,
        stop_seconds=0.5,
    )
    job = Job.from_api({"id": "job_1", "state": "Running", "run_id": 1})
    waits = [
        WaitResult(outcome=outcome, job=job, restarts=9, stats=everything)
        for outcome in Outcome
        if outcome is not Outcome.WAITING
    ]
    counts = Counts(retries=1, duplicates_removed=1)
    stats.emit(waits, counts, operator="ArroyoStopPipelineOperator", connection="arroyo_default")
    sent = statsd.take()
    kinds = {one.name: {"c": "counter", "ms": "timer"}[one.kind] for one in sent}
    assert kinds == documented()
    assert {one.tags for one in sent} == {
        ("operator=ArroyoStopPipelineOperator", "connection=arroyo_default")
    }
    assert {one.value for one in sent if one.name == "arroyo.time_to_running"} == {1500.0}
    (retries,) = [one.value for one in sent if one.name == "arroyo.retries"]
    assert retries == 2 * len(waits) + 1
    # A rescheduled sensor also knows those of earlier pokes, which have sent them.
    assert [one.value for one in sent if one.name == "arroyo.restarts"] == [len(waits)]


def test_the_id_of_a_connection_is_converted_to_a_valid_tag(statsd: StatsdServer) -> None:
    for connection, tag in (
        ("team:arroyo", "team_arroyo"),
        ("a#b\\c(d)!ä", "a_b_c_d___"),
        ("a/b-c.d", "a/b-c.d"),
    ):
        stats.emit((), Counts(retries=1), operator="ArroyoPipelineSensor", connection=connection)
        assert [one.tags[1] for one in statsd.take()] == [f"connection={tag}"]


@pytest.mark.parametrize("mode", OPERATOR_MODES)
def test_the_metrics_of_a_submit_and_a_stop(sandbox: ArroyoSandbox, statsd: StatsdServer, mode: str) -> None:
    polls = sandbox.requests.count("GET", "*/jobs")
    submitted = run_task(submit(until_checkpoint=True, checkpoint_interval=1), mode)
    assert submitted.error is None
    sent = {one.name: one for one in statsd.take()}
    assert {
        "arroyo.polls",
        "arroyo.waits.reached",
        "arroyo.time_to_running",
        "arroyo.time_to_checkpoint",
    } == set(sent)
    assert sent["arroyo.polls"].tags == ("operator=ArroyoSubmitPipelineOperator", "connection=arroyo_default")
    _check_polls(sent["arroyo.polls"].value, sandbox.requests.count("GET", "*/jobs") - polls, mode)
    assert 0 < sent["arroyo.time_to_running"].value <= sent["arroyo.time_to_checkpoint"].value

    stopped = run_task(stop(submitted.result["pipeline_id"]), mode)
    assert stopped.error is None
    totals = statsd.totals()
    assert set(totals) == {"arroyo.polls", "arroyo.waits.reached", "arroyo.stop_duration"}
    assert totals["arroyo.waits.reached"] == 1


@pytest.mark.arroyo_versions("0.16")
@pytest.mark.parametrize("mode", [mode for mode in SENSOR_MODES if mode != FROM_TRIGGER])
def test_polls_count_once(sandbox: ArroyoSandbox, arrange: Arrange, statsd: StatsdServer, mode: str) -> None:
    pipeline_id = arrange.pipeline("Running")
    before = sandbox.requests.count("GET", "*/jobs")
    arrange.after_polls(sandbox.faults.stop, pipeline_id, polls=5)
    ended = run_task(sense(pipeline_id, "Stopped"), mode)
    assert ended.error is None
    totals = statsd.totals()
    assert set(totals) == {"arroyo.polls", "arroyo.waits.reached"}
    _check_polls(totals["arroyo.polls"], sandbox.requests.count("GET", "*/jobs") - before, mode)
    assert totals["arroyo.waits.reached"] == 1


@pytest.mark.arroyo_versions("0.16")
def test_a_task_that_ends_in_its_trigger_sends_nothing(arrange: Arrange, statsd: StatsdServer) -> None:
    ended = run_task(sense(arrange.pipeline("Running"), stable_for=1), FROM_TRIGGER)
    assert (ended.result["state"], ended.deferrals) == ("Running", 1)
    assert statsd.take() == []


@pytest.mark.arroyo_versions("0.16")
async def test_a_restarted_triggerer_counts_nothing_twice(
    sandbox: ArroyoSandbox, arrange: Arrange, statsd: StatsdServer
) -> None:
    def polls() -> int:
        return sandbox.requests.count("GET", "*/jobs")

    ti = FakeTaskInstance()
    make = sense(arrange.pipeline("Running"), "Stopped", deferrable=True, defer_after=0.3)
    before = polls()
    trigger = await asyncio.to_thread(defer, make(), ti)
    in_worker = polls() - before
    killed = asyncio.ensure_future(fire(rebuilt(trigger)))
    while polls() < before + in_worker + 3:  # noqa: ASYNC110  # the sandbox has no event for it
        await asyncio.sleep(0.01)
    killed.cancel()
    with suppress(asyncio.CancelledError):
        await killed
    assert statsd.take() == []
    sandbox.faults.stop("orders")
    restarted = polls()
    (event,) = await fire(rebuilt(trigger))
    await asyncio.to_thread(make().execute_complete, context(ti), event)
    totals = statsd.totals()
    assert set(totals) == {"arroyo.polls", "arroyo.waits.reached"}
    assert in_worker < totals["arroyo.polls"] <= in_worker + polls() - restarted


@pytest.mark.arroyo_versions("0.16")
@pytest.mark.parametrize("mode", [SYNC, DEFERRED, DEFERRED_LATE, RESCHEDULE])
def test_failed_polls_are_counted_as_retries(
    sandbox: ArroyoSandbox, arrange: Arrange, statsd: StatsdServer, mode: str
) -> None:
    pipeline_id = arrange.pipeline("Running")
    before = sandbox.requests.count("GET", "*/jobs")
    sandbox.faults.status(503, path="*/jobs", times=2, skip=1, method="GET")
    arrange.after_polls(sandbox.faults.stop, pipeline_id, polls=5)
    ended = run_task(sense(pipeline_id, "Stopped"), mode)
    assert ended.error is None, ended.error
    totals = statsd.totals()
    assert set(totals) == {"arroyo.polls", "arroyo.retries", "arroyo.waits.reached"}
    assert totals["arroyo.retries"] == 2
    _check_polls(totals["arroyo.polls"], sandbox.requests.count("GET", "*/jobs") - before, mode)
    assert totals["arroyo.waits.reached"] == 1


@pytest.mark.arroyo_versions("0.15")
def test_duplicates_are_counted(sandbox: ArroyoSandbox, client: ArroyoClient, statsd: StatsdServer) -> None:
    first = run_task(submit(), SYNC)
    kept = client.get_pipeline(first.result["pipeline_id"])
    client.create_pipeline(name=kept.name, query=kept.query)
    statsd.take()
    ended = run_task(submit(), SYNC, FakeTaskInstance(try_number=2))
    assert ended.result["action"] == "adopted"
    totals = statsd.totals()
    assert totals["arroyo.duplicates_removed"] == 1
    assert "arroyo.time_to_running" not in totals  # it was already running


@pytest.mark.arroyo_versions("0.16")
def test_failing_stats_do_not_fail_the_task(
    sandbox: ArroyoSandbox, statsd: StatsdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no route to the collector")

    monkeypatch.setattr(stats, "emit", broken)
    ended = run_task(submit(), SYNC)
    assert ended.result["state"] == "Running"
    assert not [text for text in ended.texts() if "collector" in text]
