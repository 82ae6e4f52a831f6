"""The outcome of an action in the second row of the audit log, on a sandbox whose clock the tests set."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoConnectionError, ArroyoError, Disposition
from airflow_provider_arroyo.plugin import airflow_db, audit
from airflow_provider_arroyo.plugin.actions import FOLLOW_SECONDS, Acted, Action, ActionOptions, request_for
from airflow_provider_arroyo.plugin.audit import Audit, follow
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sandbox.clock import ManualClock

from .support import WatchBench, acted, job

NAME = "pipeline-1"


@pytest.fixture(params=["0.16", "0.15"])
def bench(request: pytest.FixtureRequest) -> Iterator[WatchBench]:
    clock = ManualClock()
    with ArroyoSandbox(arroyo_version=request.param, pipelines=1, seed=1, clock=clock) as sandbox:
        clock.advance(30)
        yield WatchBench(sandbox)


async def act(bench: WatchBench, action: Action, **more: Any) -> Acted:
    """Do the action as the route does."""
    while not (bench.names() and bench.row(NAME).job):  # on 0.15, jobs are read one by one
        await bench.refresh()
    row = bench.row(NAME)
    found = Acted(
        action=action,
        options=ActionOptions(**more),
        connection_id="arroyo_tested",
        user_name="jane",
        facts=row.facts,
        before=row.job,
        at=bench.now,
        failure=None,
    )
    request = request_for(action, row.pipeline_id, found.options)
    await bench.watch.send(request)
    return found


async def ended(bench: WatchBench, what: Acted) -> dict[str, Any]:
    """Follow an action until it ends, and return the second row."""
    wait = what.wait()
    assert wait is not None

    async def sleep(seconds: float) -> None:
        bench.now += seconds
        bench.sandbox.advance(seconds)
        await bench.settle()

    result = await follow(lambda: bench.watch, wait, now=lambda: bench.now, sleep=sleep)
    assert not bench.watch.listeners
    return what.ended(result)


@pytest.mark.parametrize(
    "action, more, state",
    [("stop", {}, "Stopped"), ("restart", {}, "Running"), ("rescale", {"parallelism": 2}, "Running")],
)
async def test_the_second_row_has_the_outcome(
    bench: WatchBench, action: Action, more: dict[str, Any], state: str
) -> None:
    what = await act(bench, action, **more)
    row = await ended(bench, what)
    assert (row["outcome"], row["state_after"]) == ("reached", state)
    assert what.before is not None
    assert (row["run_after"] > what.before.run_id) is (state == "Running")
    assert (row["pipeline_name"], row["failure_reason"]) == (NAME, None)
    assert 0 < row["seconds"] < FOLLOW_SECONDS


async def test_the_second_row_has_the_reason_of_a_failure(bench: WatchBench) -> None:
    what = await act(bench, "stop")
    bench.sandbox.faults.fail(NAME, error="broker is away", after=0)
    row = await ended(bench, what)
    assert (row["outcome"], row["failure_reason"]) == ("failed", "broker is away")


async def test_the_second_row_reports_a_deletion(bench: WatchBench) -> None:
    what = await act(bench, "stop")
    bench.sandbox.faults.delete(what.facts.pipeline_id, after=0)
    row = await ended(bench, what)
    assert row["outcome"] == "deleted"
    assert NAME not in bench.names()


async def test_a_state_that_a_page_saw_is_not_missed(bench: WatchBench) -> None:
    what = await act(bench, "stop")

    async def sleep(seconds: float) -> None:
        # A page sees it stopped, and its user deletes it at once.
        bench.sandbox.advance(5)
        await bench.refresh()
        bench.sandbox.faults.delete(what.facts.pipeline_id, after=0)
        bench.now += seconds

    wait = what.wait()
    assert wait is not None
    result = await follow(lambda: bench.watch, wait, now=lambda: bench.now, sleep=sleep)
    assert (what.ended(result)["outcome"], what.ended(result)["state_after"]) == ("reached", "Stopped")


async def test_an_action_without_effect_times_out(bench: WatchBench) -> None:
    what = await act(bench, "restart")
    bench.sandbox.faults.status(503, path="*/jobs", times=None)
    row = await ended(bench, what)
    assert (row["outcome"], row["state_after"]) == ("timed_out", None)
    assert row["seconds"] >= FOLLOW_SECONDS


NEVER_SENT = ArroyoConnectionError("refused", disposition=Disposition.RETRY)
LOST = ArroyoConnectionError("cut short")
REFUSED = ArroyoApiError("no", status=409)


@pytest.mark.parametrize(
    "action, state, failure, outcome, is_followed",
    [
        ("stop", "Running", None, "requested", True),
        ("stop", "Running", NEVER_SENT, "not_done", False),
        ("stop", "Running", REFUSED, "not_done", False),
        ("restart", "Running", LOST, "unknown", True),
        ("rescale", "Running", None, "requested", True),
        ("rescale", "Stopped", None, "reached", False),
        ("rescale", "Stopped", LOST, "unknown", False),
        ("resume", "Stopped", None, "requested", True),
        ("delete", "Stopped", None, "reached", False),
        ("delete", "Stopped", LOST, "unknown", False),
    ],
)
def test_the_first_row_has_what_the_response_proves(
    action: Action, state: str, failure: ArroyoError | None, outcome: str, is_followed: bool
) -> None:
    what = acted(action, job(1, state, 3), failure, parallelism=2)
    row = what.requested()
    assert (row["outcome"], row["state_before"], row["run_before"]) == (outcome, state, 3)
    assert (what.wait() is not None) is is_followed


@pytest.mark.parametrize(
    "action, failure, seen, outcome",
    [
        ("restart", None, [job(1, "Failing"), job(1, "Running", 2)], "reached"),
        ("restart", None, [job(1, "Finishing"), job(1, "Finishing")], "no_checkpoint"),
        ("stop", None, [job(1, "Finishing", running_desired=False)] * 2, "no_checkpoint"),
        ("stop", None, [job(1), job(1)], "withdrawn"),
        ("stop", LOST, [job(1), job(1)], "waiting"),
    ],
)
def test_other_changes_before_the_effect_decide_the_outcome(
    action: Action, failure: ArroyoError | None, seen: list[Job], outcome: str
) -> None:
    wait = acted(action, job(1), failure).wait()
    assert wait is not None
    outcomes = [wait.observe(one, 6.0 * at).outcome for at, one in enumerate(seen, start=1)]
    assert outcomes == ["waiting", outcome]


async def test_a_resume_before_the_stop_takes_effect_withdraws_it(bench: WatchBench) -> None:
    while not (bench.names() and bench.row(NAME).job):
        await bench.refresh()
    bench.sandbox.faults.show_state(bench.row(NAME).pipeline_id, "Running", seconds=60)
    await act(bench, "stop")
    await bench.refresh()
    what = await act(bench, "resume")
    assert what.before is not None
    assert (what.before.state, what.before.running_desired) == ("Running", False)
    row = await ended(bench, what)
    assert (row["outcome"], row["run_after"]) == ("reached", what.before.run_id)


async def test_a_rescale_to_the_current_parallelism_is_done_at_once(bench: WatchBench) -> None:
    what = await act(bench, "rescale", parallelism=1)
    assert what.facts.parallelism == 1
    assert (what.outcome, what.wait()) == ("reached", None)


async def test_no_listener_is_left_on_a_replaced_watch(bench: WatchBench) -> None:
    what = await act(bench, "stop")
    wait, watches = what.wait(), [bench.watch, WatchBench(bench.sandbox).watch]
    assert wait is not None
    used = iter([watches[0], *[watches[1]] * 1000])

    async def sleep(seconds: float) -> None:
        bench.now += seconds
        bench.sandbox.advance(seconds)
        assert sum(len(one.listeners) for one in watches) == 1

    await follow(lambda: next(used), wait, now=lambda: bench.now, sleep=sleep)
    assert [len(one.listeners) for one in watches] == [0, 0]


async def test_both_rows_name_the_user_and_the_number_followed_is_limited(
    bench: WatchBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[tuple[str, str]] = []
    monkeypatch.setattr(
        airflow_db, "write_audit_log", lambda event, **what: rows.append((event, what["user_name"]))
    )
    monkeypatch.setattr(audit, "MAX_FOLLOWED", 1)
    monkeypatch.setattr(audit, "LIST_SECONDS", 0.0)
    await bench.refresh()
    book = Audit(lambda _connection_id: bench.watch)
    old = acted("stop", job(1), at=0.0)  # long ago
    await book.record(old)
    await asyncio.wait_for(asyncio.gather(*book._followed), timeout=30)
    monkeypatch.setattr(audit, "MAX_FOLLOWED", 0)
    await book.record(old)
    assert rows == [("arroyo.stop", "jane"), ("arroyo.stop.ended", "jane"), ("arroyo.stop", "jane")]
    assert not book._followed
