"""Which changes of a pipeline are events, in whole histories, and what each event contains."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import FailureReason, Job
from airflow_provider_arroyo.exceptions import ArroyoAuthError
from airflow_provider_arroyo.monitoring.event_rule import EventRule
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.watch import Event, EventMemory, EventWatch, event_payload
from tests.monitoring.support import GONE, ORDERS, REFUSED, T0, api_error, job, logged

FAILED = EventRule(states=frozenset({"Failed"}))
ENDS = EventRule(states=frozenset({"Failed", "Stopped", "Finished"}))
FLAPPING = EventRule(states=frozenset(), max_restarts=2, restart_window=timedelta(seconds=60))

Seen = list[tuple[Any, ...]]
"""Polls of a job, a second apart: state, run, and the job's id if it is another job."""


def events_of(rule: EventRule, seen: Seen, *, seconds: float = 1.0) -> list[str]:
    """Return the ids of a history's events; ``None`` in the history is a restart of the triggerer."""
    memory, ids = EventMemory(), []
    for number, one in enumerate(seen):
        if one == (None,):
            memory = EventMemory.from_dict(json.loads(json.dumps(memory.to_dict())))
            continue
        now = T0 + number * seconds
        a_job = job(*one[:2], job_id=one[2] if len(one) > 2 else "job_1")
        memory, events = memory.take(rule, a_job, now)
        ids += [event_payload(event, ORDERS, a_job, now=now)["event_id"] for event in events]
    return ids


@pytest.mark.parametrize(
    "rule, seen, expected",
    [
        (FAILED, [("Running", 1), ("Failing", 1), ("Failed", 1), ("Failed", 1)], ["job_1/1/Failed"]),
        # It failed before the watch began.
        (FAILED, [("Failed", 4)], ["job_1/4/Failed"]),
        (FAILED, [("Failed", 4), (None,), ("Failed", 4)], ["job_1/4/Failed"]),
        # It failed twice while it was not watched.
        (FAILED, [("Failed", 4), (None,), ("Failed", 5)], ["job_1/4/Failed", "job_1/5/Failed"]),
        # A run that fails before it is scheduled keeps its number.
        (FAILED, [("Failed", 1), ("Compiling", 1), ("Failed", 1)], ["job_1/1/Failed"] * 2),
        (FAILED, [("Running", 1), ("Stopped", 1), ("Running", 2), ("Finished", 2)], []),
        (ENDS, [("Stopped", 1), ("Running", 2), ("Finished", 2)], ["job_1/1/Stopped", "job_1/2/Finished"]),
        # A restart without state replaces the job.
        (FAILED, [("Failed", 1), ("Failed", 1, "job_2")], ["job_1/1/Failed", "job_2/1/Failed"]),
        (ENDS, [("Rebooting", 1)], []),
        (FLAPPING, [("Running", run) for run in range(1, 4)], []),
        (FLAPPING, [("Running", run) for run in range(1, 5)], ["job_1/4/Restarts"]),
        # Runs between two polls count. After the event, the count starts again from zero.
        (FLAPPING, [("Running", 1), ("Running", 4), ("Running", 6)], ["job_1/4/Restarts"]),
        # Its id is that of the first run beyond the limit, however it is polled.
        (FLAPPING, [("Running", 1), ("Running", 6)], ["job_1/4/Restarts"]),
        (FLAPPING, [("Running", 1), ("Running", 9)], ["job_1/7/Restarts"]),
        (
            FLAPPING,
            [("Running", 1), ("Running", 4), ("Running", 7)],
            ["job_1/4/Restarts", "job_1/7/Restarts"],
        ),
        (FLAPPING, [("Running", 1), ("Running", 3), (None,), ("Running", 4)], ["job_1/4/Restarts"]),
        # Neither the runs before the watch nor the first run are counted.
        (FLAPPING, [("Running", 9), ("Running", 10)], []),
        (FLAPPING, [("Created", 0), ("Running", 1), ("Running", 3)], []),
        # A server whose run numbers skip.
        (FLAPPING, [("Running", 1), ("Running", 10**15)], [f"job_1/{10**15 - 1}/Restarts"]),
        # On real servers, the run number of a request rises only after the state has changed once more.
        (FLAPPING, [(state, run) for run in range(1, 9) for state in ("Restarting", "Scheduling")], []),
        # A requested run does not count as a restart.
        *(
            (FLAPPING, [(state, run) for run in range(1, 9) for state in ("Running", asked)], [])
            for asked in ("Restarting", "Rescaling", "Stopped", "Failed")
        ),
        (FLAPPING, [("Running", 1), ("Running", 3), ("Running", 9, "job_2")], []),
        (
            EventRule(states=frozenset({"Failed"}), max_restarts=0),
            [("Running", 1), ("Failed", 2)],
            ["job_1/2/Restarts", "job_1/2/Failed"],
        ),
    ],
)
def test_a_history_has_these_events(rule: EventRule, seen: Seen, expected: list[str]) -> None:
    assert events_of(rule, seen) == expected


def test_only_restarts_within_the_window_count() -> None:
    seen: Seen = [("Running", run) for run in range(1, 9)]
    assert events_of(FLAPPING, seen, seconds=31) == []
    assert events_of(FLAPPING, seen, seconds=29) == ["job_1/4/Restarts", "job_1/7/Restarts"]


def test_a_restarted_triggerer_reports_the_same_run_again() -> None:
    """Its stored progress is some seconds old, and Airflow already has the event that followed."""
    kept, reported = EventMemory(), []
    for run in (1, 2, 3):
        kept, _ = kept.take(FLAPPING, job("Running", run), T0 + run)
    for shown in ([4, 5, 6, 7], [6, 7], [7]):
        memory = EventMemory.from_dict(json.loads(json.dumps(replace(kept, kept_at=T0 + 3).to_dict())))
        ids = []
        for number, run in enumerate(shown):
            memory, events = memory.take(FLAPPING, job("Running", run), T0 + 5 + number)
            ids += [event_payload(event, ORDERS, job("Running", run), now=T0)["event_id"] for event in events]
        reported.append(ids)
    assert reported == [["job_1/4/Restarts", "job_1/7/Restarts"]] * 2 + [["job_1/7/Restarts"]]


def test_restarts_while_no_triggerer_ran_are_spread_over_that_time() -> None:
    seen, _ = EventMemory().take(FLAPPING, job("Running", 1), T0)
    kept = replace(seen, kept_at=T0)
    for after, count in ((30.0, 1), (3600.0, 0)):
        memory, events = kept.take(FLAPPING, job("Running", 5), T0 + after)
        assert len(events) == count
        assert memory.kept_at is None
    # So are restarts during an outage of the API.
    assert seen.take(FLAPPING, job("Running", 5), T0 + 3600, unseen_since=T0)[1] == ()
    assert len(seen.take(FLAPPING, job("Running", 5), T0 + 3600)[1]) == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"restarted_at": [1e999]},
        {"kept_at": float("nan")},
        {"run": 5},
        {"run": {"job_id": "j", "run_id": "x"}},
    ],
)
def test_damaged_progress_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="field "):
        EventMemory.from_dict({**EventMemory().to_dict(), **damage})


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"states": frozenset({"Running"})}, "states: 'Running' is not a terminal state"),
        ({"states": frozenset()}, "states: needs at least one"),
        ({"states": frozenset(), "max_checkpoint_age": timedelta(0)}, "max_checkpoint_age must be"),
    ],
)
def test_an_invalid_rule_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EventRule(**arguments)


def test_an_event_contains_the_reason_without_secrets() -> None:
    said = "cannot reach kafka://user:hunter2@broker:9092"
    failure = FailureReason.from_api({"error": said, "domain": "external"})
    failed = Job(
        id="job_1", state="Failed", run_id=3, failure=failure, start_time_micros=1_795_572_000_000_000
    )
    payload = event_payload(Event("Failed", "3"), ORDERS, failed, now=T0)
    assert payload == {
        "event_id": "job_1/3/Failed",
        "event": "Failed",
        "pipeline_id": "pl_1",
        "pipeline_name": "orders_per_minute",
        "job_id": "job_1",
        "state": "Failed",
        "run_id": 3,
        "console_url": ORDERS.console_url,
        "failure_reason": "cannot reach kafka://***@broker:9092",
        "failure_domain": "external",
        "seen_at": "2026-11-25T02:00:00.000+00:00",
        "started_at": "2026-11-25T02:00:00.000+00:00",
        "finished_at": None,
    }
    memory, _ = EventMemory().take(FLAPPING, job("Running", 1), T0)
    _, (event,) = memory.take(FLAPPING, job("Running", 4), T0)
    restarts = event_payload(event, ORDERS, job("Running", 4), now=T0)
    assert restarts["event_id"] == "job_1/4/Restarts"
    assert (restarts["restarts"], restarts["restart_window_seconds"], restarts["state"]) == (
        3,
        60.0,
        "Running",
    )


# -- the watch ----------------------------------------------------------------------------------------------


def test_an_invalid_time_does_not_lose_an_event() -> None:
    for micros in (10**30, -(10**30), 10**18):
        failed = Job(
            id="job_1", state="Failed", run_id=1, start_time_micros=micros, finish_time_micros=micros
        )
        payload = event_payload(Event("Failed", "1"), ORDERS, failed, now=T0)
        assert (payload["event_id"], payload["started_at"]) == ("job_1/1/Failed", None)


def watch(pipeline: PipelineRef = ORDERS, rule: EventRule = FAILED) -> EventWatch:
    return EventWatch(pipeline, rule, now=T0)


def ids(one: EventWatch) -> list[str]:
    return [payload["event_id"] for payload in one.take_events()]


def test_a_watch_continues_after_each_event() -> None:
    one = watch()
    assert not one.observe(job("Running"), T0 + 1).is_over
    assert one.observe(job("Failed"), T0 + 2).is_over
    assert one.has_events
    assert ids(one) == ["job_1/1/Failed"]
    assert not one.observe(job("Failed"), T0 + 3).is_over
    # An old response, as from a lagging replica.
    assert not one.observe(job("Running", 2), T0 + 4).is_over
    assert not one.observe(job("Failed", 1), T0 + 5).is_over
    assert one.observe(job("Failed", 2), T0 + 6).outcome is Outcome.REACHED
    assert ids(one) == ["job_1/2/Failed"]


def test_an_outage_of_days_ends_no_watch_and_is_one_warning() -> None:
    one = watch()
    for number in range(3):
        one.observe_error(REFUSED, T0 + number)
    one.messages()
    for number in range(1000):
        assert not one.observe_error(REFUSED, T0 + 3 + number * 600, sent_at=T0).is_over
        assert not one.tick(T0 + 4 + number * 600).is_over
    warnings = [message.text for message in one.messages() if message.level >= 30]
    assert len(warnings) == 1
    assert warnings[0].startswith("Arroyo unreachable for ")
    assert one.observe(job("Failed"), T0 + 600_000).is_over
    assert ids(one) == ["job_1/1/Failed"]
    assert logged(one)[0].startswith("Arroyo reachable again")


def test_a_refused_key_ends_the_watch_with_its_error() -> None:
    one = watch()
    refused = api_error(401, ArroyoAuthError)
    assert one.observe_error(refused, T0 + 1).error is refused
    assert ids(one) == []
    assert not one.observe(job("Running"), T0 + 2).is_over


def test_a_deleted_pipeline_may_be_created_again_with_its_id() -> None:
    one = watch()
    one.observe(job("Failed", 3), T0 + 1)
    assert ids(one) == ["job_1/3/Failed"]
    for number in range(3):
        assert not one.observe_error(GONE, T0 + 2 + number).is_over
    assert [text for text in logged(one) if "No such" in text] == [
        "No such pipeline: orders_per_minute; watching for Failed"
    ]
    assert not one.observe(job("Running", 1, job_id="job_2"), T0 + 5).is_over
    one.observe(job("Failed", 1, job_id="job_2"), T0 + 6)
    assert ids(one) == ["job_2/1/Failed"]


def test_a_name_is_resolved_again_once_its_pipeline_is_deleted_or_down() -> None:
    one = watch(PipelineRef(pipeline_id="", name="orders_per_minute"))
    one.found(ORDERS, T0)
    assert f"Watching for Failed: orders_per_minute, id pl_1, {ORDERS.console_url}" in logged(one)
    shown = []
    for number, state in enumerate(("Running", "Stopped")):
        one.observe(job(state), T0 + number)
        shown.append(one.may_be_replaced)
    assert shown == [False, True]
    assert not watch().may_be_replaced
    assert one.observe_error(GONE, T0 + 3).outcome is Outcome.DELETED
    one.find_again()
    assert one.take_events() == []
    assert one.plan.pipeline == PipelineRef(pipeline_id="", name="orders_per_minute")
    assert not one.observe_missing(T0 + 4).is_over
    one.found(PipelineRef(pipeline_id="pl_2", name="orders_per_minute"), T0 + 5)
    one.observe(job("Failed", 1, job_id="job_9"), T0 + 5)
    assert [payload["pipeline_id"] for payload in one.take_events()] == ["pl_2"]
